"""Atomic writes of files, their permissions, and their names as valid text."""

import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PRIVATE_FOLDER = 0o700
"""Permissions of a directory that only its owner may use."""
SHARED_FOLDER = 0o2770
"""Permissions of a directory that its group may use; what is made in it gets its group."""

UNFINISHED_SUFFIX = ".new"
"""Suffix of a file that is being written; a killed process may leave one behind."""


def valid_text(path: str) -> str:
    """Escape bytes of a file name that are not valid UTF-8, since JSON has no raw bytes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def write_atomically(file: Path, content: bytes, *, durable: bool = False) -> None:
    """Replace or create a file atomically; options as of `replacing`."""
    with replacing(file, durable=durable) as unfinished:
        unfinished.write_bytes(content)


@contextmanager
def replacing(file: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the same directory, which replaces the file at the end.

    durable: content and name survive a power cut (fsync). After an exception the file is unchanged.
    """
    unfinished = file.with_name(f"{file.name}.{uuid.uuid4().hex[:8]}{UNFINISHED_SUFFIX}")
    try:
        yield unfinished
        follow_folder(unfinished)
        if durable:
            with unfinished.open("r+b") as stream:
                os.fsync(stream.fileno())
        unfinished.replace(file)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    if durable:
        flush_names(file.parent)


def flush_names(folder: Path) -> None:
    """Write the names in a directory to disk (fsync), so that they survive a power cut."""
    if os.name == "posix":  # Windows cannot open directories
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a directory, and those above it that are missing, with the permissions of its parent."""
    if not folder.is_dir():
        make_folder(folder.parent)
        with suppress(FileExistsError):  # another process was faster
            folder.mkdir()
            follow_folder(folder)


def follow_folder(path: Path) -> None:
    """Let a new file or directory be used by nobody who may not use the directory it is in.

    In one that is shared (set-group-ID, see `SHARED_FOLDER`) it gets the same permissions, whatever
    the umask. Does nothing on file systems without permissions, or for another user's file.
    """
    if os.name != "posix":
        return
    with suppress(OSError):
        own, folder = path.stat().st_mode, path.parent.stat().st_mode
        allowed = stat.S_IMODE(folder) if stat.S_ISDIR(own) else folder & 0o666
        if not folder & stat.S_ISGID:
            allowed &= own
        if allowed != stat.S_IMODE(own):
            path.chmod(allowed)


def set_permissions(folder: Path, mode: int) -> None:
    """Set the permissions of a directory, and of all that is in it accordingly.

    Leaves what belongs to other users as it is.
    """
    if os.name != "posix":
        return
    for path in [folder, *folder.rglob("*")]:
        with suppress(OSError):
            if not path.is_symlink():
                path.chmod(mode if path.is_dir() else mode & 0o666)
