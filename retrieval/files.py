"""Files that are there whole or not at all, and what is in them."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import xxhash

UNFINISHED_SUFFIX = ".new"
"""Of a file that is being written; one that stays was left by a killed process."""


def write_atomically(file: Path, content: bytes, *, durable: bool = False) -> None:
    """Replace a file, or create it, in one step; as `replacing`."""
    with replacing(file, durable=durable) as unfinished:
        unfinished.write_bytes(content)


@contextmanager
def replacing(file: Path, *, durable: bool = False) -> Iterator[Path]:
    """Give a path beside a file to write to, which takes the file's place at the end.

    durable: the content and the name outlast a power cut. After an exception nothing has changed.
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
    if durable and os.name == "posix":  # Windows opens no folders
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def content_hash(file: BinaryIO) -> str:
    """XXH3 of 128 bits in hexadecimal, as the catalog keeps it, of an open file's content."""
    digest = xxhash.xxh3_128()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
