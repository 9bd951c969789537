"""Store uploaded files in a folder, which is a source of the library."""

import contextlib
import errno
import os
import secrets
import shutil
import time
import unicodedata
from collections.abc import Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from indexer.decode import reader_of
from indexer.decoder_pool import DecoderPool
from indexer.media.base import ReadOptions
from indexer.scan import LIBRARY_FILES
from retrieval.errors import LibraryError, UnreadableFileError, UsageError
from retrieval.files import flush_names
from retrieval.media import MediaKind
from retrieval.media.images import read_picture
from retrieval.media.registry import Format, format_of, format_of_content, read_head

_CHECKS_AT_ONCE = 2
_CHECK_LIMIT_S = 30.0
_MOST_OF_ONE_NAME = 10_000
_PREFIX = ".upload-"
_SUFFIX = ".part"
"""A hidden name without an ending that is indexed."""
_ABANDONED_AFTER_S = 3600

_LEAST_SIDE = 512
_LONGEST_STEM_BYTES = 150
_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in "0123456789")}
)
"""Names of devices on Windows, with any ending."""
_FORBIDDEN = frozenset('<>:"|?*')
_JOINERS = frozenset("\u200c\u200d")
"""Format characters that scripts such as Persian and Hindi need."""


class StorageFullError(LibraryError):
    """No space left on the disk for an upload."""


class UnacceptableFileError(UnreadableFileError):
    """A file format that is not accepted; the message is the reason."""


@dataclass(frozen=True)
class Received:
    """A file as a client sent it, with the name that it gave."""

    name: str
    content: BinaryIO


class UploadFolder:
    """Stores uploads: all files of a request, or none. May be used from several threads.

    Each is written to a hidden name, checked by its content in a process of its own, flushed to
    the disk and only then named. max_pixels: of the largest picture.
    """

    def __init__(self, path: Path, max_pixels: int) -> None:
        self.path = path
        self._max_pixels = max_pixels
        self._checkers = DecoderPool(_CHECKS_AT_ONCE, limit_s=_CHECK_LIMIT_S)

    def add(self, files: Sequence[Received]) -> list[Path]:
        """Store files, and return their paths in order.

        Raises UnacceptableFileError for a kind of file that is not taken and UnreadableFileError
        for a broken or too large one, which name it; StorageFullError, and LibraryError where files
        cannot be written.
        """
        written: list[Path] = []
        named: list[Path] = []
        try:
            for file in files:
                temporary = self._write(file)
                written.append(temporary)
            names = [
                self._check(path, file.name) for path, file in zip(written, files, strict=True)
            ]
            for temporary, name in zip(written, names, strict=True):
                path = self._name(temporary, name)
                named.append(path)
            with contextlib.suppress(OSError):  # some network drives cannot
                flush_names(self.path)
        except BaseException as error:
            self.discard([*written, *named])
            if not isinstance(error, OSError):
                raise
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise StorageFullError("No space left for the files; none was stored.") from error
            raise LibraryError(f"The files cannot be written: {error.strerror}.") from error
        return named

    def discard(self, paths: Sequence[str | Path]) -> None:
        """Delete files of the folder that exist."""
        for path in paths:
            Path(path).unlink(missing_ok=True)

    def holds(self, path: str) -> bool:
        """Return whether a file lies in the folder after links are resolved."""
        folder = os.path.realpath(os.path.dirname(path))  # noqa: PTH120 - need not be valid text
        return Path(folder) == self.path or self.path in Path(folder).parents

    def close(self) -> None:
        """End the processes that check files."""
        self._checkers.close()

    def _write(self, file: Received) -> Path:
        temporary = self.path / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
        try:
            with temporary.open("xb") as target:
                shutil.copyfileobj(file.content, target, 1 << 20)
                target.flush()
                os.fsync(target.fileno())
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return temporary

    def _check(self, path: Path, name: str) -> str:
        try:
            return self._checkers.submit(check, os.fspath(path), name, self._max_pixels).result()
        except UnacceptableFileError as error:
            raise UnacceptableFileError(f"{name!r} {error}. No file was stored.") from error
        except UnreadableFileError as error:
            raise UnreadableFileError(f"{name!r}: {error}. No file was stored.") from error
        except CancelledError:
            raise LibraryError("The service is shutting down; no file was stored.") from None

    def _name(self, temporary: Path, name: str) -> Path:
        """Rename a file, with the first free number if the name exists; never overwrites."""
        stem, ending = os.path.splitext(name)  # noqa: PTH122 - a name, not a path
        for number in range(1, _MOST_OF_ONE_NAME):
            path = self.path / (name if number == 1 else f"{stem}-{number}{ending}")
            try:
                os.link(temporary, path)
            except FileExistsError:
                continue
            except OSError:  # FAT and some network drives know no links
                try:
                    path.open("xb").close()
                except FileExistsError:
                    continue
                try:
                    return temporary.replace(path)
                except OSError:
                    path.unlink()
                    raise
            temporary.unlink()
            return path
        raise UsageError(f"There are {_MOST_OF_ONE_NAME:,} files named like {name} already.")


def open_upload_folder(path: Path, library: Path, max_pixels: int) -> UploadFolder:
    """Make or take a folder for uploads; what an earlier service left half written is deleted.

    Raises UsageError for a folder that is, holds or lies in a library, or cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        folder = path.resolve(strict=True)
        probe = folder / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
        probe.touch()
        probe.unlink()
        for left in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
            if time.time() - left.lstat().st_mtime > _ABANDONED_AFTER_S:
                left.unlink()
    except OSError as error:
        raise UsageError(f"Uploads cannot be stored in {path}: {error.strerror}.") from error
    places = [folder, *folder.parents]
    is_in_library = any(all((p / name).exists() for name in LIBRARY_FILES) for p in places)
    if is_in_library or folder in library.resolve().parents:
        raise UsageError(
            f"Uploads cannot be stored in {path}, which holds or lies in a library. Choose a "
            "folder of their own."
        )
    return UploadFolder(folder, max_pixels)


def check(path: str, name: str, max_pixels: int) -> str:
    """Decode a file that a client called `name`, and give the safe name under which it is kept.

    It ends as its content is. Runs in a process of its own (`indexer.decoder_pool`), since it
    decodes what strangers send.

    Raises UnacceptableFileError for a format that is not taken, UnreadableFileError for what is
    broken or too large, OSError when the file cannot be opened.
    """
    asked = safe_name(name)
    with Path(path).open("rb") as file:
        found = _format_of(read_head(file), asked)
        stem, ending = _split(asked)
        if not _may_end(found, ending):
            asked = f"{stem}{found.endings[0]}"
        if found.kind is MediaKind.IMAGE:
            # By the name that it will have: camera RAW files are detected by it.
            read_picture(file, name=asked, least_side=_LEAST_SIDE, max_pixels=max_pixels)
    if found.kind is not MediaKind.IMAGE:
        reader_of(found)(path, 0, ReadOptions(_LEAST_SIDE, max_pixels))
    return asked


def safe_name(name: str) -> str:
    """Make of any text the name of a file: in any script, but of one part, and harmless anywhere.

    Without folders, control and direction characters, a leading dot, what Windows forbids or
    reserves; at most some 150 bytes before its ending; never empty.
    """
    last = unicodedata.normalize("NFC", name).replace("\\", "/").rpartition("/")[2]
    kept = "".join(
        c for c in last if c in _JOINERS or unicodedata.category(c)[0] not in "CZ" or c == " "
    )
    kept = "".join("_" if c in _FORBIDDEN else c for c in kept).strip(" .")
    stem, ending = _split(kept)
    stem = stem.encode()[:_LONGEST_STEM_BYTES].decode(errors="ignore").strip(" .")
    if stem.partition(".")[0].strip().lower() in _RESERVED:
        stem = f"_{stem}"
    return f"{stem or 'upload'}{ending}"


def _format_of(head: bytes, name: str) -> Format:
    """Detect the format; raises UnreadableFileError for one that is not accepted."""
    if not head:
        raise UnreadableFileError("the file is empty")
    found = format_of_content(head, name)
    if found is None:
        raise UnacceptableFileError("is of no format that is taken, or not what its name says")
    if found.no_upload is not None:
        raise UnacceptableFileError(f"is {found.name}, which {found.no_upload}")
    return found


def _may_end(found: Format, ending: str) -> bool:
    """Return whether an ending suits a format: its own, or one that the same package reads.

    Videos are detected by their content whatever their ending, and so are HEIC and HEIF.
    """
    named = format_of(ending and f"file{ending}")
    return named is found or (
        named is not None and found.extra is not None and named.extra == found.extra
    )


def _split(name: str) -> tuple[str, str]:
    """Split off the ending; one that is not of a known format belongs to the name."""
    stem, ending = os.path.splitext(name)  # noqa: PTH122 - a name, not a path
    return (stem, ending) if format_of(name) is not None else (name, "")
