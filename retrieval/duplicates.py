"""Find identical files and near-duplicate images: resized, recompressed, cropped copies."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from retrieval.catalog import FileEntry, Item, Snapshot
from retrieval.embeddings import RowChecker, Rows
from retrieval.encoders.base import Space, Vectors
from retrieval.errors import UsageError
from retrieval.filters import Filter
from retrieval.library import Library
from retrieval.media import Modality
from retrieval.media.items import status_as_indexed
from retrieval.objects.paths import is_object, is_uri

DEFAULT_THRESHOLD = 0.9
"""Measured with `starter`: of different photos, only shots of one scene are as similar."""

_BLOCK = 2048
"""Block size of the comparison: 2048 x 2048 cosines are 16 MiB."""
_ROUNDING = 1e-6
"""Tolerance below 1 of the float32 cosine of equal vectors."""
_PAIRS_KEPT = 1_000_000
"""Maximum number of pairs, of 20 bytes each, before all but the best are dropped."""


@dataclass(frozen=True, slots=True)
class ExactGroup:
    """At least two files with the same content. size: bytes of each file. paths: sorted."""

    content_hash: str
    size: int
    paths: tuple[str, ...]

    @property
    def spare_bytes(self) -> int:
        """Bytes of all files but one."""
        return self.size * (len(self.paths) - 1)


@dataclass(frozen=True, slots=True)
class NearPair:
    """Two images of different content; `first` has at least as many pixels as `second`.

    similarity: cosine, at most 1.
    """

    similarity: float
    first: Item
    second: Item


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Near-duplicate pairs, the most similar first.

    pictures: number of compared images. found: number of pairs at or above the threshold, including
    those beyond the limit and outdated ones. outdated: number of the best pairs that are excluded
    from `pairs`, because a file was changed or deleted after it was indexed. damaged: number of
    vectors that were left out, since they are damaged on the disk.
    """

    pairs: tuple[NearPair, ...]
    pictures: int
    found: int
    outdated: int
    damaged: int = 0


@dataclass(frozen=True, slots=True)
class SimilarRows:
    """Pairs of rows, the most similar first; ties by rows.

    similarity: (p,) float32, at most 1; first, second: (p,) int64, first < second. found: number of
    pairs, including those beyond a limit.
    """

    similarity: NDArray[np.float32]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    found: int


def find_exact(snapshot: Snapshot) -> list[ExactGroup]:
    """Find groups of identical files, those that waste the most space first.

    Files of every kind except empty ones. Files that were changed or deleted since they were
    indexed are excluded; several names of one file (symlinks, hard links) count once.
    """
    groups = []
    for content_hash, files in groupby(
        snapshot.files_of_same_content(), key=attrgetter("content_hash")
    ):
        of_content = list(files)
        paths = _one_name_each(of_content)
        if len(paths) > 1:
            groups.append(ExactGroup(content_hash, of_content[0].size, tuple(paths)))
    return sorted(groups, key=lambda group: (-group.spare_bytes, group.paths))


def find_near(
    library: Library,
    space: Space,
    threshold: float = DEFAULT_THRESHOLD,
    *,
    frames: bool = False,
    limit: int | None = None,
    on_plan: Callable[[int], None] = lambda _pictures: None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> NearDuplicates:
    """Find pairs of images whose vectors have a cosine of at least `threshold`.

    All pairs are compared exactly, in O(n^2 d) time. Images of the same content are compared once;
    pairs within one file are excluded.

    Args:
        library: The library.
        space: The vector space.
        threshold: Minimum cosine, 0 to 1.
        frames: Also compare video frames and document pages.
        limit: Maximum number of pairs, the most similar first.
        on_plan: Called with the number of images before they are compared.
        on_progress: Called with the numbers of compared and of all blocks.

    Raises:
        UsageError: `threshold` is outside 0..1.
    """
    if not 0 <= threshold <= 1:
        raise UsageError(f"The threshold is a cosine between 0 and 1, not {threshold}.")
    compared = (
        _compared_in_table(library, frames)
        if library.is_table
        else _compared(library, space, frames)
    )
    embeddings, rows, contents = compared.embeddings, compared.rows, compared.contents
    on_plan(len(rows))
    similar = similar_rows(
        embeddings,
        rows,
        contents,
        threshold,
        limit=limit,
        on_progress=on_progress,
    )
    # A snapshot held during the whole comparison would block checkpoints of the WAL.
    with library.catalog.snapshot() as snapshot:
        wanted = np.union1d(similar.first, similar.second)
        numbers = wanted if compared.numbers is None else compared.numbers[wanted]
        row_of = dict(zip(numbers.tolist(), wanted.tolist(), strict=True))
        items = snapshot.items_at(space.id, Modality.IMAGE, list(row_of), Filter(hidden="any"))
    shown = {
        row_of[number]: min(present, key=attrgetter("path"))
        for number, found in items.items()
        if (present := [item for item in found if _is_present(item)])
    }
    pairs = [
        NearPair(similarity, *_larger_first(shown[first], shown[second]))
        for similarity, first, second in zip(
            similar.similarity.tolist(),
            similar.first.tolist(),
            similar.second.tolist(),
            strict=True,
        )
        if first in shown and second in shown
    ]
    outdated = len(similar.similarity) - len(pairs)
    return NearDuplicates(tuple(pairs), len(rows), similar.found, outdated, compared.damaged)


@dataclass(frozen=True, eq=False)
class _Compared:
    """Pictures to compare. numbers: by row, the rows that the catalog knows; None: these."""

    embeddings: Rows
    rows: NDArray[np.int64]
    contents: NDArray[np.int64]
    damaged: int = 0
    numbers: NDArray[np.int64] | None = None


def _compared(library: Library, space: Space, frames: bool) -> _Compared:
    with library.catalog.snapshot() as snapshot:
        row_count = snapshot.row_count(space.id, Modality.IMAGE)
        checksum_count = snapshot.checksum_count(space.id, Modality.IMAGE)
        rows, contents = _distinct(snapshot.picture_rows(space.id, parts=frames))
    file = library.embeddings(space, Modality.IMAGE)
    embeddings = file.rows(row_count)
    checker = RowChecker(file)
    checker.extend(embeddings, checksum_count)
    is_whole = ~checker.are_damaged(rows)
    return _Compared(embeddings, rows[is_whole], contents[is_whole], checker.damaged_count)


def _compared_in_table(library: Library, frames: bool) -> _Compared:
    """Read the vectors of a table's pictures into memory."""
    from retrieval.lance.vectors import distinct_pictures

    numbers, hashes, embeddings = distinct_pictures(library, frames=frames)
    rows = np.arange(len(numbers))
    contents = _distinct(zip(rows.tolist(), hashes, strict=True))[1]
    return _Compared(embeddings, rows, contents, numbers=numbers)


def similar_rows(
    embeddings: Rows,
    rows: NDArray[np.int64],
    contents: NDArray[np.int64],
    threshold: float,
    *,
    limit: int | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> SimilarRows:
    """Find the pairs of rows whose cosine is at least `threshold`, in O(n^2 d) time.

    Args:
        embeddings: (N, d) float16.
        rows: (n,) int64, ascending: rows to compare.
        contents: (n,) int64, number of the content of each row; rows of the same content are not
            paired.
        threshold: Minimum cosine.
        limit: Maximum number of pairs; also bounds the memory.
        on_progress: Called with the numbers of compared and of all blocks.
    """
    best = _BestPairs(limit)
    starts = range(0, len(rows), _BLOCK)
    total = len(starts) * (len(starts) + 1) // 2
    done = 0
    for top in starts:
        above = _unit_vectors(embeddings, rows[top : top + _BLOCK])
        for left in range(top, len(rows), _BLOCK):
            beside = above if left == top else _unit_vectors(embeddings, rows[left : left + _BLOCK])
            cosines = above @ beside.T
            first, second = np.nonzero(cosines >= threshold - _ROUNDING)
            counts = contents[top + first] != contents[left + second]
            if left == top:
                counts &= first < second
            first, second = first[counts], second[counts]
            best.add(cosines[first, second], rows[top + first], rows[left + second])
            done += 1
            on_progress(done, total)
    return best.pairs()


def estimate_seconds(pictures: int, dimension: int) -> float:
    """Estimate the seconds to compare this number of images, by timing one block."""
    block = np.full((_BLOCK, dimension), 1 / dimension, dtype=np.float32)
    seconds = 0.0
    for _ in range(2):  # the first product is slower
        start = time.perf_counter()
        np.nonzero(block @ block.T >= 1)
        seconds = time.perf_counter() - start
    return seconds * pictures**2 / (2 * _BLOCK**2)


class _BestPairs:
    """Collects pairs; with a limit, drops all but the best."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._found = 0
        self._held = 0
        self._parts: list[tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]] = []

    def add(
        self,
        similarity: NDArray[np.float32],
        first: NDArray[np.int64],
        second: NDArray[np.int64],
    ) -> None:
        self._parts.append((np.minimum(similarity, np.float32(1)), first, second))
        self._found += len(similarity)
        self._held += len(similarity)
        if self._limit is not None and self._held > self._limit + _PAIRS_KEPT:
            best = self.pairs()
            self._parts = [(best.similarity, best.first, best.second)]
            self._held = len(best.similarity)

    def pairs(self) -> SimilarRows:
        none = (np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.int64))
        similarity, first, second = (
            np.concatenate(columns) for columns in zip(none, *self._parts, strict=True)
        )
        order = np.lexsort((second, first, -similarity))[: self._limit]
        return SimilarRows(similarity[order], first[order], second[order], self._found)


def _unit_vectors(embeddings: Rows, rows: NDArray[np.int64]) -> Vectors:
    """Normalise rows, whose norms half precision changes by some 1e-5; zeros stay zeros."""
    vectors = embeddings[rows].astype(np.float32)
    norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))[:, np.newaxis]
    np.divide(vectors, norms, out=vectors, where=norms > 0)
    return vectors


def _distinct(pictures: Iterable[tuple[int, str]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split (row, content hash) pairs into rows and numbers of the contents."""
    numbers: dict[str, int] = {}
    both = [(row, numbers.setdefault(content, len(numbers))) for row, content in pictures]
    columns = np.array(both, dtype=np.int64).reshape(-1, 2).T
    return columns[0], columns[1]


def _one_name_each(files: Sequence[FileEntry]) -> list[str]:
    """List unchanged files, one name per file; a symlink only if all its names are symlinks."""
    name_of: dict[tuple[int, int] | str, str] = {}
    by_path = sorted(files, key=lambda file: (os.path.islink(file.path), file.path))  # noqa: PTH114
    for file in by_path:
        if _is_present(file):
            name_of.setdefault(_identity(file.path), file.path)
    return sorted(name_of.values())


def _is_present(file: Item | FileEntry) -> bool:
    """Return whether a file is as it was indexed; of a server's objects that is not asked."""
    return is_uri(file.path) or status_as_indexed(file) is not None


def _identity(path: str) -> tuple[int, int] | str:
    if is_object(path):
        return path
    status = os.stat(path)  # noqa: PTH116 - names need not be valid text
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)


def _larger_first(a: Item, b: Item) -> tuple[Item, Item]:
    first, second = sorted(
        (a, b), key=lambda item: (-(item.width or 0) * (item.height or 0), item.path, item.part)
    )
    return first, second
