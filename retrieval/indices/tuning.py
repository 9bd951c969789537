"""Tuning: find the cheapest effort that reaches a target recall, by measurement."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.embeddings import Rows
from retrieval.encoders.base import Vectors
from retrieval.indices.base import Effort, VectorIndex
from retrieval.indices.exact import nearest
from retrieval.indices.refine import search_refined
from retrieval.media import Modality

TARGET_RECALL = 0.98
"""Share of the best 10 by exact search that a tuned index finds."""

OVERFETCH = (1, 2, 3, 5, 10, 20, 40)

_MOST_BREADTH_OF_GRAPHS = 1024
TIMED_QUERIES = 50
_REPETITIONS = 3


@dataclass(frozen=True)
class TuningQueries:
    """Queries of one modality, (m, d) float32, unit.

    source_rows: (m,) int64, the row that each was taken from, which does not count as found; None
    where they were not taken from the rows that are searched.
    """

    vectors: Vectors
    source_rows: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class _Point:
    """An effort whose recall is known, and its standard error."""

    effort: Effort
    error: float

    @property
    def recall(self) -> float:
        return self.effort.recall or 0.0

    @property
    def safe_recall(self) -> float:
        """Estimate the recall that other queries of the same kind usually reach as well."""
        return self.recall - self.error


def tune(
    index: VectorIndex,
    rows: Rows,
    queries: Mapping[Modality, TuningQueries],
    target_recall: float,
    k: int = 10,
    *,
    read_s: float = 0.0,
) -> dict[Modality, Effort]:
    """Find an effort for each modality of queries by comparison with exact search.

    Args:
        index: of engines that do not refine by themselves.
        rows: (n, d) float16, those that the index covers, and perhaps more.
        queries: a few hundred of each modality.
        target_recall: 0..1, of recall@k after exact refine.
        k: length of the lists.
        read_s: what reading a candidate's row takes besides, in seconds, where it is not in memory.

    Returns:
        Among efforts whose recall, less its standard error, reaches the target, that of the fastest
        single query, refine included; where none reaches it, that of the highest recall.
    """
    rows = rows[: len(index)]
    return {
        modality: _tune(index, rows, asked, target_recall, k, read_s)
        for modality, asked in queries.items()
        if len(asked.vectors)
    }


def _tune(
    index: VectorIndex,
    rows: Rows,
    queries: TuningQueries,
    target_recall: float,
    k: int,
    read_s: float,
) -> Effort:
    vectors, sources = queries.vectors, queries.source_rows
    _, exact = nearest(vectors, rows, k + (sources is not None))
    if sources is not None:
        exact = without_sources(exact, sources)

    def seconds(effort: Effort) -> float:
        searching = seconds_of(
            lambda query: search_refined(index, rows, query, k, effort), vectors[:TIMED_QUERIES]
        )
        return searching + k * effort.overfetch * read_s

    return choose_effort(index, vectors, exact, target_recall, seconds)


def choose_effort(
    index: VectorIndex,
    queries: Vectors,
    exact: NDArray[np.int64],
    target_recall: float,
    seconds: Callable[[Effort], float],
) -> Effort:
    """Find the cheapest effort for queries of one modality, as `tune`.

    Args:
        index: what proposes rows.
        queries: (m, d) float32, unit.
        exact: (m, k) rows that exact search finds, -1 where there are fewer.
        target_recall: 0..1.
        seconds: measures a single query with an effort, refine included.
    """
    enough: list[_Point] = []
    best: list[_Point] = []
    for bits in index.query_bits:
        good, highest = _sweep(index, queries, exact, target_recall, bits)
        enough += good
        best.append(highest)
    if not enough:
        return max(best, key=lambda point: point.recall).effort
    return min(enough, key=lambda point: seconds(point.effort)).effort


def _sweep(
    index: VectorIndex,
    vectors: Vectors,
    exact: NDArray[np.int64],
    target_recall: float,
    bits: int | None,
) -> tuple[list[_Point], _Point]:
    """Widen a search until it spares no candidates: points of enough recall, and that of the most.

    exact: (m, k) rows. bits: `Effort.query_bits`.
    """
    k = exact.shape[1]
    enough: list[_Point] = []
    best: _Point | None = None
    for breadth in _breadths(index):
        depth = min(len(index), k * OVERFETCH[-1])
        _, found = index.search(vectors, depth, None, Effort(breadth, query_bits=bits))
        for point in _points(found, exact, breadth, bits):
            if best is None or point.recall > best.recall:
                best = point
            if point.safe_recall >= target_recall:
                enough.append(point)
                break
        if enough and (
            enough[-1].effort.overfetch == OVERFETCH[0]
            or (len(enough) > 2 and enough[-1].effort.overfetch == enough[-2].effort.overfetch)
        ):
            break  # More breadth would not spare candidates.
    if best is None:
        raise ValueError("there is nothing to tune")
    return enough, best


def _points(
    found: NDArray[np.int64], exact: NDArray[np.int64], breadth: int, bits: int | None
) -> Iterator[_Point]:
    """Recall at each over-fetch: refine puts back whatever is among the candidates."""
    k = exact.shape[1]
    for overfetch in OVERFETCH:
        hits = [
            np.isin(want[want >= 0], got[: overfetch * k]).mean()
            for want, got in zip(exact, found, strict=True)
        ]
        error = float(np.std(hits) / np.sqrt(len(hits)))
        yield _Point(Effort(breadth, overfetch, float(np.mean(hits)), bits), error)


def _breadths(index: VectorIndex) -> list[int]:
    """Steps of about the square root of two, up to all lists."""
    limit = index.max_breadth
    if limit >= len(index):
        limit = _MOST_BREADTH_OF_GRAPHS
    steps = {min(limit, round(2 ** (step / 2))) for step in range(2 * limit.bit_length() + 1)}
    return sorted(steps)


def seconds_of(search: Callable[[Vectors], object], queries: Vectors) -> float:
    """Wall time of a single query, the least of a few runs: what disturbs only ever adds."""
    runs = []
    for _ in range(_REPETITIONS):
        start = time.perf_counter()
        for query in queries:
            search(query[None])
        runs.append(time.perf_counter() - start)
    return min(runs) / len(queries)


def without_sources(found: NDArray[np.int64], sources: NDArray[np.int64]) -> NDArray[np.int64]:
    """Lists of one row less: without the row that the query was taken from, or the last."""
    is_source = found == sources[:, None]
    is_source[:, -1] |= ~is_source.any(axis=1)
    others: NDArray[np.int64] = found[~is_source].reshape(len(found), -1)
    return others
