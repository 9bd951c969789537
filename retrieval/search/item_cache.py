"""Items by row, kept until the catalog changes: answers name the same items again and again."""

from collections.abc import Iterable

import cachetools

from retrieval.catalog import Item, Modality, Snapshot
from retrieval.filters import Filter

DEFAULT_ROWS = 20_000

_Key = tuple[Modality, Filter | None, int]


class ItemCache:
    """The current items of rows of one space, of the most recently used rows."""

    def __init__(self, space_id: str, rows: int = DEFAULT_ROWS) -> None:
        self._space_id = space_id
        self._version: int | None = None
        self._kept: cachetools.LRUCache[_Key, tuple[Item, ...]] = cachetools.LRUCache(rows)

    def items_at(
        self,
        snapshot: Snapshot,
        version: int,
        modality: Modality,
        where: Filter | None,
        rows: Iterable[int],
    ) -> dict[int, tuple[Item, ...]]:
        """The current items at some rows, as `Snapshot.items_at`, and none where there are none.

        version: of the catalog, asked for before the snapshot was taken.
        """
        if version != self._version:
            self._kept.clear()
            self._version = version
        found: dict[int, tuple[Item, ...]] = {}
        missing = []
        for row in rows:
            items = self._kept.get((modality, where, row))
            if items is None:
                missing.append(row)
            else:
                found[row] = items
        if missing:
            read = snapshot.items_at(self._space_id, modality, missing, where)
            for row in missing:
                found[row] = self._kept[modality, where, row] = tuple(read.get(row, ()))
        return found
