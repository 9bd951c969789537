"""The values of one facet, level by level or by a part of their names, where there are many."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.catalog.facets import ColumnFacet, Counts, FileFacets
from retrieval.errors import UsageError
from retrieval.filters import ColumnValue
from retrieval.search.facets import DEFAULT_VALUES, OF_FILES

COLUMN = "columns."
"""Before the name of a table column, in the name of its facet."""


@dataclass(frozen=True)
class FacetQuestion:
    """Which values of which facet are wanted.

    facet: one of `OF_FILES`, or `columns.` and the name of a table column. below: the larger values
    that they are in, outermost first: the year of months; the path of a folder; a country and a
    region. Without any, years, sources and countries are listed. contains: a part of their names,
    in any case; those of all levels are looked through then. limit: Maximum number of values.

    Raises UsageError for what is no facet, and for more levels than it has.
    """

    facet: str
    below: tuple[str, ...] = ()
    contains: str = ""
    limit: int = DEFAULT_VALUES

    def __post_init__(self) -> None:
        if self.facet not in OF_FILES and self.column is None:
            raise UsageError(
                f"The facets are {', '.join(OF_FILES)} and {COLUMN}NAME, not {self.facet!r}."
            )
        levels = {"months": 1, "folders": 1, "places": 2}.get(self.facet, 0)
        if len(self.below) > levels:
            raise UsageError(
                f"{self.facet} can be below {levels or 'no'} value{'s' * (levels != 1)}, not "
                f"{len(self.below)}."
            )

    @property
    def column(self) -> str | None:
        """Name of the table column whose values are wanted; None: a facet of files."""
        return self.facet.removeprefix(COLUMN) if self.facet.startswith(COLUMN) else None


@dataclass(frozen=True)
class NestedValue:
    """A value and the number of items that have it.

    within: the larger values it is in, outermost first, of places. has_more: whether smaller ones
    are in it.
    """

    value: ColumnValue
    count: int
    within: tuple[str, ...] = ()
    has_more: bool = False


@dataclass(frozen=True)
class FacetValues:
    """Values of a facet. total: items that were counted. left_out: values beyond the limit.

    is_partial: whether a query has more hits than were counted.
    """

    total: int
    values: tuple[NestedValue, ...]
    left_out: int = 0
    is_partial: bool = False


def list_values(
    asked: FacetQuestion,
    file_ids: NDArray[np.int64],
    item_ids: NDArray[np.int64],
    files: FileFacets,
    columns: Mapping[str, ColumnFacet],
    collections: ColumnFacet,
) -> FacetValues:
    """Count the items of values.

    Args:
        asked: the values.
        file_ids: (n,), file of each item.
        item_ids: (n,), the items.
        files: what is known of files.
        columns: what tables say, of the column that is asked for at least.
        collections: which items are in which collections.

    Returns:
        The values: dates newest first, folders by path, the others the most frequent first.
    """
    holds = _test_of(asked.contains)
    found: list[NestedValue]
    if asked.column is not None:
        column = columns.get(asked.column)
        counted = column.count(file_ids, item_ids) if column else []
        found = [NestedValue(value, count) for value, count in counted if holds(str(value))]
    elif asked.facet == "collections":
        counted = collections.count(file_ids, item_ids)
        found = [NestedValue(value, count) for value, count in counted if holds(str(value))]
    elif asked.facet in {"years", "months"}:
        found = _dates(asked, files.months.count(file_ids), holds)
    elif asked.facet == "folders":
        found = _folders(asked, files, files.folders.count(file_ids), holds)
    elif asked.facet == "places":
        found = _places(asked, files.labels["place"].count(file_ids), holds)
    else:
        labels = files.labels[asked.facet.removesuffix("s")]
        found = [NestedValue(*pair) for pair in labels.count(file_ids) if holds(pair[0])]
    best, left_out = best_values(asked, found)
    return FacetValues(len(file_ids), best, left_out)


def best_values(
    asked: FacetQuestion, found: Sequence[NestedValue]
) -> tuple[tuple[NestedValue, ...], int]:
    """Keep the most frequent values, in the order of their facet, and count those left out."""
    best = sorted(found, key=lambda value: (-value.count, str(value.value)))[: asked.limit]
    if asked.facet == "folders":
        best.sort(key=lambda value: str(value.value))
    elif asked.facet in {"years", "months"}:
        best.sort(key=lambda value: str(value.value), reverse=True)
    return tuple(best), len(found) - len(best)


def _test_of(part: str) -> Callable[[str], bool]:
    folded = part.casefold()
    return lambda name: folded in name.casefold()


def _dates(asked: FacetQuestion, months: Counts, holds: Callable[[str], bool]) -> list[NestedValue]:
    dates = months
    if asked.facet == "years":
        dates = list(_summed((month.rpartition("-")[0], count) for month, count in months).items())
    year = "".join(f"{year}-" for year in asked.below)
    return [
        NestedValue(date, count) for date, count in dates if date.startswith(year) and holds(date)
    ]


def _summed(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value, count in pairs:
        counts[value] = counts.get(value, 0) + count
    return counts


def _folders(
    asked: FacetQuestion, files: FileFacets, counted: Counts, holds: Callable[[str], bool]
) -> list[NestedValue]:
    """List the sources, the folders in a folder, or those below with a part in their names."""
    counts: dict[str, int] = {}
    larger: set[str] = set()
    roots = [path.rstrip(os.sep) for path in asked.below] or _outermost(files.sources)
    starts = [f"{root}{os.sep}" for root in roots]
    for folder, count in counted:
        start = next((start for start in starts if folder.startswith(start)), None)
        if start is None:
            continue
        inside = folder[len(start) : -1]
        shown: Iterable[str]
        if asked.contains:
            shown = _ancestors(start, inside, holds)
        elif asked.below:
            name = inside.partition(os.sep)[0]
            shown = [start + name] if name else []
        else:
            shown = [start[:-1] or os.sep]
        for path in shown:
            counts[path] = counts.get(path, 0) + count
            if len(folder) > len(path) + 1:
                larger.add(path)
    return [NestedValue(path, count, has_more=path in larger) for path, count in counts.items()]


def _ancestors(start: str, inside: str, holds: Callable[[str], bool]) -> Iterator[str]:
    """Yield a folder and those above it that have a name that is wanted. inside: "a/b"."""
    end = len(start)
    for name in filter(None, inside.split("/")):
        end += len(name)
        if holds(name):
            yield (start + inside)[:end]
        end += 1


def _outermost(sources: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for source in sorted(sources):
        if not any(source.startswith(outer + os.sep) for outer in kept):
            kept.append(source)
    return kept


def _places(
    asked: FacetQuestion, counted: Counts, holds: Callable[[str], bool]
) -> list[NestedValue]:
    """List countries, the regions of one, the cities of a region, or names with some part."""
    counts: dict[tuple[str, ...], int] = {}
    larger: set[tuple[str, ...]] = set()
    for lines, count in counted:
        *smaller, country = lines.splitlines()
        names = (country, *smaller[-1:], *smaller[:-1][:1])
        if asked.contains:
            inside = names[:2]
            levels = [names[:1], inside, *((*inside, name) for name in smaller[:-1])]
            wanted = {level for level in levels if holds(level[-1])}
        else:
            depth = len(asked.below)
            is_below = len(names) > depth and names[:depth] == asked.below
            wanted = {names[: depth + 1]} if is_below else set()
        for level in wanted:
            counts[level] = counts.get(level, 0) + count
        larger.update(names[:level] for level in range(1, len(names)))
    return [
        NestedValue(names[-1], count, names[:-1], names in larger)
        for names, count in counts.items()
    ]
