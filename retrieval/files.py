"""Atomic writes of files, their names as valid text, and the user's own directories."""

import os
import stat
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from retrieval.errors import UsageError

UNFINISHED_SUFFIX = ".new"
"""Suffix of a file that is being written; a killed process may leave one behind."""


def valid_text(path: str) -> str:
    """Escape bytes of a file name that are not valid UTF-8, since JSON has no raw bytes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def expand_home(path: Path) -> Path:
    """Replace `~` and `~USER` at the beginning of a path; raises ValueError if it has no home."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError(
            f"{path} cannot be resolved: there is no such home directory. Write the whole path"
        ) from None


def has_home() -> bool:
    """Return whether this user has a home directory: one of a container may have none."""
    return os.path.expanduser("~") != "~"  # noqa: PTH111 - a Path raises


def user_data_directory() -> Path:
    """Return the directory for data of this user; raises UsageError without a home directory."""
    try:
        return Path(platformdirs.user_data_dir("mmsearch", appauthor=False))
    except RuntimeError:
        raise UsageError(
            "This user has no home directory, so there is no default library. Name one with "
            "`--library DIR` or MMSEARCH_LIBRARY, or set HOME."
        ) from None


def user_cache_directory() -> Path:
    """Return the directory for caches of this user: without a home directory, a temporary one."""
    try:
        return platformdirs.user_cache_path("mmsearch", appauthor=False)
    except RuntimeError:
        return temporary_home() / ".cache" / "mmsearch"


def temporary_home() -> Path:
    """Return a directory that stands for a missing home: of this user alone, and the same again."""
    directory = Path(tempfile.gettempdir()) / f"mmsearch-{os.geteuid()}"
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
    except OSError:
        return directory  # nothing can be written: caches stay empty
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022:
        return directory
    return Path(tempfile.mkdtemp(prefix="mmsearch-"))  # another user was faster with the name


def write_atomically(file: Path, content: bytes, *, durable: bool = False) -> None:
    """Replace or create a file atomically; options as of `replacing`."""
    with replacing(file, durable=durable) as unfinished:
        unfinished.write_bytes(content)


@contextmanager
def replacing(file: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the same directory, which replaces the file at the end.

    durable: content and name survive a power cut (fsync). After an exception the file is unchanged.
    """
    # Not `tempfile`, whose files only their owner may read: a service may run as another user.
    unfinished = file.with_name(f"{file.name}.{uuid.uuid4().hex[:8]}{UNFINISHED_SUFFIX}")
    try:
        yield unfinished
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
