"""Append-only file of the vectors of one space and modality: float16 rows."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import DamagedLibraryError
from retrieval.files import follow_folder, make_folder

Rows = NDArray[np.float16]
"""(n, d) float16; each row is a unit vector to within half precision."""


class EmbeddingsFile:
    """Row-major float16 rows without a header; the catalog stores how many are valid.

    Rows beyond that were left by a crash and are overwritten by the next append.
    """

    def __init__(self, path: Path, dimension: int) -> None:
        self.path = path
        self.dimension = dimension

    @property
    def _row_bytes(self) -> int:
        return self.dimension * np.dtype(np.float16).itemsize

    def write(self, vectors: NDArray[np.floating], first_row: int) -> None:
        """Write (n, d) vectors as rows first_row .. first_row+n-1, and flush them to disk.

        Raises ValueError for a wrong shape or values that are not finite, DamagedLibraryError if
        the file is shorter than first_row rows, OSError if the disk is full.
        """
        rows = np.ascontiguousarray(vectors, dtype=np.float16)
        if rows.ndim != 2 or rows.shape[1] != self.dimension:
            raise ValueError(f"expected (n, {self.dimension}) vectors, got {rows.shape}")
        if not np.isfinite(rows).all():
            raise ValueError("vectors must be finite")
        make_folder(self.path.parent)
        is_new = not self.path.exists()
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        if is_new:
            follow_folder(self.path)
        with os.fdopen(fd, "r+b", buffering=0) as file:
            self._check_size(os.fstat(fd).st_size, first_row)
            file.seek(first_row * self._row_bytes)
            remaining = memoryview(rows.tobytes())
            while remaining:
                remaining = remaining[file.write(remaining) :]
            os.fsync(fd)

    def rows(self, count: int) -> Rows:
        """Memory-map the first `count` rows, (count, d) float16, read-only."""
        if count == 0:
            return np.empty((0, self.dimension), dtype=np.float16)
        try:
            self._check_size(self.path.stat().st_size, count)
            return np.memmap(self.path, np.float16, mode="r", shape=(count, self.dimension))
        except FileNotFoundError:
            raise DamagedLibraryError(self._too_short(0, count)) from None

    def _check_size(self, size: int, rows: int) -> None:
        if size < rows * self._row_bytes:
            raise DamagedLibraryError(self._too_short(size // self._row_bytes, rows))

    def _too_short(self, found: int, expected: int) -> str:
        return (
            f"{self.path} has {found} rows, but the catalog has {expected}: the file was truncated "
            "or replaced. Restore it from a backup, or index the sources into a new library "
            "(`--library NEW_DIR`)."
        )
