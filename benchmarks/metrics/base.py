"""Ranks of the relevant items of each query: the input of all metrics."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import UsageError

Qrels = dict[str, dict[str, int]]
"""Relevance judgements: {query id: {item id: gain}}. A gain of 0 or less: not relevant."""

Run = dict[str, dict[str, float]]
"""Results: {query id: {item id: score}}, in any order, finite scores."""

PerQuery = NDArray[np.float64]
"""(q,) float64, one value per query, in the order of `Judgments.query_ids`."""

Scores = NDArray[np.floating[Any]]
"""(b, n) floats, one row per query and one column per item."""


@dataclass(frozen=True, eq=False)
class Judgments:
    """The ranks of the relevant items of q queries, as made by `judge` and `judge_scores`.

    - `query_ids`: the queries that have a relevant item, in the order of the qrels. There is at
      least one.
    - `offsets`, (q + 1,) int64: query i owns `ranks` and `gains` from offsets[i] to offsets[i + 1],
      and these are never empty.
    - `ranks`, (m,) float64: ascending within a query, 1 for the first item of its list. A relevant
      item that was not found has rank infinity.
    - `gains`, (m,) float64: the gains of the same items, all greater than 0.
    - `ranked`, (q,) int64: length of the ranked list of the query.
    - `without_relevant`: queries of the qrels without a relevant item, which are excluded from all
      metrics.
    """

    query_ids: tuple[str, ...]
    offsets: NDArray[np.int64]
    ranks: NDArray[np.float64]
    gains: NDArray[np.float64]
    ranked: NDArray[np.int64]
    without_relevant: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.query_ids)

    @cached_property
    def relevant(self) -> NDArray[np.int64]:
        """Number of relevant items of each query, found or not: (q,) int64, all at least 1."""
        return np.diff(self.offsets)

    @cached_property
    def first_ranks(self) -> PerQuery:
        """Rank of each query's first relevant item: (q,) float64, infinity if none was found."""
        return self.ranks[self.offsets[:-1]]

    @cached_property
    def queries(self) -> NDArray[np.int64]:
        """Index of the query of each entry of `ranks`: (m,) int64, ascending."""
        return np.repeat(np.arange(len(self)), self.relevant)

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """1 for a query's first relevant item, 2 for its second: (m,) int64."""
        return np.arange(1, len(self.ranks) + 1) - self.offsets[self.queries]

    def sum(self, values: NDArray[Any]) -> PerQuery:
        """Sum (m,) values of the relevant items per query."""
        return np.add.reduceat(values, self.offsets[:-1], dtype=np.float64)


@dataclass(frozen=True)
class _Found:
    """The ranks of one query's relevant items, in the order of the qrels."""

    ranks: NDArray[np.float64]
    ranked: int


def judge(qrels: Qrels, run: Run) -> Judgments:
    """Find the ranks of the relevant items in a run. Neither argument is changed.

    Items are ranked by score, descending; equal scores by item id, descending as strings. This is
    the rule of trec_eval, except that trec_eval keeps scores in single precision and so sees ties
    between scores that differ by less. A query that the run lacks found nothing; a query that the
    qrels lack is ignored; one without a relevant item is excluded and listed in
    `Judgments.without_relevant`.

    Raises UsageError for scores that are not finite, or if no query has a relevant item.
    """
    judged: dict[str, _Found] = {}
    for query, gains in qrels.items():
        hits = run.get(query)
        if not hits:
            continue
        if not all(map(math.isfinite, hits.values())):
            item = next(item for item, score in hits.items() if not math.isfinite(score))
            raise UsageError(f"The score of {item!r} for query {query!r} is {hits[item]}.")
        # Both sorts are stable, so that the order of the ids remains among equal scores.
        ranking = sorted(sorted(hits, reverse=True), key=hits.__getitem__, reverse=True)
        rank_of = {item: rank for rank, item in enumerate(ranking, start=1) if item in gains}
        ranks = [rank_of.get(item, math.inf) for item in _relevant_items(gains)]
        judged[query] = _Found(np.array(ranks, dtype=np.float64), len(hits))
    return _assemble(qrels, judged)


def judge_scores(
    qrels: Qrels,
    query_ids: Sequence[str],
    item_ids: Sequence[str],
    scores: Scores | Iterable[Scores],
) -> Judgments:
    """Find the ranks of the relevant items in scores of every query with every item.

    The result equals that of `judge` on the same scores as a run, including ties, with one sort per
    row, O(n log n), instead of dictionaries.

    Args:
        qrels: relevant items of each query.
        query_ids: of the rows of `scores`.
        item_ids: of the columns of `scores`.
        scores: (len(query_ids), len(item_ids)) floats, or an iterable of blocks of its rows: a
            generator of blocks keeps memory bounded. They are compared in their own precision. A
            score of -inf excludes an item from a query's list, such as the query itself in
            image-to-image search.

    Raises:
        UsageError: NaN, +inf, repeated ids, or no query has a relevant item.
        ValueError: scores of another shape.
    """
    column_of = _numbered(item_ids, "item")
    _numbered(query_ids, "query")
    tie_places = np.empty(len(item_ids), dtype=np.int64)
    tie_places[sorted(column_of.values(), key=item_ids.__getitem__, reverse=True)] = np.arange(
        len(item_ids)
    )
    judged: dict[str, _Found] = {}
    done = 0
    for block in [scores] if isinstance(scores, np.ndarray) else scores:
        if block.ndim != 2 or block.shape[1] != len(item_ids):
            raise ValueError(f"expected scores of {len(item_ids)} items, got {block.shape}")
        for query, row in zip(query_ids[done : done + len(block)], block, strict=False):
            if query not in qrels:
                continue
            items = _relevant_items(qrels[query])
            columns = np.array([column_of.get(item, -1) for item in items], dtype=np.int64)
            judged[query] = _rank_columns(row, columns, tie_places, query)
        done += len(block)
    if done != len(query_ids):
        raise ValueError(f"expected scores of {len(query_ids)} queries, got {done}")
    return _assemble(qrels, judged)


def _relevant_items(gains: Mapping[str, int]) -> list[str]:
    return [item for item, gain in gains.items() if gain > 0]


def _numbered(ids: Sequence[str], what: str) -> dict[str, int]:
    place_of = {name: place for place, name in enumerate(ids)}
    if len(place_of) != len(ids):
        repeated = next(name for place, name in enumerate(ids) if place_of[name] != place)
        raise UsageError(f"The {what} id {repeated!r} occurs twice: ids must be unique.")
    return place_of


def _rank_columns(
    row: Scores, columns: NDArray[np.int64], tie_places: NDArray[np.int64], query: str
) -> _Found:
    """Rank some columns of one row; column -1 stands for an item that has none."""
    ordered = np.sort(row)
    if len(row) and not ordered[-1] < np.inf:  # NaN is sorted last
        raise UsageError(f"A score of query {query!r} is {ordered[-1]}.")
    ranks = np.full(len(columns), np.inf)
    left_out = row.dtype.type(-np.inf)  # a scalar of another type would copy the row
    present = np.flatnonzero(columns >= 0)
    present = present[row[columns[present]] > left_out]
    columns = columns[present]
    wanted = row[columns]
    up_to = np.searchsorted(ordered, wanted, side="right")
    ahead = len(row) - up_to
    tied = up_to - np.searchsorted(ordered, wanted, side="left") > 1
    for score in np.unique(wanted[tied]):
        peers = np.sort(tie_places[row == score])
        mine = wanted == score
        ahead[mine] += np.searchsorted(peers, tie_places[columns[mine]])
    ranks[present] = ahead + 1
    return _Found(ranks, len(row) - int(np.searchsorted(ordered, left_out, side="right")))


def _assemble(qrels: Qrels, judged: Mapping[str, _Found]) -> Judgments:
    query_ids, without_relevant = [], []
    ranks, gains, ranked = [], [], []
    for query, gain_of in qrels.items():
        relevant = [float(gain) for gain in gain_of.values() if gain > 0]
        if not relevant:
            without_relevant.append(query)
            continue
        found = judged.get(query) or _Found(np.full(len(relevant), np.inf), 0)
        query_ids.append(query)
        ranks.append(found.ranks)
        gains.append(np.array(relevant))
        ranked.append(found.ranked)
    if not query_ids:
        raise UsageError("No query has a relevant item: there is nothing to measure.")
    offsets = np.cumsum([0, *map(len, ranks)], dtype=np.int64)
    all_ranks, all_gains = np.concatenate(ranks), np.concatenate(gains)
    order = np.lexsort((-all_gains, all_ranks, np.repeat(np.arange(len(ranks)), np.diff(offsets))))
    return Judgments(
        query_ids=tuple(query_ids),
        offsets=offsets,
        ranks=all_ranks[order],
        gains=all_gains[order],
        ranked=np.array(ranked, dtype=np.int64),
        without_relevant=tuple(without_relevant),
    )
