"""Join what shards found: exact scores by their order in one library, counts by their sums."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from retrieval.catalog import Item
from retrieval.search.candidates import RowNumbers, Vector
from retrieval.search.facet_values import FacetQuestion, FacetValues, NestedValue, best_values
from retrieval.search.facets import OF_FILES, Facets, FacetValue
from retrieval.shards.shard import FoundRows


def best_first(
    parts: Sequence[FoundRows],
    scores: Mapping[int, float] | None = None,
    count: int | None = None,
) -> tuple[RowNumbers, Vector, dict[int, tuple[Item, ...]]]:
    """Merge rows of shards, the most similar first; of equals, the older row first.

    scores: order them by these first, by row. count: keep no more rows of each score.

    Returns rows, similarities and the items at each row.
    """
    rows = np.concatenate([part.rows for part in parts])
    similarity = np.concatenate([part.similarity for part in parts])
    items = [at for part in parts for at in part.items]
    first = np.zeros(len(rows))
    if scores is not None:
        first = -np.array([scores[row] for row in rows.tolist()], np.float64)
    order = np.lexsort((rows, -similarity, first))
    if count is not None and len(order):
        _, begins, group = np.unique(first[order], return_index=True, return_inverse=True)
        order = order[np.arange(len(order)) - begins[group] < count]
    at = {int(rows[place]): items[place] for place in order.tolist()}
    return rows[order], similarity[order], at


def merge_facets(parts: Sequence[Facets], limit: int) -> Facets:
    """Add up the counts of shards, each with every value, and keep the most frequent."""
    merged: dict[str, Any] = {}
    for name in OF_FILES:
        counts = _summed([getattr(part, name) for part in parts])
        merged[name] = _kept(name, counts, limit)
    names = dict.fromkeys(name for part in parts for name in part.columns)
    columns = {
        name: _kept("columns", _summed([part.columns.get(name, ()) for part in parts]), limit)
        for name in names
    }
    total = sum(part.total for part in parts)
    is_partial = any(part.is_partial for part in parts)
    return Facets(total, is_partial, **merged, columns=columns)


def _summed(lists: Sequence[Sequence[FacetValue[Any]]]) -> list[FacetValue[Any]]:
    counts: dict[tuple[type, Any], int] = {}
    for counted in (value for values in lists for value in values):
        key = type(counted.value), counted.value  # True is not 1
        counts[key] = counts.get(key, 0) + counted.count
    return [FacetValue(value, count) for (_, value), count in counts.items()]


def _kept(name: str, counts: list[FacetValue[Any]], limit: int) -> tuple[FacetValue[Any], ...]:
    """Keep the most frequent values, dates newest first and folders by path, as `count_facets`."""
    if name in {"years", "months", "folders"}:
        ordered = sorted(counts, key=lambda one: str(one.value), reverse=name != "folders")
        best = sorted(range(len(ordered)), key=lambda place: -ordered[place].count)[:limit]
        return tuple(ordered[place] for place in sorted(best))
    ordered = sorted(counts, key=lambda one: (-one.count, str(one.value)))
    return tuple(ordered[:limit])


def merge_values(asked: FacetQuestion, parts: Sequence[FacetValues]) -> FacetValues:
    """Add up the values of a facet of shards, each with every value."""
    merged: dict[tuple[Any, ...], NestedValue] = {}
    for value in (value for part in parts for value in part.values):
        key = (type(value.value), value.value, value.within)
        known = merged.get(key)
        merged[key] = (
            value
            if known is None
            else replace(
                known,
                count=known.count + value.count,
                has_more=known.has_more or value.has_more,
            )
        )
    best, left_out = best_values(asked, list(merged.values()))
    return FacetValues(
        sum(part.total for part in parts),
        best,
        left_out + sum(part.left_out for part in parts),
        any(part.is_partial for part in parts),
    )
