"""What is remembered of the catalog between queries: answers name the same items over and over."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import cachetools
import numpy as np
from numpy.typing import NDArray

from retrieval.catalog import Catalog, Item, ItemTable, Snapshot
from retrieval.catalog.facets import ColumnFacet, FileFacets
from retrieval.embeddings import Rows
from retrieval.filters import Filter
from retrieval.media import Modality
from retrieval.search.item_order import ItemOrder, Order
from retrieval.search.relevance import sample_rows

if TYPE_CHECKING:  # with its lists of words, only for a query that is parsed
    from retrieval.search.library_words import LibraryWords

RowSet = NDArray[np.bool_]
"""(n,), which of the committed rows may be found."""

_ITEM_ROWS = 20_000
_ROW_SET_BYTES = 64_000_000
_ORDER_BYTES = 64_000_000
_SAMPLES = 8
_FEW_LIVE = 0.5
"""Below this share of live rows, a search that looks at dead rows is likely to be repeated."""


def _all_whole(numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.ones(len(numbers), np.bool_)


class CatalogCache:
    """Items, sets of rows and samples of one space, remembered until the catalog changes.

    Not safe for several threads at once.
    """

    def __init__(self, catalog: Catalog, space_id: str) -> None:
        self._catalog = catalog
        self._space_id = space_id
        self._version: int | None = None
        self._items: cachetools.LRUCache[tuple[Modality, Filter | None, int], tuple[Item, ...]] = (
            cachetools.LRUCache(_ITEM_ROWS)
        )
        self._matching: cachetools.LRUCache[
            tuple[Modality, Filter | None], tuple[NDArray[np.bool_], RowSet]
        ] = cachetools.LRUCache(_ROW_SET_BYTES, lambda sets: sum(s.nbytes + 200 for s in sets))
        self._tables: dict[Modality, ItemTable] = {}
        self._orders: cachetools.LRUCache[tuple[Order, Modality | None, Filter | None], ItemOrder]
        self._orders = cachetools.LRUCache(_ORDER_BYTES, lambda order: order.nbytes + 200)
        self._item_ids: dict[Modality, NDArray[np.int64]] = {}
        self._facets: tuple[FileFacets, dict[str, ColumnFacet], ColumnFacet] | None = None
        self._row_counts: dict[Modality, int] = {}
        self._checksum_counts: dict[Modality, int] = {}
        self._live: dict[Modality, RowSet] = {}
        self._words: dict[str, Any] = {}
        # Rows never change, so a sample of the first n of them is good for ever.
        self._samples: cachetools.LRUCache[tuple[Modality, int], NDArray[np.float32]] = (
            cachetools.LRUCache(_SAMPLES)
        )

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Open the catalog as it is now; drops what is remembered of an earlier one."""
        # Asked for before the snapshot, which may be of a later version: dropped once too often.
        version = self._catalog.dialect.version()
        if version != self._version:
            self._items.clear()
            self._matching.clear()
            self._tables.clear()
            self._item_ids.clear()
            self._orders.clear()
            self._facets = None
            self._row_counts.clear()
            self._checksum_counts.clear()
            self._live.clear()
            self._words.clear()
            self._version = version
        with self._catalog.snapshot() as snapshot:
            yield snapshot

    def row_count(self, snapshot: Snapshot, modality: Modality) -> int:
        """Committed rows of a modality."""
        if modality not in self._row_counts:
            self._row_counts[modality] = snapshot.row_count(self._space_id, modality)
        return self._row_counts[modality]

    def checksum_count(self, snapshot: Snapshot, modality: Modality) -> int:
        """Committed rows of a modality that have a checksum."""
        if modality not in self._checksum_counts:
            self._checksum_counts[modality] = snapshot.checksum_count(self._space_id, modality)
        return self._checksum_counts[modality]

    def items_at(
        self, snapshot: Snapshot, modality: Modality, rows: Iterable[int], where: Filter | None
    ) -> dict[int, tuple[Item, ...]]:
        """Find the current items at some rows that pass a filter; () if there are none."""
        found: dict[int, tuple[Item, ...]] = {}
        missing = []
        for row in rows:
            items = self._items.get((modality, where, row))
            if items is None:
                missing.append(row)
            else:
                found[row] = items
        if missing:
            read = snapshot.items_at(self._space_id, modality, missing, where)
            for row in missing:
                found[row] = self._items[modality, where, row] = tuple(read.get(row, ()))
        return found

    def item_table(self, snapshot: Snapshot, modality: Modality) -> ItemTable:
        """Return the current items of a modality."""
        if modality not in self._tables:
            self._tables[modality] = snapshot.item_table(self._space_id, modality)
        return self._tables[modality]

    def items_matching(
        self, snapshot: Snapshot, modality: Modality, where: Filter | None
    ) -> NDArray[np.bool_]:
        """Which items of the table pass a filter, (n,) bool."""
        return self._matches(snapshot, modality, where)[0]

    def rows_matching(self, snapshot: Snapshot, modality: Modality, where: Filter) -> RowSet:
        """Which of the committed rows hold a current item that passes a filter, (n,) bool."""
        return self._matches(snapshot, modality, where)[1]

    def _matches(
        self, snapshot: Snapshot, modality: Modality, where: Filter | None
    ) -> tuple[NDArray[np.bool_], RowSet]:
        key = (modality, where)
        if (found := self._matching.get(key)) is None:
            table = self.item_table(snapshot, modality)
            passing = snapshot.passing(self._space_id, modality, table, where)
            found = passing, table.row_set(self.row_count(snapshot, modality), passing)
            if self._matching.getsizeof(found) <= self._matching.maxsize:
                self._matching[key] = found
        return found

    def words(self, snapshot: Snapshot) -> "LibraryWords":
        """Words of the library that a query may mean as filters."""
        from retrieval.search.library_words import LibraryWords

        return LibraryWords(snapshot, self._words)

    def live_rows(self, snapshot: Snapshot, modality: Modality) -> RowSet:
        """Which of the committed rows hold items that are neither gone nor hidden, (n,) bool."""
        if modality not in self._live:
            self._live[modality] = self._matches(snapshot, modality, None)[1]
        return self._live[modality]

    def item_ids(self, snapshot: Snapshot, modality: Modality) -> NDArray[np.int64]:
        """Return the ids of the items of the table, (n,)."""
        if modality not in self._item_ids:
            table = self.item_table(snapshot, modality)
            self._item_ids[modality] = snapshot.item_ids(self._space_id, modality, table)
        return self._item_ids[modality]

    def item_order(
        self, snapshot: Snapshot, order: Order, modality: Modality | None, where: Filter | None
    ) -> ItemOrder:
        """Sort the current items that pass a filter. modality: None for all."""
        key = (order, modality, where)
        if (found := self._orders.get(key)) is None:
            ids, files = [], []
            for each in Modality if modality is None else (modality,):
                is_wanted = self.items_matching(snapshot, each, where)
                ids.append(self.item_ids(snapshot, each)[is_wanted])
                files.append(self.item_table(snapshot, each).file_ids[is_wanted])
            item_ids, file_ids = np.concatenate(ids), np.concatenate(files)
            seconds = np.zeros_like(item_ids)
            is_dated = np.zeros(len(item_ids), np.bool_)
            if order.is_by_date:
                dated, dates = snapshot.file_dates()
                most = max(int(dated.max(initial=-1)), int(file_ids.max(initial=-1))) + 1
                of_file, has_date = np.zeros(most, np.int64), np.zeros(most, np.bool_)
                of_file[dated], has_date[dated] = dates, True
                seconds, is_dated = of_file[file_ids], has_date[file_ids]
            found = ItemOrder.of(order, item_ids, seconds, is_dated)
            if self._orders.getsizeof(found) <= self._orders.maxsize:
                self._orders[key] = found
        return found

    def facets(self, snapshot: Snapshot) -> tuple[FileFacets, dict[str, ColumnFacet], ColumnFacet]:
        """Return what facets count: of files, of columns by name, of collections."""
        if self._facets is None:
            self._facets = (
                snapshot.file_facets(),
                snapshot.column_facets(),
                snapshot.collection_members(),
            )
        return self._facets

    def live_rows_if_few(self, modality: Modality) -> RowSet | None:
        """As `live_rows`, where they are known already and most rows are dead; else None."""
        live = self._live.get(modality)
        return live if live is not None and live.mean() < _FEW_LIVE else None

    def forget_samples(self) -> None:
        """Drop the samples: the rows that they were drawn from are gone."""
        self._samples.clear()

    def sample(
        self,
        modality: Modality,
        rows: Rows,
        are_whole: Callable[[NDArray[np.int64]], NDArray[np.bool_]] = _all_whole,
    ) -> NDArray[np.float32]:
        """Draw the fixed sample of (n, d) rows to normalise scores with, (m, d) float32.

        are_whole: tells which of some rows are not damaged; others of the sample take their places.
        """
        key = (modality, len(rows))
        if (sample := self._samples.get(key)) is None:
            chosen = sample_rows(len(rows))
            is_whole = are_whole(chosen)
            if is_whole.any() or not len(chosen):
                chosen = np.where(is_whole, chosen, np.resize(chosen[is_whole], len(chosen)))
                sample = np.asarray(rows)[chosen].astype(np.float32)
            else:
                sample = np.zeros((len(chosen), rows.shape[1]), np.float32)
            self._samples[key] = sample
        return sample
