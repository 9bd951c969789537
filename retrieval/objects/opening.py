"""Open, and look at, what a path names: a file of this machine or an object anywhere.

Readers of formats take paths and open them here. Of an object they get its whole content, in
memory or in a file without a name: they go to and fro in it, and its hash takes all of it anyway.
"""

import os
import stat
from functools import lru_cache
from typing import TYPE_CHECKING, BinaryIO

from retrieval.objects.base import FileStatus
from retrieval.objects.paths import is_uri, shard_of

if TYPE_CHECKING:
    from retrieval.objects.base import Source
    from retrieval.objects.fetched import FetchedObject


def open_path(path: str, known: FileStatus | None = None) -> BinaryIO:
    """Open a file or an object to be read.

    known: its status, which spares asking for it.

    Raises OSError, also where a server cannot be reached, UnreadableFileError for an object that is
    too large, MissingExtraError without the package that speaks to its server.
    """
    shard = shard_of(path)
    if shard is None and not is_uri(path):
        return open(path, "rb")  # noqa: PTH123 - names need not be valid text
    status = known or status_of(path)
    # What tells nothing of its changes is read each time.
    fetch = _fetched.__wrapped__ if status[1:] == FileStatus(0)[1:] else _fetched
    return fetch(path, status).open()


def open_parts(path: str) -> BinaryIO:
    """Open an object of which only parts may be asked for, such as a film; as `open_path`."""
    return _source_of(path).open(path)


def status_of(path: str) -> FileStatus:
    """Look at a regular file or an object; raises OSError where it is none."""
    if shard_of(path) is not None or is_uri(path):
        return _source_of(path).stat(path)
    found = os.stat(path)  # noqa: PTH116 - names need not be valid text
    if not stat.S_ISREG(found.st_mode):
        raise OSError("it is not a regular file any more")
    return FileStatus(found.st_size, found.st_mtime_ns)


def is_there(path: str) -> bool:
    """Return whether there is an object; for a URI without asking its server, which may be far."""
    shard = shard_of(path)
    return is_uri(path) or (shard is not None and os.path.lexists(shard[0]))


@lru_cache(maxsize=1)
def _fetched(path: str, status: FileStatus) -> "FetchedObject":
    """Read an object whole; the last one is kept, since a long one is read in several calls."""
    shard = shard_of(path)
    if shard is not None and _is_shard(shard[0]):
        from retrieval.objects.shards import Shard

        return Shard(shard[0]).fetch(path)
    from retrieval.objects.remote import remote_of

    return remote_of(path).fetch(path, status.st_size)


def _source_of(path: str) -> "Source":
    shard = shard_of(path)
    if shard is not None and _is_shard(shard[0]):
        from retrieval.objects.shards import Shard

        return Shard(shard[0])
    from retrieval.objects.remote import source_of

    return source_of(path)


def _is_shard(path: str) -> bool:
    """Return whether what may be a shard is one, and no folder of a server with such a name."""
    return not is_uri(path) or _is_object(path)


@lru_cache(maxsize=256)
def _is_object(uri: str) -> bool:
    from retrieval.objects.remote import source_of

    try:
        source_of(uri).stat(uri)
    except (FileNotFoundError, IsADirectoryError):
        return False
    return True
