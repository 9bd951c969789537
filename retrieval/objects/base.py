"""What every kind of source outside of the file system offers: list, stat, open."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple, Protocol

UNKNOWN_TIME = -1
"""Modification time of what tells none; as `retrieval.media.UNTRUSTED_MTIME`."""


class FileStatus(NamedTuple):
    """Size in bytes, and modification time in nanoseconds since 1970, -1 where it is unknown.

    etag: changes with the content, of an object whose server tells it; None of files.
    """

    st_size: int
    st_mtime_ns: int = UNKNOWN_TIME
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """What a folder holds: the path of a folder, or of an object with its status, if it is known.

    A status that the listing does not tell is asked for by `Source.stat`.
    """

    path: str
    is_folder: bool = False
    status: FileStatus | None = None


class Source(Protocol):
    """A place that holds objects: an object store, a web server, a shard. May be used by threads.

    All methods raise OSError where it cannot be reached, FileNotFoundError for what is not there,
    and MissingExtraError without the package that speaks to it.
    """

    def list(self, folder: str) -> Iterator[Listed]:
        """List what is directly in a folder, in any order."""
        ...

    def stat(self, path: str) -> FileStatus:
        """Look at an object without reading it; IsADirectoryError for a folder."""
        ...

    def open(self, path: str) -> BinaryIO:
        """Open an object to be read, at any place of it."""
        ...
