"""Shards: tar files whose members are objects, as WebDataset has them, here or on a server.

The members of a shard are listed once and remembered in the user's cache, under the state of the
shard, so that one that has not changed is not read again.
"""

import errno
import json
import os
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import xxhash

from retrieval.errors import UnreadableFileError
from retrieval.files import user_cache_directory, write_atomically
from retrieval.objects.base import UNKNOWN_TIME, FileStatus, Listed
from retrieval.objects.fetched import FetchedObject, Fetcher
from retrieval.objects.paths import is_uri, is_web
from retrieval.objects.remote import remote_of

_MOST_MEMBERS = 5_000_000
_MOST_SEEN = 64
_CLOCK_STEP_NS = 2_000_000_000
"""As in `indexer.decode`: what is younger may change without its time showing it."""
_CHUNK = 1 << 20
_MOST_AT_ONCE = 64 << 20
"""Bytes of a member that a server is asked for at a time."""
_LONGEST_HEADER = 1 << 20
"""Longer ones, which tar allows, would be read into memory whatever they claim to be."""


class Member(NamedTuple):
    """A regular file in a shard: where its bytes are, and its time, seconds since 1970."""

    offset: int
    size: int
    mtime: int


class Shard:
    """One shard, as it is now."""

    def __init__(self, path: str, status: FileStatus | None = None) -> None:
        self.path = path
        self.status = _status_of_shard(path) if status is None else status

    @property
    def is_lasting(self) -> bool:
        """Return whether a change of it is sure to show in its state."""
        if self.status.etag is not None:
            return True
        age = abs(time.time_ns() - self.status.st_mtime_ns)
        return self.status.st_mtime_ns != UNKNOWN_TIME and age >= _CLOCK_STEP_NS

    def members(self) -> Mapping[str, Member]:
        """List its members by name, of equal names the last; raises OSError for a damaged one."""
        if not self.is_lasting:
            return _listed(self.path, self.status.st_size)
        return _members(self.path, self.status)

    def list(self, folder: str) -> Iterator[Listed]:
        """List all members, wherever they lie in it; `folder` is the shard. As `Source`."""
        for name, member in self.members().items():
            yield Listed(f"{folder}/{name}", status=self._status(member))

    def stat(self, path: str) -> FileStatus:
        """Look at a member by its path; as `Source`."""
        return self._status(self._member(path))

    def open(self, path: str) -> BinaryIO:
        """Open a member by its path; as `Source`."""
        return self.fetch(path).open()

    def fetch(self, path: str) -> FetchedObject:
        """Read a member whole."""
        member = self._member(path)
        fetcher = Fetcher()
        if not is_uri(self.path):
            with open(self.path, "rb") as file:  # noqa: PTH123 - names need not be valid text
                file.seek(member.offset)
                left = member.size
                while left and (part := file.read(min(left, _CHUNK))):
                    fetcher.write(part)
                    left -= len(part)
        else:
            for part in self._remote_parts(member):
                fetcher.write(part)
        done = fetcher.done()
        if done.size < member.size:
            raise OSError(errno.EIO, "its shard ends early")
        return done

    def _remote_parts(self, member: Member) -> Iterator[bytes]:
        remote, end = remote_of(self.path), member.offset + member.size
        for start in range(member.offset, end, _MOST_AT_ONCE):
            content = remote.read_range(self.path, start, min(_MOST_AT_ONCE, end - start))
            if content is None:
                with _whole(self.path, self.status).part(start, end - start) as file:
                    while part := file.read(_CHUNK):
                        yield part
                return
            yield content

    def _member(self, path: str) -> Member:
        member = self.members().get(path[len(self.path) + 1 :])
        if member is None:
            raise FileNotFoundError(errno.ENOENT, "it is not in its shard any more")
        return member

    def _status(self, member: Member) -> FileStatus:
        mtime_ns = member.mtime * 1_000_000_000
        if not self.is_lasting:
            return FileStatus(member.size, UNKNOWN_TIME)
        return FileStatus(member.size, mtime_ns, f"{_stamp(self.status)}@{member.offset}")


_seen: dict[str, Shard] = {}
"""Shards by path, as they were when this process last looked at them."""


def shard_at(path: str, etag: str | None = None) -> Shard:
    """Look at a shard, or take it as it was when a member had this etag, a moment ago."""
    seen = _seen.get(path)
    if etag is not None and seen is not None and etag.partition("@")[0] == _stamp(seen.status):
        return seen
    if len(_seen) >= _MOST_SEEN:
        _seen.clear()
    _seen[path] = shard = Shard(path)
    return shard


def _status_of_shard(path: str) -> FileStatus:
    if is_uri(path):
        return remote_of(path).stat(path)
    found = os.stat(path)  # noqa: PTH116 - names need not be valid text
    return FileStatus(found.st_size, found.st_mtime_ns)


def _stamp(status: FileStatus) -> str:
    """Tell the state of a shard in a few characters."""
    state = (status.st_size, status.etag or status.st_mtime_ns)
    return xxhash.xxh3_64_hexdigest(repr(state).encode())


@lru_cache(maxsize=4)
def _members(path: str, status: FileStatus) -> Mapping[str, Member]:
    place = user_cache_directory() / "shards"
    name = xxhash.xxh3_128_hexdigest(os.fsencode(path))
    file = place / f"{name}-{_stamp(status)}.json"
    if (known := _read(file)) is not None:
        return known
    listed = _listed(path, status.st_size)
    with suppress(OSError):  # a cache costs time where it cannot be written
        place.mkdir(parents=True, exist_ok=True)
        for old in place.glob(f"{name}-*.json"):
            old.unlink(missing_ok=True)
        write_atomically(file, json.dumps(listed).encode("utf-8", "surrogateescape"))
    return listed


def _read(file: Path) -> dict[str, Member] | None:
    try:
        stored = json.loads(file.read_bytes().decode("utf-8", "surrogateescape"))
        return {str(name): Member(*map(int, values)) for name, values in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _listed(path: str, size: int) -> dict[str, Member]:
    """Read the headers of a shard."""
    if size % tarfile.BLOCKSIZE:
        raise OSError(errno.EIO, "it is no whole tar file")
    members: dict[str, Member] = {}
    try:
        with closing(_opened(path)) as file:
            for name, member in members_of(file):
                members[name] = member
                if len(members) > _MOST_MEMBERS:
                    raise OSError(errno.EFBIG, f"it has more than {_MOST_MEMBERS:,} members")
    except UnreadableFileError as error:
        raise OSError(errno.EFBIG, str(error)) from error
    return members


def members_of(file: BinaryIO) -> Iterator[tuple[str, Member]]:
    """Yield the names and places of the regular files in an open shard, from its position on.

    Names that lead out of it are left out. Raises OSError where it is damaged.
    """
    try:
        with tarfile.open(fileobj=_Headers(file), mode="r:") as shard:  # type: ignore[call-overload]
            last = -1
            for header in shard:
                # Python before 3.11.14 follows a negative size back, and for ever.
                if header.size < 0 or header.offset_data <= last:
                    raise OSError(errno.EIO, "it is no whole tar file: a member has no size")
                last = header.offset_data
                name = _plain_name(header.name)
                if header.isreg() and not header.issparse() and name is not None:
                    yield name, Member(header.offset_data, header.size, int(header.mtime))
                shard.members.clear()
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise OSError(errno.EIO, f"it is no whole tar file: {error}") from error


class _Headers:
    """A shard of which no more is read at once than a header may have."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LONGEST_HEADER:
            raise OSError(errno.EIO, "it is no whole tar file: a header is too long")
        return self._file.read(size)


def _opened(path: str) -> BinaryIO:
    if not is_uri(path):
        return open(path, "rb")  # noqa: PTH123 - names need not be valid text
    if is_web(path):
        return _whole(path, _status_of_shard(path)).open()
    return remote_of(path).open(path)


@lru_cache(maxsize=1)
def _whole(path: str, status: FileStatus) -> FetchedObject:
    return remote_of(path).fetch(path, status.st_size)


def _plain_name(name: str) -> str | None:
    """Return the name of a member as a path below its shard; None for one that leads elsewhere."""
    parts = [part for part in name.split("/") if part not in {"", "."}]
    is_plain = parts and ".." not in parts and "\0" not in name and not name.startswith("/")
    return "/".join(parts) if is_plain else None
