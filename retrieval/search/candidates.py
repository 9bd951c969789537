"""The items most similar to queries: candidates, refine, and what the catalog has at their rows.

Many queries are answered together: one call of the index, one of the catalog.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from retrieval.catalog import Item, Modality
from retrieval.filters import Filter
from retrieval.indices.refine import refine
from retrieval.indices.searcher import Searcher
from retrieval.search.row_sets import RowSet
from retrieval.search.timer import StageClock

_SPARE_ROWS = 8
"""Rows beyond those wanted, for removed files may have taken the place of some."""

ItemsAt = Callable[[Filter | None, Sequence[int]], dict[int, tuple[Item, ...]]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An item, the row of its vector, and its cosine with a query, -1..1."""

    item: Item
    row: int
    similarity: float


@dataclass(frozen=True)
class Wanted:
    """The most similar items for one query.

    vector: (d,) float32, unit. query_modality: where it comes from, as the index is tuned for it.
    count: how many items. row_count: rows that are searched. allowed: which of them may be found;
    None: all. is_live: whether those are known to hold current items. where: what items must be
    like: copies of a file share a row, and may lie in different folders.
    """

    vector: NDArray[np.float32]
    query_modality: str
    count: int
    row_count: int
    allowed: RowSet | None = None
    is_live: bool = False
    where: Filter | None = None


@dataclass(frozen=True)
class Nearest:
    """Candidates, the most similar first; of equals, the older row first.

    is_all: there are no others.
    """

    candidates: tuple[Candidate, ...]
    is_all: bool


def nearest_items(
    searcher: Searcher,
    wanted: Sequence[Wanted],
    items_at: ItemsAt,
    live_rows: Callable[[], RowSet],
    clock: StageClock,
) -> list[Nearest]:
    """Find the most similar items for each of several queries.

    searcher: of their modality, refreshed. live_rows: tells which rows hold current items; called
    only where those that do not took the place of what is wanted.
    """
    found: list[Nearest | None] = [None] * len(wanted)
    pending = dict(enumerate(wanted))
    while pending:
        with clock("candidates"):
            proposed = _propose(searcher, pending)
        with clock("refine"):
            scored = {
                place: _best(one, proposed[place], searcher) for place, one in pending.items()
            }
        with clock("catalog"):
            rows: dict[Filter | None, set[int]] = {}
            for place, (best, _) in scored.items():
                rows.setdefault(pending[place].where, set()).update(best.tolist())
            items = {where: items_at(where, sorted(some)) for where, some in rows.items()}
        repeated = {}
        for place, one in pending.items():
            best, cosines = scored[place]
            candidates = [
                Candidate(item, row, similarity)
                for row, similarity in zip(best.tolist(), cosines.tolist(), strict=True)
                for item in items[one.where][row]
            ]
            were_all_scored = _spare(one.count) >= _available(one)
            if len(candidates) >= one.count or one.is_live or were_all_scored:
                is_all = len(candidates) <= one.count and (
                    were_all_scored or len(candidates) < one.count
                )
                found[place] = Nearest(tuple(candidates[: one.count]), is_all)
                continue
            with clock("catalog"):
                live = live_rows()
            # What was committed since the query began may be among the live rows: left out here.
            allowed = live[: one.row_count]
            if one.allowed is not None:
                allowed = allowed & one.allowed[: len(allowed)]
            repeated[place] = replace(one, allowed=allowed, is_live=True)
        pending = repeated
    return [nearest for nearest in found if nearest is not None]


def similarities(
    vector: NDArray[np.float32], rows: Sequence[int], searcher: Searcher
) -> dict[int, float]:
    """Exact cosines of a query with some rows, by row."""
    if not rows:
        return {}
    found, scores = refine(vector, np.array(sorted(set(rows)), np.int64), searcher.rows)
    return dict(zip(found.tolist(), scores.tolist(), strict=True))


def _propose(searcher: Searcher, wanted: dict[int, Wanted]) -> dict[int, NDArray[np.int64]]:
    """Rows for each query; those that are searched for alike go through the index together."""
    alike: dict[tuple[str, int, int], list[int]] = {}
    for place, one in wanted.items():
        key = (one.query_modality, _spare(one.count), id(one.allowed))
        alike.setdefault(key, []).append(place)
    proposed: dict[int, NDArray[np.int64]] = {}
    for (query_modality, count, _), places in alike.items():
        vectors = np.stack([wanted[place].vector for place in places])
        allowed = wanted[places[0]].allowed
        found = searcher.candidates(vectors, count, allowed, Modality(query_modality))
        proposed.update(zip(places, found, strict=True))
    return proposed


def _best(
    one: Wanted, proposed: NDArray[np.int64], searcher: Searcher
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    rows, scores = refine(one.vector, proposed[proposed >= 0], searcher.rows)
    count = _spare(one.count)
    return rows[:count], scores[:count]


def _spare(count: int) -> int:
    return count + max(_SPARE_ROWS, count // 4)


def _available(one: Wanted) -> int:
    return one.row_count if one.allowed is None else int(np.count_nonzero(one.allowed))
