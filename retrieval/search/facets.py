"""Facets: how many items of each year, folder, camera and so on a query or a filter finds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from retrieval.catalog.facets import ColumnFacet, Counts, FileFacets
from retrieval.filters import ColumnValue

DEFAULT_VALUES = 100
MAX_VALUES = 1000
"""Values of a facet, the most frequent."""

OF_FILES = ("years", "months", "folders", "places", "cameras", "kinds", "collections")
"""The facets that are not of columns, in the order in which they are shown."""

_Value = TypeVar("_Value", str, ColumnValue)


@dataclass(frozen=True)
class FacetValue(Generic[_Value]):
    """A value and the number of items that have it."""

    value: _Value
    count: int


@dataclass(frozen=True)
class Facets:
    """Counts of items by value.

    total: number of items. is_partial: whether a query has more hits than were counted. years,
    months: as 2019 and 2019-05, the newest first. folders: absolute paths of sources and the first
    two levels below, by path. The others: the most frequent first.
    """

    total: int
    is_partial: bool = False
    years: tuple[FacetValue[str], ...] = ()
    months: tuple[FacetValue[str], ...] = ()
    folders: tuple[FacetValue[str], ...] = ()
    places: tuple[FacetValue[str], ...] = ()
    cameras: tuple[FacetValue[str], ...] = ()
    kinds: tuple[FacetValue[str], ...] = ()
    collections: tuple[FacetValue[str], ...] = ()
    columns: Mapping[str, tuple[FacetValue[ColumnValue], ...]] = field(default_factory=dict)


def count_facets(
    file_ids: NDArray[np.int64],
    item_ids: NDArray[np.int64],
    files: FileFacets,
    columns: Mapping[str, ColumnFacet],
    collections: ColumnFacet,
    *,
    limit: int = DEFAULT_VALUES,
    is_partial: bool = False,
) -> Facets:
    """Count items.

    Args:
        file_ids: (n,), file of each item.
        item_ids: (n,), the items.
        files: what is known of files.
        columns: what tables say.
        collections: which items are in which collections.
        limit: Maximum number of values of each facet.
        is_partial: whether these are only some of the hits of a query.

    Returns:
        The counts.
    """
    months = files.months.count(file_ids)
    years: dict[str, int] = {}
    for month, count in months:
        year = month.rpartition("-")[0]
        years[year] = years.get(year, 0) + count
    labels = {name: values.count(file_ids) for name, values in files.labels.items()}
    return Facets(
        len(file_ids),
        is_partial,
        years=_in_order(sorted(years.items(), reverse=True), limit),
        months=_in_order(months[::-1], limit),
        folders=_in_order(files.count_folders(file_ids), limit),
        places=_most_frequent(_by_line(labels.get("place", [])), limit),
        cameras=_most_frequent(labels["camera"], limit),
        kinds=_most_frequent(labels["kind"], limit),
        collections=_most_frequent(collections.count(file_ids, item_ids), limit),
        columns={
            name: values
            for name, facet in columns.items()
            if (values := _most_frequent(facet.count(file_ids, item_ids), limit))
        },
    )


def _in_order(counts: Counts, limit: int) -> tuple[FacetValue[str], ...]:
    """Keep the most frequent values, in the order in which they are given."""
    kept = sorted(range(len(counts)), key=lambda place: -counts[place][1])[:limit]
    return tuple(FacetValue(*counts[place]) for place in sorted(kept))


def _by_line(counts: Counts) -> Counts:
    """Count each line of the values."""
    lines: dict[str, int] = {}
    for value, count in counts:
        for line in value.splitlines():
            lines[line] = lines.get(line, 0) + count
    return list(lines.items())


def _most_frequent(counts: list[tuple[Any, int]], limit: int) -> tuple[FacetValue[Any], ...]:
    ordered = sorted(counts, key=lambda counted: (-counted[1], str(counted[0])))
    return tuple(FacetValue(*counted) for counted in ordered[:limit])
