"""Recall of filtered search: how much of what passes a filter the index still finds.

Filters are what other engines lose recall with: the few rows that pass may lie in lists that are
far from the query. Three kinds are measured at each selectivity, the share of rows that passes:
`none`, any rows; `near`, the rows most similar to the query's best one, as in a folder of such
pictures; `far`, the rows most similar to a row drawn at random, most often unlike the query.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.embeddings import Rows
from retrieval.encoders.base import Vectors
from retrieval.indices.searcher import Searcher
from retrieval.media import Modality

SELECTIVITIES = (0.5, 0.1, 0.01, 0.001, 0.0001)
CORRELATIONS = ("none", "near", "far")

_BLOCK_ROWS = 16_384


@dataclass(frozen=True)
class FilterRecall:
    """Mean recall@k of single queries under filters, 0..1, and their median time in milliseconds.

    worst: the least recall of a query. correlation: of the filter with the query.
    """

    query_modality: str
    correlation: str
    selectivity: float
    recall: float
    worst: float
    median_ms: float


def filter_recall(
    searcher: Searcher,
    queries: Vectors,
    query_modality: Modality = Modality.TEXT,
    *,
    k: int = 10,
    selectivities: Sequence[float] = SELECTIVITIES,
    seed: int = 0,
) -> list[FilterRecall]:
    """Measure each kind of filter at each selectivity with (m, d) unit queries, one by one.

    Takes 8 bytes of memory a row and query: tens of queries at a million rows.

    Args:
        searcher: the searcher to measure.
        queries: (m, d) float32, unit.
        query_modality: of the queries, as the index is tuned for each.
        k: length of the result lists.
        selectivities: shares of the rows that pass a filter, 0 to 1.
        seed: of the random filters.
    """
    rows = searcher.rows
    similarity = _similarity(queries, rows)
    measured = []
    for correlation in CORRELATIONS:
        closeness = _closeness(correlation, rows, similarity, seed)
        for selectivity in selectivities:
            passing = max(1, round(selectivity * len(rows)))
            recalls, seconds = [], []
            for query, scores, close in zip(queries, similarity, closeness, strict=True):
                allowed = np.zeros(len(rows), dtype=np.bool_)
                allowed[np.argpartition(-close, passing - 1)[:passing]] = True
                start = time.perf_counter()
                _, [found] = searcher.search(query[np.newaxis], k, allowed, query_modality)
                seconds.append(time.perf_counter() - start)
                recalls.append(_recall(found, scores, allowed, k))
            measured.append(
                FilterRecall(
                    query_modality,
                    correlation,
                    selectivity,
                    float(np.mean(recalls)),
                    min(recalls),
                    1000 * float(np.median(seconds)),
                )
            )
    return measured


def _closeness(
    correlation: str, rows: Rows, similarity: NDArray[np.float32], seed: int
) -> NDArray[np.float32]:
    """By what rows pass the filter of each query, the highest first, (m, n)."""
    random = np.random.default_rng(seed)
    if correlation == "none":
        return random.random(similarity.shape, dtype=np.float32)
    if correlation == "near":
        anchors = similarity.argmax(axis=1)
    else:
        anchors = random.choice(len(rows), len(similarity))
    return _similarity(rows[anchors].astype(np.float32), rows)


def _similarity(queries: Vectors, rows: Rows) -> NDArray[np.float32]:
    """Inner products, (m, n), without a copy of all rows."""
    found = np.empty((len(queries), len(rows)), dtype=np.float32)
    for first in range(0, len(rows), _BLOCK_ROWS):
        block = rows[first : first + _BLOCK_ROWS].astype(np.float32)
        found[:, first : first + _BLOCK_ROWS] = queries @ block.T
    return found


def _recall(
    found: NDArray[np.int64], scores: NDArray[np.float32], allowed: NDArray[np.bool_], k: int
) -> float:
    """Share of the best k rows that pass which were found; a row as good as the last counts."""
    passing = np.flatnonzero(allowed)
    wanted = min(k, len(passing))
    last = -np.partition(-scores[passing], wanted - 1)[wanted - 1]
    named = found[found >= 0]
    if not allowed[named].all():
        raise AssertionError("a row was found that does not pass the filter")
    return float(np.count_nonzero(scores[named] >= last - 1e-6)) / wanted
