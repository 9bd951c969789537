"""The index of a table's vectors: what it is, and how hard to search it."""

import os
from dataclasses import dataclass, fields
from typing import Any

from retrieval.lance.schema import VECTOR
from retrieval.lance.table import LanceTable
from retrieval.media import Modality

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
        breadth: float = wanted * max(1.0, k / _TUNED_K) ** _BREADTH_BY_K
        return min(lists, round(breadth))


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
        [first, *_] = dataset.stats.index_stats(index.name)["indices"]
        metric, partitions = first["metric_type"], int(first["num_partitions"])
    return TableIndex(
        index.name, column, str(index.index_type), index.num_rows_indexed, metric, partitions
    )


def facts_of(table: LanceTable, modality: Modality) -> dict[str, Any]:
    """Describe how the vectors of a modality are searched, as `mmsearch index-info` tells it.

    An index of a table is of the vectors of all modalities.
    """
    rows = table.count(f"modality = '{modality.value}'")
    index = vector_index_of(table)
    covered = 0
    if index is not None:
        total = table.count("modality IS NOT NULL")
        covered = min(rows, round(rows * index.rows / total)) if total else 0
    return {
        "kind": index.kind if index else "exact",
        "rows": rows,
        "rows_covered": covered,
        "rows_past": rows - covered,
        "embeddings_bytes": rows * table.space.dimension * 2,
        "next": _NEXT,
        "problems": [],
        "index": None,
        "reasons": _reasons(index, rows),
        "table_indices": [vars_of(one) for one in indices_of(table)],
    }


_NEXT = (
    "Indices of a table are built by `mmsearch build-index --cluster`; `mmsearch compact` adds "
    "what came since."
)


def _reasons(index: TableIndex | None, rows: int) -> list[str]:
    if index is None:
        return [f"The table has no index of its vectors: all {rows:,} are compared."]
    return [
        f"The table has an index of the kind {index.kind} with {index.partitions:,} lists, of "
        f"which {index.probes(_TUNED_K):,} are searched; the best {REFINE} a hit are compared exactly."
    ]


def vars_of(index: TableIndex) -> dict[str, Any]:
    """Return the fields of an index as JSON has them."""
    return {field.name: getattr(index, field.name) for field in fields(index)}
