"""Append-only file of the vectors of one space and modality, float16 rows, and their checksums."""

import mmap
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from retrieval.errors import DamagedLibraryError
from retrieval.files import flush_names, follow_folder, make_directories

Rows = NDArray[np.float16]
"""(n, d) float16; each row is a unit vector to within half precision."""

Checksums = NDArray[np.uint64]
"""(n,) of a row each: xxh3-64 of its bytes, or `NO_CHECKSUM`, or `LOST`."""

NO_CHECKSUM = 0
"""Nothing is known of the row: an earlier version wrote it."""
LOST = 1
"""The row is known to be damaged, and could not be made again."""

_LEAST_CHECKSUM = 2
_BLOCK_BYTES = 8 << 20
"""Bytes of rows that are read at a time."""


class EmbeddingsFile:
    """Row-major float16 rows without a header; the catalog stores how many are valid.

    Rows beyond that were left by a crash and are overwritten by the next append.

    `MODALITY.xxh3` beside it holds a checksum of each row, 8 bytes little-endian: of single rows,
    since these are what the searches of a large library read. A block of many would have them read
    all of it, and would change as it grows. The catalog stores how many are valid of these, too,
    in the transaction that names their rows: what an earlier version appends has none.
    """

    def __init__(self, path: Path, dimension: int) -> None:
        self.path = path
        self.dimension = dimension

    @property
    def checksum_path(self) -> Path:
        """Where the checksums are."""
        return self.path.with_suffix(".xxh3")

    @property
    def row_bytes(self) -> int:
        """Size of a row."""
        return self.dimension * np.dtype(np.float16).itemsize

    def write(self, vectors: NDArray[np.floating], first_row: int) -> None:
        """Write (n, d) vectors as rows first_row .. first_row+n-1, then their checksums.

        Both are flushed to disk, in this order: no checksum stands for a row that is not there.
        Raises ValueError for a wrong shape or values that are not finite, DamagedLibraryError if
        the file is shorter than first_row rows, OSError if the disk is full.
        """
        rows = np.ascontiguousarray(vectors, dtype=np.float16)
        if rows.ndim != 2 or rows.shape[1] != self.dimension:
            raise ValueError(f"expected (n, {self.dimension}) vectors, got {rows.shape}")
        if not np.isfinite(rows).all():
            raise ValueError("vectors must be finite")
        if self.size_in_rows() < first_row:
            raise DamagedLibraryError(self._too_short(self.size_in_rows(), first_row))
        _write_at(self.path, [(first_row * self.row_bytes, rows.tobytes())])
        self.write_checksums(checksums_of(rows), first_row)

    def write_checksums(self, checksums: Checksums, first_row: int) -> None:
        """Write checksums of the rows first_row .. first_row+n-1, flushed to disk."""
        _write_at(self.checksum_path, [(8 * first_row, checksums.astype("<u8").tobytes())])

    def copy(self, rows: Rows, checksums: Checksums, first_row: int) -> None:
        """Write rows of another file as they are, with their checksums, flushed to disk."""
        content = np.ascontiguousarray(rows).tobytes()
        _write_at(self.path, [(first_row * self.row_bytes, content)])
        self.write_checksums(checksums, first_row)

    def clear(self, numbers: Sequence[int], *, lost: bool) -> None:
        """Overwrite some rows with zeros, and their checksums; the file grows to hold them.

        lost: mark them as damaged, as rows of items are whose vectors cannot be made again.
        """
        zeros = np.zeros((1, self.dimension), np.float16)
        checksum = np.array([LOST], np.uint64) if lost else checksums_of(zeros)
        row, octets = zeros.tobytes(), checksum.astype("<u8").tobytes()
        _write_at(self.path, [(number * self.row_bytes, row) for number in numbers])
        _write_at(self.checksum_path, [(8 * number, octets) for number in numbers])

    def rows(self, count: int) -> Rows:
        """Memory-map the first `count` rows, (count, d) float16, read-only."""
        if count == 0:
            return np.empty((0, self.dimension), dtype=np.float16)
        found = self.size_in_rows()
        if found < count:
            raise DamagedLibraryError(self._too_short(found, count))
        return np.memmap(self.path, np.float16, mode="r", shape=(count, self.dimension))

    def checksums(self, count: int) -> Checksums:
        """Read the checksums of the first `count` rows; NO_CHECKSUM where the file lacks them."""
        found = np.full(count, NO_CHECKSUM, np.uint64)
        try:
            with self.checksum_path.open("rb") as file:
                content = file.read(8 * count)
        except FileNotFoundError:
            return found
        whole = np.frombuffer(content, "<u8", len(content) // 8)
        found[: len(whole)] = whole
        return found

    def size_in_rows(self) -> int:
        """Count the whole rows of the file, those that are not valid included."""
        try:
            return self.path.stat().st_size // self.row_bytes
        except FileNotFoundError:
            return 0

    def _too_short(self, found: int, expected: int) -> str:
        return (
            f"{self.path} has {found} rows, but the catalog has {expected}: the file was truncated "
            "or replaced. `mmsearch check --repair` makes them again from the files that were "
            "indexed, or restore the library from a backup (`mmsearch restore`)."
        )


def read_singly(rows: Rows) -> None:
    """Let the system read from the disk no more than the pages of the mapped rows that are used.

    It would read far around each: of 100 candidates among 60,000 rows, all of their 61 MB.
    """
    mapped = getattr(rows, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_RANDOM"):
        mapped.madvise(mmap.MADV_RANDOM)


class RowChecker:
    """Finds out which rows hold what was written, each when it is first asked for.

    Rows are compared with their checksums once. Of rows without one, those are damaged that no
    encoder gives: with values that are not finite, or all zero. May be shared by threads.
    """

    def __init__(self, file: EmbeddingsFile) -> None:
        self._file = file
        self._rows: Rows = np.empty((0, file.dimension), np.float16)
        self._checksums: Checksums = np.empty(0, np.uint64)
        self._is_open = np.empty(0, np.bool_)
        self._is_damaged = np.empty(0, np.bool_)
        self._lock = threading.Lock()

    def extend(self, rows: Rows, checksum_count: int) -> None:
        """Answer for these (n, d) rows from now on, which begin with those of before.

        checksum_count: how many of them have a checksum that counts.
        """
        with self._lock:
            known = len(self._rows)
            checksums = np.full(len(rows), NO_CHECKSUM, np.uint64)
            checksums[:checksum_count] = self._file.checksums(checksum_count)
            is_open = np.ones(len(rows), np.bool_)
            is_open[:known] = self._is_open | self._is_damaged  # which may have been repaired
            self._is_open, self._is_damaged = is_open, np.zeros(len(rows), np.bool_)
            self._rows, self._checksums = rows, checksums

    @property
    def damaged_count(self) -> int:
        """Return how many rows were found to be damaged so far."""
        return int(np.count_nonzero(self._is_damaged))

    def are_damaged(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of some rows are damaged, (n,) bool."""
        with self._lock:
            opened = np.unique(numbers[self._is_open[numbers]])
            self._compare(opened)
            found: NDArray[np.bool_] = self._is_damaged[numbers]
            return found

    def damaged_between(self, first: int, last: int) -> NDArray[np.bool_] | None:
        """Return which of the rows first .. last-1 are damaged, (n,) bool; None: none of them."""
        with self._lock:
            self._compare(first + np.flatnonzero(self._is_open[first:last]))
            found = self._is_damaged[first:last]
            return found.copy() if found.any() else None

    def _compare(self, numbers: NDArray[np.int64]) -> None:
        block = max(1, _BLOCK_BYTES // self._file.row_bytes)
        for begin in range(0, len(numbers), block):
            chosen = numbers[begin : begin + block]
            first, last = int(chosen[0]), int(chosen[-1]) + 1
            is_run = last - first == len(chosen)
            rows = np.asarray(self._rows[first:last] if is_run else self._rows[chosen])
            self._is_damaged[chosen] = are_damaged(rows, self._checksums[chosen])
            self._is_open[chosen] = False


def are_damaged(rows: Rows, checksums: Checksums) -> NDArray[np.bool_]:
    """Return which of (n, d) rows are not what was written, as far as can be told, (n,) bool."""
    has_one = checksums != NO_CHECKSUM
    damaged = np.zeros(len(rows), np.bool_)
    if has_one.all():
        damaged[:] = checksums_of(rows) != checksums
    else:
        damaged[has_one] = checksums_of(rows[has_one]) != checksums[has_one]
        damaged[~has_one] = are_impossible(rows[~has_one])
    return damaged


def are_impossible(rows: Rows) -> NDArray[np.bool_]:
    """Return which of (n, d) rows no encoder gives: not finite, or all zero, (n,) bool."""
    magnitude = np.ascontiguousarray(rows).view(np.uint16) & 0x7FFF
    largest = magnitude.max(axis=1, initial=0)
    found: NDArray[np.bool_] = (largest >= 0x7C00) | (largest == 0)  # infinity, NaN (IEEE 754)
    return found


def checksums_of(rows: Rows) -> Checksums:
    """Compute the checksum of each of (n, d) rows."""
    if not rows.size:
        return np.full(len(rows), LOST, np.uint64)
    digest = xxhash.xxh3_64_intdigest
    octets = memoryview(np.ascontiguousarray(rows).data).cast("B")
    size = 2 * rows.shape[1]
    digests = (digest(octets[at : at + size]) for at in range(0, len(octets), size))
    found = np.fromiter(digests, np.uint64, len(rows))
    return np.maximum(found, np.uint64(_LEAST_CHECKSUM))


def _write_at(path: Path, pieces: Iterable[tuple[int, bytes]]) -> None:
    """Write bytes at offsets of a file and flush it; it is created durably where it is missing."""
    is_new = not path.exists()
    if is_new:
        make_directories(path.parent)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
    if is_new:
        follow_folder(path)
    with os.fdopen(fd, "r+b", buffering=0) as file:
        for offset, content in pieces:
            file.seek(offset)
            remaining = memoryview(content)
            while remaining:
                remaining = remaining[file.write(remaining) :]
        os.fsync(fd)
    if is_new:
        flush_names(path.parent)
