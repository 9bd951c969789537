"""Filters as sets of rows, kept until the catalog changes: pages and habits ask for the same."""

import cachetools
import numpy as np
from numpy.typing import NDArray

from retrieval.catalog import Modality, Snapshot
from retrieval.filters import Filter

RowSet = NDArray[np.bool_]
"""(n,), which of the committed rows may be found."""

_KEPT_BYTES = 64_000_000


class RowSets:
    """Rows of one space whose items pass a filter, of the most recently used filters."""

    def __init__(self, space_id: str, max_bytes: int = _KEPT_BYTES) -> None:
        self._space_id = space_id
        self._version: int | None = None
        self._kept: cachetools.LRUCache[tuple[Modality, Filter], RowSet] = cachetools.LRUCache(
            max_bytes, lambda rows: rows.nbytes + 200
        )

    def matching(
        self, snapshot: Snapshot, version: int, modality: Modality, where: Filter
    ) -> RowSet:
        """Which of the committed rows hold a current item that passes a filter, (n,) bool.

        version: of the catalog, asked for before the snapshot was taken.
        """
        if version != self._version:
            self._kept.clear()
            self._version = version
        key = (modality, where)
        if (rows := self._kept.get(key)) is None:
            rows = snapshot.matching_rows(self._space_id, modality, where)
            if self._kept.getsizeof(rows) <= self._kept.maxsize:
                self._kept[key] = rows
        return rows


def within(rows: RowSet | None, extent: int, row_count: int) -> RowSet | None:
    """Leave only the first `extent` of `row_count` rows; None stands for all of them."""
    if extent >= row_count:
        return rows
    return np.ones(extent, np.bool_) if rows is None else rows[:extent]
