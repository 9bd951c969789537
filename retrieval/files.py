"""Atomic writes of files, and their names as valid text."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
