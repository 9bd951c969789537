"""Objects that were read whole: in memory while they are small, else in a file without a name.

A file without a name is gone with the process that holds it, whatever ends that.
"""

import io
import os
import tempfile
import threading
import weakref
from typing import Any, BinaryIO

from retrieval.errors import UnreadableFileError

MOST_BYTES = 8 << 30
"""Larger objects are not read: they would fill the disk for temporary files."""
IN_MEMORY_BYTES = 64 << 20
"""Objects up to this size are held in memory."""


class FetchedObject:
    """The content of an object, which can be opened several times."""

    def __init__(self, held: BinaryIO, size: int) -> None:
        self._held = held
        self._lock = threading.Lock()
        self.size = size
        weakref.finalize(self, held.close)

    def open(self) -> BinaryIO:
        """Open it from its beginning, for one thread."""
        return self.part(0, self.size)

    def part(self, start: int, size: int) -> BinaryIO:
        """Open some bytes of it as a file of their own."""
        if isinstance(self._held, io.BytesIO):
            # Shares the memory: a copy is made on writing only.
            whole = start == 0 and size == self.size
            return io.BytesIO(
                self._held.getvalue() if whole else self._held.getbuffer()[start : start + size]
            )
        return io.BufferedReader(_Part(self, start, size))

    def read_at(self, place: int, size: int) -> bytes:
        """Read at most so many bytes at a place of it; for any number of threads."""
        with self._lock:
            self._held.seek(place)
            return self._held.read(size)


class Fetcher:
    """Takes in an object part by part."""

    def __init__(self) -> None:
        self._held = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115
        self._size = 0
        self._close = weakref.finalize(self, self._held.close)

    def write(self, part: bytes) -> None:
        """Take in a part; raises UnreadableFileError where it all gets too large."""
        self._size += len(part)
        if self._size > MOST_BYTES:
            self._close()
            raise UnreadableFileError(f"it is larger than {MOST_BYTES >> 30} GiB")
        self._held.write(part)

    def done(self) -> FetchedObject:
        """Return what was taken in."""
        if self._size > IN_MEMORY_BYTES:
            self._held.rollover()
            self._close.detach()
            return FetchedObject(self._held, self._size)  # type: ignore[arg-type]
        self._held.seek(0)
        content = self._held.read()
        self._close()
        return FetchedObject(io.BytesIO(content), self._size)


class _Part(io.RawIOBase):
    """Bytes of an object that several readers share, each with a place of its own."""

    def __init__(self, whole: FetchedObject, start: int, size: int) -> None:
        super().__init__()
        self._whole = whole
        self._start = start
        self._size = size
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("a file has no place before its beginning")
        self._place = base + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        wanted = max(0, min(len(buffer), self._size - self._place))
        content = self._whole.read_at(self._start + self._place, wanted)
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)
