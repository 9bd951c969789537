"""Archives of several files, written as ZIP while they are sent: no temporary file, little memory.

A browser cannot send an API key with a plain download. So a client with a key asks for an archive,
and gets an address that nobody can guess and that is valid for a while.
"""

import os
import re
import secrets
import threading
import time
import unicodedata
import zipfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import BinaryIO

from cachetools import TTLCache

from api.http.files import ItemFiles
from retrieval.catalog import Item
from retrieval.errors import NotFoundError
from retrieval.media import UNTRUSTED_MTIME

TICKET_S = 600
"""Seconds for which the address of an archive is valid."""

_MOST_TICKETS = 1000
_CHUNK = 256 * 1024
_LONGEST_NAME = 150
_LEFT_OUT = "Not in this archive.txt"
_FORBIDDEN = frozenset('<>:"/\\|?*')
"""In names of files on some systems."""
_RESERVED = frozenset(
    ["con", "prn", "aux", "nul"]
    + [f"{device}{number}" for device in ("com", "lpt") for number in range(10)]
)
"""Names of devices of Windows, whatever their ending."""
_FIRST_YEAR, _LAST_YEAR = 1980, 2107
"""What ZIP can say of dates."""


@dataclass(frozen=True)
class Ticket:
    """What may be downloaded at an address. name: of the archive. item_ids: one a file."""

    name: str
    item_ids: Sequence[int]


class Tickets:
    """Addresses of archives that may be downloaded, for a while; the oldest of many are dropped."""

    def __init__(self, seconds: float = TICKET_S) -> None:
        self._tickets: TTLCache[str, Ticket] = TTLCache(_MOST_TICKETS, seconds)
        self._lock = threading.Lock()  # routes run on several threads, which no cache allows

    def add(self, ticket: Ticket) -> str:
        """Return a token that nobody can guess."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._tickets[token] = ticket
        return token

    def get(self, token: str) -> Ticket:
        """Return what a token is for; raises NotFoundError for one that is unknown or too old."""
        with self._lock:
            found = self._tickets.get(token)
        if found is None:
            raise NotFoundError("This address of an archive is not valid any more. Ask again.")
        return found


def one_item_a_file(items: Sequence[Item]) -> list[Item]:
    """Keep the first item of each file."""
    first: dict[str, Item] = {}
    for item in items:
        first.setdefault(item.path, item)
    return list(first.values())


def zip_of(
    items: Sequence[Item], files: ItemFiles, missing: Sequence[int] = ()
) -> Generator[bytes, None, None]:
    """Write the files of items as a ZIP archive, part by part.

    Photos and videos are compressed already, so nothing is compressed again. What cannot be read
    is listed in a text in the archive.

    Args:
        items: One of each file.
        files: Opens the files.
        missing: Ids of items that are not in the library any more.
    """
    names = Names()
    left_out = [f"item {item_id}: it is not in the library any more" for item_id in missing]
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for item in items:
            name = names.unique(item.path)
            try:
                file = files.open(item)
            except NotFoundError as error:
                left_out.append(f"{name}: {error}")
                continue
            with closing(file):
                copy = _Copy(file, item.size)
                yield from _entry(archive, sink, _info(name, item), copy)
            if copy.problem:
                left_out.append(f"{name}: {copy.problem}")
        if left_out:
            info = zipfile.ZipInfo(names.unique(_LEFT_OUT), time.localtime()[:6])
            info.external_attr = 0o644 << 16
            archive.writestr(info, "\n".join(left_out) + "\n")
    yield sink.take()


def _entry(
    archive: zipfile.ZipFile, sink: "_Sink", info: zipfile.ZipInfo, copy: "_Copy"
) -> Iterator[bytes]:
    with archive.open(info, "w", force_zip64=info.file_size >= zipfile.ZIP64_LIMIT) as entry:
        for chunk in copy.chunks():
            entry.write(chunk)
            yield sink.take()


@dataclass
class _Copy:
    """The content of a file as far as it can be read. problem: why it ends too early, if it does.

    A part of an entry is sent already when its file turns out to be shorter, so it cannot be taken
    back.
    """

    file: BinaryIO
    size: int
    problem: str = field(default="", init=False)

    def chunks(self) -> Iterator[bytes]:
        left = self.size
        while left:
            try:
                chunk = self.file.read(min(_CHUNK, left))
            except OSError as error:
                self.problem = f"it is incomplete, since it could not be read ({error.strerror})"
                return
            if not chunk:
                self.problem = "it is incomplete, since it was changed while it was read"
                return
            left -= len(chunk)
            yield chunk


class _Sink:
    """Collects what is written until it is taken; cannot be rewound, as a connection cannot."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: what is written is there."""

    def close(self) -> None:
        """Do nothing: what was written last is still to be taken."""

    def take(self) -> bytes:
        taken, self._parts = b"".join(self._parts), []
        return taken


class Names:
    """Names of files in an archive: safe on every system, each once, whatever case is ignored."""

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._last: dict[str, int] = {}

    def unique(self, path: str) -> str:
        """Return the name of a file for the archive, numbered if it is taken."""
        name = safe_name(path)
        stem, ending = os.path.splitext(name)  # noqa: PTH122 - also of a name that begins with a dot
        wanted = _same(name)
        # Thousands of files may have one name: their numbers are not tried from 1 on each time.
        number = self._last.get(wanted, 1)
        while _same(name) in self._used:
            number += 1
            name = f"{stem} ({number}){ending}"
        self._last[wanted] = number
        self._used.add(_same(name))
        return name


def _same(name: str) -> str:
    """Fold a name as file systems do that ignore case and the form of accents."""
    return unicodedata.normalize("NFD", name).casefold()


def safe_name(path: str) -> str:
    """Return the last part of a path as a file name that every system accepts."""
    # Surrogates, which no encoding has, stand for bytes that are not UTF-8.
    name = re.sub("[\ud800-\udfff]", "\ufffd", os.path.basename(path))  # noqa: PTH119
    # Control characters, and marks of direction, which would hide the ending.
    safe = "".join(
        "_" if c in _FORBIDDEN or unicodedata.category(c) in {"Cc", "Cf"} else c for c in name
    ).strip(" ")
    stem, ending = os.path.splitext(safe.rstrip(". ") or "_")  # noqa: PTH122
    if stem.partition(".")[0].strip().casefold() in _RESERVED:
        stem = f"_{stem}"
    return stem[: _LONGEST_NAME - len(ending)] + ending[:_LONGEST_NAME]


def _info(name: str, item: Item) -> zipfile.ZipInfo:
    seconds = 0 if item.mtime_ns == UNTRUSTED_MTIME else item.mtime_ns / 1e9
    try:
        date = time.localtime(seconds)[:6]
    except (OverflowError, OSError, ValueError):
        date = time.localtime(0)[:6]
    if not _FIRST_YEAR <= date[0] <= _LAST_YEAR:
        date = (_FIRST_YEAR, 1, 1, 0, 0, 0)
    info = zipfile.ZipInfo(name, date)
    info.file_size = item.size
    info.external_attr = 0o644 << 16
    return info
