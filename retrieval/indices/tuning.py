"""The cheapest settings that reach a wanted recall, found by measurement."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.embeddings import Rows
from retrieval.encoders.base import Vectors
from retrieval.indices.base import SearchSettings, TunableIndex
from retrieval.indices.exact import nearest

OVERFETCH = (1, 2, 3, 5, 10, 20, 40)

_TIMED_QUERIES = 50
_REPETITIONS = 3


@dataclass(frozen=True)
class _Point:
    """Settings whose recall is known, and its standard error."""

    settings: SearchSettings
    error: float

    @property
    def safe_recall(self) -> float:
        """What other queries of the same kind reach as well, as a rule."""
        return (self.settings.recall or 0.0) - self.error


def tune(
    index: TunableIndex,
    rows: Rows,
    queries: Mapping[str, Vectors],
    target_recall: float,
    k: int = 10,
    *,
    own_rows: Mapping[str, NDArray[np.int64]] | None = None,
) -> dict[str, SearchSettings]:
    """Find settings for each modality of queries by comparison with exact search.

    rows: the (n, d) that the index covers. queries: (m, d) by modality; a few hundred each.
    own_rows: by modality, the row that each query was taken from, (m,); it does not count as found.
    Recall@k is that after exact refine. Among settings whose recall, less its standard error,
    reaches the target, those with the fastest single query, refine included, are taken; where none
    reach it, those of the highest recall.
    """
    rows = rows[: len(index)]
    return {
        modality: _tune(
            index, rows, vectors, target_recall, k, None if own_rows is None else own_rows[modality]
        )
        for modality, vectors in queries.items()
        if len(vectors)
    }


def _tune(
    index: TunableIndex,
    rows: Rows,
    queries: Vectors,
    target_recall: float,
    k: int,
    own_rows: NDArray[np.int64] | None,
) -> SearchSettings:
    _, exact = nearest(queries, rows, k + (own_rows is not None))
    if own_rows is not None:
        exact = _without(exact, own_rows)
    enough: list[_Point] = []
    best: _Point | None = None
    for nprobe in _probes(index):
        depth = min(len(rows), k * OVERFETCH[-1])
        _, found = index.search(queries, depth, parameters=SearchSettings(nprobe))
        for point in _points(found, exact, nprobe, k):
            if best is None or (point.settings.recall or 0) > (best.settings.recall or 0):
                best = point
            if point.safe_recall >= target_recall:
                enough.append(point)
                break
        if enough and (
            enough[-1].settings.overfetch == OVERFETCH[0]
            or (len(enough) > 2 and enough[-1].settings.overfetch == enough[-2].settings.overfetch)
        ):
            break  # More probes would not spare candidates.
    if not enough:
        if best is None:
            raise ValueError("there is nothing to tune")
        return best.settings
    return min(enough, key=lambda point: _seconds(index, rows, queries, point.settings, k)).settings


def _points(
    found: NDArray[np.int64], exact: NDArray[np.int64], nprobe: int, k: int
) -> Iterator[_Point]:
    """Recall at each over-fetch: refine puts back whatever is among the candidates."""
    for overfetch in OVERFETCH:
        hits = [
            np.isin(want[want >= 0], got[: overfetch * k]).mean()
            for want, got in zip(exact, found, strict=True)
        ]
        error = float(np.std(hits) / np.sqrt(len(hits)))
        yield _Point(SearchSettings(nprobe, overfetch, float(np.mean(hits))), error)


def _probes(index: TunableIndex) -> list[int]:
    """Steps of about the square root of two, up to all lists."""
    limit = index.lists or 1024
    steps = {min(limit, round(2 ** (step / 2))) for step in range(2 * limit.bit_length() + 1)}
    return sorted(steps)


def _seconds(
    index: TunableIndex, rows: Rows, queries: Vectors, settings: SearchSettings, k: int
) -> float:
    """Wall time of a single query, the least of a few runs: what disturbs only ever adds."""
    timed = queries[:_TIMED_QUERIES]
    runs = []
    for _ in range(_REPETITIONS):
        start = time.perf_counter()
        for query in timed:
            _, [found] = index.search(query[None], k * settings.overfetch, parameters=settings)
            nearest(query[None], rows, k, found[found >= 0])
        runs.append(time.perf_counter() - start)
    return min(runs) / len(timed)


def _without(found: NDArray[np.int64], own_rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Lists of one row less: without the query's own row, or the last."""
    is_own = found == own_rows[:, None]
    is_own[:, -1] |= ~is_own.any(axis=1)
    others: NDArray[np.int64] = found[~is_own].reshape(len(found), -1)
    return others
