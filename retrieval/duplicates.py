"""Files that are the same, and pictures that look it: resized, recompressed, cropped copies."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from retrieval.catalog import FileEntry, Item, Modality, Snapshot
from retrieval.embeddings import Rows
from retrieval.encoders.base import Space, Vectors
from retrieval.errors import UsageError
from retrieval.library import Library
from retrieval.media.items import status_as_indexed

DEFAULT_THRESHOLD = 0.9
"""Measured with the starter encoder: of different photos, only shots of one scene come so near."""

_BLOCK = 2048
"""Rows compared with as many others at once: 16 MiB of cosines."""
_ROUNDING = 1e-6
"""By how much the float32 cosine of equal vectors may stay below 1."""
_PAIRS_KEPT = 1_000_000
"""So many pairs, of 20 bytes each, may be held before all but the best are dropped."""


@dataclass(frozen=True, slots=True)
class ExactGroup:
    """At least two files of one content. size: of each, in bytes. paths: sorted."""

    content_hash: str
    size: int
    paths: tuple[str, ...]

    @property
    def spare_bytes(self) -> int:
        """What all but one of the files take."""
        return self.size * (len(self.paths) - 1)


@dataclass(frozen=True, slots=True)
class NearPair:
    """Two pictures of different contents; `first` has at least as many pixels as `second`.

    similarity: cosine, at most 1.
    """

    similarity: float
    first: Item
    second: Item


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Pairs, the most similar first.

    pictures: how many were compared. found: pairs at or above the threshold, those past the limit
    and outdated ones too. outdated: how many of the best are left out of `pairs`, since a file of
    theirs has changed or gone after it was indexed.
    """

    pairs: tuple[NearPair, ...]
    pictures: int
    found: int
    outdated: int


@dataclass(frozen=True, slots=True)
class SimilarRows:
    """Pairs of rows, the most similar first; equal ones by rows.

    similarity: (p,) float32, at most 1; first, second: (p,) int64, first < second. found: pairs
    in all, those past a limit too.
    """

    similarity: NDArray[np.float32]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    found: int


def find_exact(snapshot: Snapshot) -> list[ExactGroup]:
    """Find files of the same content, those groups first that take the most space for nothing.

    Files of every kind, but no empty ones. Files that have changed or gone since they were indexed
    are left out; of several names of one file on the disk (links) only one counts.
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
    """Find pairs of pictures whose vectors have a cosine of at least `threshold`.

    Every picture is compared with every other one, exactly. Pictures of the same content stand
    for one; pairs within one file are left out. frames: compare frames and pages, too. limit:
    return only so many of the best pairs. `on_plan` is told how many pictures there are before
    they are compared, `on_progress` how many blocks of pairs are done, and of how many.

    Raises UsageError for a threshold outside 0..1.
    """
    if not 0 <= threshold <= 1:
        raise UsageError(f"The threshold is a cosine between 0 and 1, not {threshold}.")
    with library.catalog.snapshot() as snapshot:
        row_count = snapshot.row_count(space.id, Modality.IMAGE)
        rows, contents = _distinct(snapshot.picture_rows(space.id, parts=frames))
    on_plan(len(rows))
    similar = similar_rows(
        library.embeddings(space, Modality.IMAGE).rows(row_count),
        rows,
        contents,
        threshold,
        limit=limit,
        on_progress=on_progress,
    )
    # A snapshot held for the whole comparison would keep the indexer's log from being folded in.
    with library.catalog.snapshot() as snapshot:
        wanted = np.union1d(similar.first, similar.second).tolist()
        items = snapshot.items_at(space.id, Modality.IMAGE, wanted)
    shown = {
        row: min(present, key=attrgetter("path"))
        for row, found in items.items()
        if (present := [item for item in found if status_as_indexed(item)])
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
    return NearDuplicates(tuple(pairs), len(rows), similar.found, outdated)


def similar_rows(
    embeddings: Rows,
    rows: NDArray[np.int64],
    contents: NDArray[np.int64],
    threshold: float,
    *,
    limit: int | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> SimilarRows:
    """Find the pairs of some rows whose cosine is at least `threshold`, in O(n^2 d) time.

    embeddings: (N, d); rows: (n,) ascending; contents: (n,), a number for what each shows: rows of
    one number are not paired. Memory stays flat where there is a limit.
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
    """How long this machine will take to compare so many pictures, from one block of them."""
    block = np.full((_BLOCK, dimension), 1 / dimension, dtype=np.float32)
    seconds = 0.0
    for _ in range(2):  # the first product is slower
        start = time.perf_counter()
        np.nonzero(block @ block.T >= 1)
        seconds = time.perf_counter() - start
    return seconds * pictures**2 / (2 * _BLOCK**2)


class _BestPairs:
    """Collects pairs; drops all but the best where there is a limit."""

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
    """Half precision leaves norms that are off by some 1e-5; a vector of zeros stays so."""
    vectors = embeddings[rows].astype(np.float32)
    norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))[:, np.newaxis]
    np.divide(vectors, norms, out=vectors, where=norms > 0)
    return vectors


def _distinct(pictures: Iterable[tuple[int, str]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows, and a number for the content of each, from rows and hashes."""
    numbers: dict[str, int] = {}
    both = [(row, numbers.setdefault(content, len(numbers))) for row, content in pictures]
    columns = np.array(both, dtype=np.int64).reshape(-1, 2).T
    return columns[0], columns[1]


def _one_name_each(files: Sequence[FileEntry]) -> list[str]:
    """Paths of files as they were indexed; of names of one file a symbolic link only if all are."""
    name_of: dict[tuple[int, int] | str, str] = {}
    by_path = sorted(files, key=lambda file: (os.path.islink(file.path), file.path))  # noqa: PTH114
    for file in by_path:
        if status := status_as_indexed(file):
            identity = (
                (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(file.path)
            )
            name_of.setdefault(identity, file.path)
    return sorted(name_of.values())


def _larger_first(a: Item, b: Item) -> tuple[Item, Item]:
    first, second = sorted(
        (a, b), key=lambda item: (-(item.width or 0) * (item.height or 0), item.path, item.part)
    )
    return first, second
