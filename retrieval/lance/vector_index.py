"""The index of a table's vectors: what it is, and how hard to search it."""

import os
from dataclasses import dataclass
from typing import Any

from retrieval.lance.schema import VECTOR
from retrieval.lance.table import LanceTable

REFINE = 20
"""Candidates compared exactly for each that is wanted."""

_LEAST_PROBES = 32
_SHARE_OF_LISTS = 1 / 8
_TUNED_K = 10
_BREADTH_BY_K = 0.6
"""More hits lie in more lists: as of the indices of this machine."""


@dataclass(frozen=True, slots=True)
class TableIndex:
    """An index of a table, of a column.

    kind: as Lance names it. rows: covered by it. metric, partitions: of an index of
    vectors.
    """

    name: str
    column: str
    kind: str
    rows: int
    metric: str | None = None
    partitions: int | None = None

    def probes(self, k: int) -> int:
        """Return the number of lists to search for k items."""
        lists = self.partitions or 1
        wanted = max(_LEAST_PROBES, lists * _SHARE_OF_LISTS)
        return min(lists, round(wanted * max(1.0, k / _TUNED_K) ** _BREADTH_BY_K))


def indices_of(table: LanceTable) -> list[TableIndex]:
    """List the indices of a version of a table, by column."""
    with table.errors():
        found = [_described(table.dataset, one) for one in table.dataset.describe_indices()]
    return sorted(found, key=lambda index: (index.column != VECTOR, index.column))


def vector_index_of(table: LanceTable) -> TableIndex | None:
    """Return the index of the vectors; None where they are compared one by one."""
    return next((index for index in indices_of(table) if index.column == VECTOR), None)


def _described(dataset: Any, index: Any) -> TableIndex:
    [column, *_] = index.field_names
    metric = partitions = None
    if column == VECTOR:
        # Else its answer holds all centroids.
        os.environ.setdefault("LANCE_INCLUDE_VECTOR_CENTROIDS", "false")
        [first, *_] = dataset.index_statistics(index.name)["indices"]
        metric, partitions = first["metric_type"], int(first["num_partitions"])
    return TableIndex(index.name, column, str(index.index_type), index.num_rows_indexed, metric, partitions)
