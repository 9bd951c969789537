"""Over-fetch and exact refine: from the candidates that an index proposes to the best k rows.

The only over-fetch and exact refine of an index; searches, tuning and benchmarks call them.
"""

import math

import numpy as np
from numpy.typing import NDArray

from retrieval.embeddings import Rows
from retrieval.encoders.base import Vectors
from retrieval.indices.base import AllowedRows, Effort, Found, VectorIndex, nothing_found
from retrieval.indices.exact import nearest

FILTER_MARGIN = 1.5
"""Candidates fetched for each that is likely to pass a filter, where the index cannot filter."""

_MOST_CANDIDATES = 20_000
"""Candidates to refine a query, unless more hits are wanted."""

_TUNED_K = 10
_BREADTH_BY_K = 0.6
"""More hits lie in more lists: the breadth grows with this power of the wanted hits (measured)."""


def refine(
    vector: NDArray[np.float32], rows: NDArray[np.int64], embeddings: Rows, k: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Score candidate rows exactly from the embeddings, and keep the best k; None: all.

    vector: (d,); rows: (c,) distinct; embeddings: (n, d) float16. Returns rows, best first, and
    float32 inner products. Equal scores are ordered by row, the older first.
    """
    [scores], [found] = nearest(vector[np.newaxis], embeddings, len(rows), among=rows)
    order = np.lexsort((found, -scores))[:k]
    return found[order], scores[order]


def refine_all(queries: Vectors, candidates: NDArray[np.int64], k: int, embeddings: Rows) -> Found:
    """Refine the candidates, (m, c) rows and -1, of each of m queries, and keep the best k."""
    scores, rows = nothing_found(len(queries), k)
    for query, proposed in enumerate(candidates):
        best, best_scores = refine(queries[query], proposed[proposed >= 0], embeddings, k)
        rows[query, : len(best)], scores[query, : len(best)] = best, best_scores
    return scores, rows


def search_refined(
    index: VectorIndex,
    embeddings: Rows,
    queries: Vectors,
    k: int,
    effort: Effort,
    allowed: AllowedRows | None = None,
) -> Found:
    """Find the best k rows for each query with one effort, exact scores from the embeddings.

    An index that refines by itself is searched as it is.
    """
    available = len(index) if allowed is None else allowed.count
    if not available:
        return nothing_found(len(queries), k)
    fetch = _fetch(index, k, effort, available)
    found = search_index(index, queries, fetch, allowed, effort)
    if index.capabilities.refines:
        return found
    return refine_all(queries, found[1], k, embeddings)


def propose_rows(
    index: VectorIndex,
    queries: Vectors,
    k: int,
    allowed: AllowedRows | None,
    effort: Effort,
) -> NDArray[np.int64]:
    """Propose candidates for each query: (m, c) rows and -1, at least k unless there are fewer.

    effort: as tuned for lists of 10; it is raised for longer lists, and while these are not full.
    """
    available = len(index) if allowed is None else allowed.count
    wanted = min(k, available)
    if wanted == 0:
        return np.empty((len(queries), 0), dtype=np.int64)
    fetch = _fetch(index, k, effort, available)
    effort = effort.widened(max(1.0, k / _TUNED_K) ** _BREADTH_BY_K)
    while True:
        rows = search_index(index, queries, fetch, allowed, effort)[1]
        if effort.breadth >= index.max_breadth or (rows[:, wanted - 1] >= 0).all():
            return rows
        effort = effort.widened(4)


def search_index(
    index: VectorIndex, queries: Vectors, k: int, allowed: AllowedRows | None, effort: Effort
) -> Found:
    """Search an index as `VectorIndex.search` does, also where it cannot filter by itself.

    Such an index is searched for longer and longer lists, and other rows are dropped from them.
    """
    if allowed is None or index.capabilities.filters:
        return index.search(queries, k, allowed, effort)
    wanted, fetch = min(k, allowed.count), filtered_fetch(k, allowed)
    if not wanted:
        return nothing_found(len(queries), k)
    while True:
        found = keep_allowed(index.search(queries, fetch, None, effort), k, allowed)
        is_all = fetch >= len(index) and effort.breadth >= index.max_breadth
        if is_all or (found[1][:, wanted - 1] >= 0).all():
            return found
        fetch = min(len(index), 4 * fetch)
        effort = effort.widened(4)


def filtered_fetch(k: int, allowed: AllowedRows) -> int:
    """Estimate the length of a list that holds k allowed rows; at most that of the index."""
    rows = len(allowed.bitmap)
    if not allowed.count:
        return 0
    share = allowed.count / rows
    return min(rows, math.ceil(min(k, allowed.count) / share * FILTER_MARGIN))


def keep_allowed(found: Found, k: int, allowed: AllowedRows) -> Found:
    """Keep the first k allowed rows of longer lists."""
    scores, rows = nothing_found(len(found[1]), k)
    passes = (found[1] >= 0) & allowed.bitmap[found[1]]
    first = np.argsort(~passes, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(passes, first, axis=1)
    width = first.shape[1]
    scores[:, :width] = np.where(kept, np.take_along_axis(found[0], first, axis=1), -np.inf)
    rows[:, :width] = np.where(kept, np.take_along_axis(found[1], first, axis=1), -1)
    return scores, rows


def probes_for(nprobe: int, selectivity: float) -> int:
    """Return the number of lists to visit where this share of the rows, 0..1, is allowed.

    The best of a share s of the rows are among the best k/s of all, which lie in more lists, but
    not in 1/s times as many. With the power 1/2, recall@10 among a million rows fell to 0.94 where
    the filter and the query were of different topics; 1 cost twice as much as 3/4 for 0.01 more.
    """
    return math.ceil(nprobe * math.pow(max(selectivity, 1e-4), -0.75))


def _fetch(index: VectorIndex, k: int, effort: Effort, available: int) -> int:
    if index.capabilities.refines:
        return k
    overfetched = min(max(k, _TUNED_K) * effort.overfetch, _MOST_CANDIDATES)
    return min(available, max(k, overfetched))
