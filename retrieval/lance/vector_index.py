"""The index of a table's vectors: what it is, and how hard to search it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from retrieval.errors import DamagedLibraryError
from retrieval.indices.base import Effort
from retrieval.lance.index_settings import settings_of
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

    kind: as Lance names it. rows: covered by it. metric, partitions: of an index of vectors.
    tuned: how hard that is searched, by the modality of queries.
    """

    name: str
    column: str
    kind: str
    rows: int
    metric: str | None = None
    partitions: int | None = None
    tuned: Mapping[Modality, Effort] = field(default_factory=dict)

    def effort(self, k: int, kind: Modality) -> Effort:
        """Return how hard to search for k items, by the modality of the query.

        It is what the index was tuned to, else enough for most; raised for longer lists.
        """
        lists = self.partitions or 1
        effort = self.tuned.get(kind) or Effort(
            max(_LEAST_PROBES, round(lists * _SHARE_OF_LISTS)), REFINE
        )
        wider = effort.widened(max(1.0, k / _TUNED_K) ** _BREADTH_BY_K)
        return replace(wider, breadth=min(lists, wider.breadth))


def indices_of(table: LanceTable) -> list[TableIndex]:
    """List the indices of a version of a table, by column."""
    with table.errors():
        found = [_described(table, one) for one in table.dataset.describe_indices()]
    return sorted(found, key=lambda index: (index.column != VECTOR, index.column))


def vector_index_of(table: LanceTable) -> TableIndex | None:
    """Return the index of the vectors; None where they are compared one by one."""
    return next((index for index in indices_of(table) if index.column == VECTOR), None)


def _described(table: LanceTable, index: Any) -> TableIndex:
    [column, *_] = index.field_names
    metric, partitions = None, None
    tuned: Mapping[Modality, Effort] = {}
    if column == VECTOR:
        # Else its answer holds all centroids.
        os.environ.setdefault("LANCE_INCLUDE_VECTOR_CENTROIDS", "false")
        [first, *_] = table.dataset.stats.index_stats(index.name)["indices"]
        metric, partitions = first["metric_type"], int(first["num_partitions"])
        tuned = _tuned(table)
    kind, rows = str(index.index_type), index.num_rows_indexed
    return TableIndex(index.name, column, kind, rows, metric, partitions, tuned)


def _tuned(table: LanceTable) -> Mapping[Modality, Effort]:
    """Read what the index was tuned to when it was built; nothing where that is not known."""
    try:
        found = settings_of(table)
    except DamagedLibraryError:
        return {}
    return found.efforts if found else {}


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
    }


_NEXT = (
    "`mmsearch build-index` builds the index of a table; `mmsearch compact` adds what came since."
)


def _reasons(index: TableIndex | None, rows: int) -> list[str]:
    if index is None:
        return [f"The table has no index of its vectors: all {rows:,} are compared."]
    effort = index.effort(_TUNED_K, Modality.TEXT)
    return [
        f"The table has an index of the kind {index.kind} with {index.partitions:,} lists, of "
        f"which {effort.breadth:,} are searched for a text; the best {effort.overfetch} a hit are "
        "compared exactly."
    ]
