"""A small file beside a catalog: the number of its commits, and a checksum of its pages.

SQLite has no checksums of pages, and takes a write-ahead log that was cut for one that ends there.
So the catalog counts its commits in its own header (`PRAGMA user_version`), and this file has the
number once more: a catalog that knows of fewer has lost some. The file is written after a commit,
without a flush: it is never ahead of what is on the disk.
"""

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from retrieval.files import follow_folder, sealed, unsealed

_NO_CHECKSUM = "-" * 32


@dataclass(frozen=True)
class CommitRecord:
    """What the file says.

    commits: how many the catalog has, those included that it is known to have lost. checksum:
    xxh3-128 of its pages after the last of them, hexadecimal; None where it was not computed.
    """

    commits: int
    checksum: str | None = None


def record_path(catalog: Path) -> Path:
    """Return where the record of a catalog is."""
    return catalog.with_name(f"{catalog.name}-commits")


def read_record(catalog: Path) -> CommitRecord | None:
    """Read the record of a catalog; None where there is none, or it is damaged."""
    path = record_path(catalog)
    try:
        if not path.is_file():  # a named pipe would wait for its writer
            return None
        with path.open("rb") as file:
            content = unsealed(file.read(200))
    except OSError:
        return None
    found = re.fullmatch(rb"([0-9]{10}) ([0-9a-f]{32}|-{32})\n", content or b"")
    if found is None:
        return None
    checksum = found[2].decode()
    return CommitRecord(int(found[1]), None if checksum == _NO_CHECKSUM else checksum)


def write_record(catalog: Path, record: CommitRecord) -> None:
    """Write the record in place: it has always the same length.

    What cannot be written is left: an older record claims less.
    """
    path = record_path(catalog)
    content = sealed(f"{record.commits:010} {record.checksum or _NO_CHECKSUM}\n".encode())
    with suppress(OSError):
        is_new = not path.exists()
        if not is_new and not path.is_file():
            return
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        try:
            os.write(descriptor, content)
        finally:
            os.close(descriptor)
        if is_new:
            follow_folder(path)
