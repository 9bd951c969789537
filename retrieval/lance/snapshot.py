"""Read a version of a table as a catalog is read: what its callers ask of `Snapshot`."""

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar, cast

import cachetools
import numpy as np
from numpy.typing import NDArray

from retrieval.catalog import Item, Snapshot
from retrieval.catalog.fulltext.search import DocumentCount
from retrieval.catalog.records import (
    Collection,
    Counts,
    Enrichment,
    EnrichmentCounts,
    FailedFile,
    FileDetails,
    FileEntry,
    MapPoint,
    NotedFile,
    SavedSearch,
    Seen,
    WordMatch,
    folded_name,
)
from retrieval.catalog.schema import chunks
from retrieval.catalog.snapshot import add_samples
from retrieval.errors import NotFoundError, UsageError
from retrieval.files import valid_text
from retrieval.filters import ColumnValue, Filter, GeoBox
from retrieval.lance.predicates import (
    all_of,
    any_of,
    cell_in,
    literal,
    one_of,
    predicate_of,
    shown,
)
from retrieval.lance.records import (
    DETAIL_COLUMNS,
    ITEM_COLUMNS,
    details_of,
    item_id_of,
    items_of,
    row_id_of,
    said_in,
)
from retrieval.lance.schema import VECTOR
from retrieval.lance.table import ROW_ID, LanceTable
from retrieval.lance.vector_index import vector_index_of
from retrieval.media import MediaKind, Modality, clock_seconds
from retrieval.recognition.base import Task

_T = TypeVar("_T")

IS_ITEM = "modality IS NOT NULL"
IS_READ = "failure IS NULL"
OF_ITEMS = (*ITEM_COLUMNS, ROW_ID)
_OF_FILES = ("path", "path_bytes", "kind", "size", "mtime_ns", "content_hash")

_AT_ONCE = 10_000
_MOST_REMEMBERED = 500
_MOST_NAMES = 1000
_MOST_PLACES = 10_000
_SECONDS_A_DAY = 86_400

COPY = (
    "A library in Lance has no {what}. A copy of it has: `mmsearch import LOCATION --library DIR` "
    "makes one on this machine, and `mmsearch serve --copy DIR` serves one that follows the table."
)


def not_in_tables(what: str) -> UsageError:
    """Say that a library in Lance does not have something, and what does."""
    return UsageError(COPY.format(what=what))


class Memory:
    """What was asked of a version last. For any threads."""

    def __init__(self) -> None:
        self._known: cachetools.LRUCache[Any, Any] = cachetools.LRUCache(_MOST_REMEMBERED)
        self._lock = threading.Lock()

    def once(self, key: Any, read: Callable[[], _T]) -> _T:
        """Return what was read under a key, else read it now."""
        with self._lock:
            if key in self._known:
                return cast("_T", self._known[key])
        found = read()
        with self._lock:
            self._known[key] = found
        return found


class LanceSnapshot(Snapshot):
    """A version of a table, read as the catalog of one space.

    The row of an item is the id of its row in the table; its own id is the next number.

    memory: what is remembered of this version, of all of its snapshots.
    """

    def __init__(self, table: LanceTable, memory: Memory) -> None:
        # A snapshot of a database is frozen, and so is this one.
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "_memory", memory)

    table: LanceTable
    _memory: Memory

    def __getattribute__(self, name: str) -> Any:
        """Tell what a table does not have, where something asks the database of a catalog."""
        if name in {"_connection", "_dialect"}:
            raise not_in_tables("such records")
        return super().__getattribute__(name)

    # What predicates and counts are made of.

    def distinct(self, column: str, predicate: str | None = None) -> Sequence[str]:
        """List the distinct texts of a column, or of its lists, in rows that pass a predicate."""

        def read() -> list[str]:
            is_list = column in {"cells", "collections"}
            value = f"unnest({column})" if is_list else column
            rows = self.query(f"SELECT DISTINCT {value} AS value", predicate)
            return [row["value"] for row in rows if row["value"] is not None]

        return self.once(("distinct", column, predicate), read)

    def escaped_paths(self) -> dict[str, bytes]:
        """Return the paths that are not valid UTF-8, by how they are escaped in `path`."""

        def read() -> dict[str, bytes]:
            rows = self.table.read(("path", "path_bytes"), "path_bytes IS NOT NULL").to_pylist()
            return {row["path"]: row["path_bytes"] for row in rows}

        return self.once("escaped paths", read)

    def query(self, select: str, predicate: str | None, rest: str = "") -> list[dict[str, Any]]:
        """Answer a query of the rows that pass a predicate.

        select, rest: what stands before and behind FROM and WHERE, of this module's own words.
        """
        where = f" WHERE {predicate}" if predicate else ""
        return self._ask(f"{select} FROM dataset{where} {rest}")

    def _ask(self, question: str) -> list[dict[str, Any]]:
        with self.table.errors():
            batches = self.table.dataset.sql(question).with_row_id(True).build().to_batch_records()
        return [row for batch in batches for row in batch.to_pylist()]

    def predicate(self, where: Filter | None, modality: Modality | None) -> str:
        """Return the predicate of the items that a filter shows. modality: None for all."""

        def translate() -> str:
            of_modality = f"modality = {literal(modality)}" if modality else IS_ITEM
            return all_of([of_modality, IS_READ, shown(where, self)])

        return self.once(("predicate", where, modality), translate)

    def count(self, where: Filter | None, modality: Modality | None) -> int:
        """Count the items that a filter shows. modality: None for all."""
        return self.once(
            ("count", where, modality), lambda: self.table.count(self.predicate(where, modality))
        )

    def once(self, key: Any, read: Callable[[], _T]) -> _T:
        """Return what was read of this version before, else read it now."""
        return self._memory.once(key, read)

    # Items.

    def row_count(self, space_id: str, modality: Modality) -> int:
        """Return a number above the rows of all items of a modality; 0 without any."""

        def read() -> int:
            of_modality = f"modality = {literal(modality)}"
            [row] = self.query(f"SELECT max({ROW_ID}) AS last", of_modality)
            return 0 if row["last"] is None else int(row["last"]) + 1

        return self.once(("rows", modality), read)

    def checksum_count(self, space_id: str, modality: Modality) -> int:
        """Return 0: the store checks what it holds."""
        return 0

    def item_rows(self, space_id: str, item_ids: Sequence[int]) -> dict[int, tuple[Modality, int]]:
        """Return modalities and rows of those of some items that are there, by id."""
        return {
            item.id: (item.modality, row_id_of(item.id))
            for item in self.items_of_ids(item_ids).values()
        }

    def item(self, item_id: int) -> Item | None:
        """Return an item by its id; None if it is not there."""
        return self.items_of_ids([item_id]).get(item_id)

    def items_of_ids(self, item_ids: Sequence[int]) -> dict[int, Item]:
        """Return those of some items that are there, by id, in the order that is given."""
        found = {item.id: item for item in self._items_in(item_ids, IS_READ)}
        return {item_id: found[item_id] for item_id in item_ids if item_id in found}

    def items_at(
        self, space_id: str, modality: Modality, rows: Sequence[int], where: Filter | None = None
    ) -> dict[int, list[Item]]:
        """Return the items at some rows that a filter shows, by row."""
        passing = self.predicate(where, modality)
        found = self._items_in([item_id_of(row) for row in rows], passing)
        return {row_id_of(item.id): [item] for item in found}

    def _items_in(self, item_ids: Sequence[int], predicate: str) -> Iterator[Item]:
        for chunk in chunks(sorted(set(item_ids)), _AT_ONCE):
            rows = [row_id_of(item_id) for item_id in chunk if item_id > 0]
            if rows:
                yield from self._read_items(all_of([predicate, rows_in(rows)]))

    def _read_items(self, predicate: str) -> list[Item]:
        return items_of(self.table.read(OF_ITEMS, predicate))

    def page_pictures(self, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Item]:
        """Return the pictures of those of some pages, given by path and number, that have one."""
        wanted = set(places)
        paths = {path for path, _ in wanted}
        found = {}
        for chunk in chunks(sorted(paths), _AT_ONCE):
            pictures = [f"modality = {literal(Modality.IMAGE)}", "page IS NOT NULL"]
            for item in self._read_items(
                all_of([*pictures, one_of("path", map(valid_text, chunk))])
            ):
                if item.page is not None and (item.path, item.page) in wanted:
                    found[item.path, item.page] = item
        return found

    def found_pictures(self, places: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Item]:
        """Return those of some pictures, given by path and part, that there are."""
        wanted = set(places)
        is_image = f"modality = {literal(Modality.IMAGE)}"
        return {
            (item.path, item.part): item
            for chunk in chunks(sorted({path for path, _ in wanted}), _AT_ONCE)
            for item in self._read_items(all_of([is_image, one_of("path", map(valid_text, chunk))]))
            if (item.path, item.part) in wanted
        }

    def enrichments(self, _task: Task, _keys: Iterable[str]) -> dict[str, Enrichment]:
        """Return nothing: a table has the passages alone."""
        return {}

    def enrichments_of(self, _item: Item) -> list[Enrichment]:
        """Return nothing: a table has the passages alone."""
        return []

    def enrichment_counts(self) -> dict[Task, EnrichmentCounts]:
        """Return nothing: a table has the passages alone."""
        return {}

    def paths_of_items(self, item_ids: Sequence[int]) -> set[str]:
        """Return the paths of the files that some items are in."""
        return {item.path for item in self.items_of_ids(item_ids).values()}

    def items_in(self, paths: Sequence[str]) -> dict[tuple[str, Modality, str], int]:
        """Return the ids of the items of some files, by path, modality and part."""
        return {
            (item.path, item.modality, item.part): item.id
            for chunk in chunks(paths, _AT_ONCE)
            for item in self._read_items(all_of([IS_ITEM, one_of("path", map(valid_text, chunk))]))
        }

    def items(
        self,
        space_id: str,
        *,
        where: Filter | None = None,
        modality: Modality | None = None,
        after: int = 0,
        limit: int,
        newest_first: bool = False,
    ) -> list[Item]:
        """List items by id, page by page; see `Snapshot.items`."""
        begins, order = _position(
            (None, after) if after else None, by_date=False, descending=newest_first
        )
        return self._in_order(where, modality, begins, order, limit)

    def items_by_date(
        self,
        space_id: str,
        *,
        where: Filter | None = None,
        modality: Modality | None = None,
        after: tuple[datetime | None, int] | None = None,
        limit: int,
        oldest_first: bool = False,
    ) -> list[Item]:
        """List items by their local date, then id, page by page; see `Snapshot.items_by_date`."""
        begins, order = _position(after, by_date=True, descending=not oldest_first)
        return self._in_order(where, modality, begins, order, limit)

    def items_by_name(
        self,
        space_id: str,
        *,
        where: Filter | None = None,
        modality: Modality | None = None,
        after: tuple[str, int] | None = None,
        limit: int,
    ) -> list[Item]:
        """List items by path, then id, page by page; see `Snapshot.items_by_name`."""
        begins = None
        if after is not None:
            path, last_id = literal(valid_text(after[0])), row_id_of(after[1])
            begins = f"(path > {path} OR (path = {path} AND {ROW_ID} > {last_id}))"
        return self._in_order(where, modality, begins, f"ORDER BY path, {ROW_ID}", limit)

    def skip(
        self,
        count: int,
        where: Filter | None,
        modality: Modality | None,
        *,
        by_date: bool,
        descending: bool,
        after: tuple[datetime | None, int] | None,
    ) -> Item | None:
        """Return the item that stands at a place of a list, counting from 1, or the last one.

        Args:
            count: The place, behind `after`.
            where: Filter of the list.
            modality: Of its items; None for all.
            by_date: Whether it is sorted by date, and not by id.
            descending: Whether the newest come first.
            after: Date and id of an item of the list; None: it begins with the first one.
        """
        begins, order = _position(after, by_date=by_date, descending=descending)
        passing = all_of([self.predicate(where, modality), begins])
        place = min(count, self.table.count(passing))
        if place < 1:
            return None
        found = self.query(f"SELECT {ROW_ID}", passing, f"{order} LIMIT 1 OFFSET {place - 1}")
        return self.item(item_id_of(int(found[0][ROW_ID])))

    def _in_order(
        self,
        where: Filter | None,
        modality: Modality | None,
        begins: str | None,
        order: str,
        limit: int,
    ) -> list[Item]:
        """List items in an order. begins: predicate of those that are not on a page before."""
        passing = all_of([self.predicate(where, modality), begins])
        # The order first, then what is shown of a page: the others' texts need not be read.
        ids = self.query(f"SELECT {ROW_ID}", passing, f"{order} LIMIT {int(limit)}")
        found = self.items_of_ids([item_id_of(int(row[ROW_ID])) for row in ids])
        return list(found.values())

    def added_after(
        self, space_id: str, item_id: int, limit: int
    ) -> tuple[int, dict[Modality, int]]:
        """Return the id of the newest item, and count those after an item; see `Snapshot`."""
        passing = self.predicate(None, None)
        [row] = self.query(f"SELECT max({ROW_ID}) AS last", passing)
        newest = 0 if row["last"] is None else item_id_of(int(row["last"]))
        added = dict.fromkeys(Modality, 0)
        if newest > item_id:
            later = all_of([passing, f"{ROW_ID} > {row_id_of(item_id)}"])
            counts = self.query("SELECT modality, count(*) AS n", later, "GROUP BY modality")
            added |= {Modality(one["modality"]): min(one["n"], limit) for one in counts}
        return newest, added

    def neighbours(
        self, space_id: str, item: Item, *, before: int = 0, after: int = 0
    ) -> list[Item]:
        """List items of the same file and modality before or after one; see `Snapshot`."""
        passing = all_of(
            [self.predicate(None, item.modality), one_of("path", [valid_text(item.path)])]
        )

        def place(one: Item) -> tuple[int, float, int]:
            return one.page or 0, one.time_s or 0.0, one.id

        listed = sorted(self._read_items(passing), key=place)
        if before:
            return [one for one in listed if place(one) < place(item)][-before:]
        return [one for one in listed if place(one) > place(item)][:after]

    def map_points(self, box: GeoBox, *, cells: int, where: Filter | None = None) -> list[MapPoint]:
        """Count the files with coordinates inside a box, by cells of a grid; see `Snapshot`."""
        crosses = box.west > box.east
        east = box.east + 360 if crosses else box.east
        longitude = "longitude"
        if crosses:
            longitude = (
                f"(CASE WHEN longitude < {box.west!r} THEN longitude + 360 ELSE longitude END)"
            )
        high, wide = (box.north - box.south) / cells or 1.0, (east - box.west) / cells or 1.0
        row = f"floor((latitude - {box.south!r}) / {high!r})"
        column = f"floor(({longitude} - {box.west!r}) / {wide!r})"
        passing = all_of([self.predicate(where, None), predicate_of(Filter(gps=box), self)])
        files = (
            f"SELECT min(latitude) AS lat, min({longitude}) AS lon, min({row}) AS r, "
            f"min({column}) AS c, min({ROW_ID}) AS first FROM dataset WHERE {passing} "
            "GROUP BY file_key"
        )
        points = self._ask(
            "SELECT avg(lat) AS lat, avg(lon) AS lon, count(*) AS n, min(first) AS first FROM "
            f"({files}) GROUP BY r, c ORDER BY n DESC, first"
        )
        return [
            MapPoint(
                point["lat"],
                point["lon"] - 360 if point["lon"] > 180 else point["lon"],
                point["n"],
                item_id_of(int(point["first"])),
            )
            for point in points
        ]

    def nearest(
        self,
        vector: NDArray[np.float32],
        k: int,
        predicate: str,
        *,
        kind: Modality,
        is_exact: bool,
    ) -> Any:
        """Find the k items nearest to a vector, among the rows that pass a predicate.

        Args:
            vector: (d,), unit.
            k: Number of items.
            predicate: Of the rows that may be found.
            kind: Modality of the query, for which the index was tuned.
            is_exact: Compare all of these rows, which is faster where they are few.

        Returns:
            Rows with `OF_ITEMS` and the vectors, in no order.
        """
        wanted: dict[str, Any] = {"column": VECTOR, "q": vector, "k": k, "use_index": not is_exact}
        index = self.once("index", lambda: vector_index_of(self.table))
        if index is None or is_exact:
            wanted["metric"] = "dot"  # of unit vectors
        else:
            effort = index.effort(k, kind)
            wanted |= {"metric": index.metric, "nprobes": effort.breadth}
            wanted["refine_factor"] = effort.overfetch
        with self.table.errors():
            return self.table.dataset.scanner(
                columns=self.table.known_columns([*OF_ITEMS, VECTOR]),
                nearest=wanted,
                filter=predicate,
                prefilter=True,
                disable_scoring_autoprojection=True,
            ).to_table()

    # Files.

    def details(self, item: Item) -> FileDetails:
        """Return the metadata of an item's file."""
        found = details_of(self.table.read(DETAIL_COLUMNS, rows_in([row_id_of(item.id)])))
        if not found:
            raise NotFoundError(f"There is no item {item.id}.")
        return found[0]

    def said_of(self, paths: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return what is said of some files, by path; of one column the last row counts."""
        found: dict[str, dict[str, Any]] = {}
        columns = ("path", "path_bytes", "said")
        for chunk in chunks([valid_text(path) for path in paths], _AT_ONCE):
            wanted = all_of(["said IS NOT NULL", one_of("path", chunk)])
            for row in self.table.read(columns, wanted).to_pylist():
                for _, said in said_in(row["said"]):
                    found.setdefault(path_of(row), {}).update(said)
        return found

    def files_of_same_content(self) -> Iterator[FileEntry]:
        """Yield non-empty files that share their content, by its hash, then path."""
        files = all_of([IS_READ, "content_hash IS NOT NULL", "size > 0"])
        shared = self.query(
            "SELECT content_hash AS hash",
            files,
            "GROUP BY content_hash HAVING count(DISTINCT file_key) > 1 ORDER BY content_hash",
        )
        for chunk in chunks([row["hash"] for row in shared], _AT_ONCE):
            rows = self.table.read(_OF_FILES, all_of([files, one_of("content_hash", chunk)]))
            found = {path_of(row): row for row in rows.to_pylist()}
            for path, row in sorted(
                found.items(), key=lambda one: (one[1]["content_hash"], one[0])
            ):
                kind, content = MediaKind(row["kind"]), row["content_hash"]
                yield FileEntry(path, kind, row["size"], row["mtime_ns"], content)

    def failures(self) -> list[FailedFile]:
        """List the files that could not be read, by path."""
        columns = ("path", "path_bytes", "failure", "size", "mtime_ns")
        rows = self.table.read(columns, "failure IS NOT NULL").to_pylist()
        found = {path_of(row): row for row in rows}
        return [
            FailedFile(path, row["failure"], row["size"], row["mtime_ns"])
            for path, row in sorted(found.items())
        ]

    def notes(self) -> list[NotedFile]:
        """List the indexed files of which something could not be read, by path."""
        rows = self.table.read(("path", "path_bytes", "notes"), all_of([IS_READ, _HAS_NOTES]))
        found = {path_of(row): row["notes"] for row in rows.to_pylist()}
        return [NotedFile(path, notes) for path, notes in sorted(found.items())]

    def sources(self) -> list[str]:
        """List the paths of the library's sources, sorted."""
        return sorted(self.table.sources)

    def source_options(self) -> dict[str, dict[str, Any] | None]:
        """Return the options of each source, by path; None for the defaults."""
        return dict(sorted(self.table.sources.items()))

    def sources_beside(self) -> dict[str, str]:
        """Return nothing: a table does not lie beside its sources."""
        return {}

    def seen(self) -> Seen:
        """Return nothing: a table does not say what was not taken in."""
        return Seen()

    # Numbers and names.

    def counts(self, space_id: str) -> Counts:
        """Count files by state, and items by modality."""
        return self.once("counts", self._count_all)

    def _count_all(self) -> Counts:
        files = "SELECT count(DISTINCT file_key) AS n"
        of_pictures = one_of("kind", [MediaKind.IMAGE, MediaKind.VIDEO])
        items = self.query(
            "SELECT modality, count(*) AS n", all_of([IS_ITEM, IS_READ]), _BY_MODALITY
        )
        by_modality = {Modality(one["modality"]): int(one["n"]) for one in items}
        undated = all_of([IS_READ, of_pictures, "taken_at IS NULL"])
        indexed, failed, noted, dated_by_mtime = (
            int(self.query(files, predicate)[0]["n"])
            for predicate in (
                IS_READ,
                "failure IS NOT NULL",
                all_of([IS_READ, _HAS_NOTES]),
                undated,
            )
        )
        return Counts(
            indexed=indexed,
            failed=failed,
            removed=0,
            items={modality: by_modality.get(modality, 0) for modality in Modality},
            noted=noted,
            dated_by_mtime=dated_by_mtime,
            hidden=self.table.count(all_of([IS_ITEM, IS_READ, "hidden"])),
        )

    def files_behind(self, space_id: str, kinds: Iterable[MediaKind] = ()) -> int:
        """Return 0: a table has one space."""
        return 0

    def kinds(self) -> dict[MediaKind, int]:
        """Count the files of each kind."""
        select = "SELECT kind, count(DISTINCT file_key) AS n"
        rows = self.query(select, IS_READ, "GROUP BY kind ORDER BY kind")
        return {MediaKind(row["kind"]): int(row["n"]) for row in rows}

    def cameras(self) -> list[str]:
        """List camera names, sorted; at most 1000."""
        return sorted(filter(None, self.distinct("camera", IS_READ)))[:_MOST_NAMES]

    def places(self) -> list[str]:
        """List places: names, a line each; at most 10,000."""
        return sorted(filter(None, self.distinct("place", IS_READ)))[:_MOST_PLACES]

    def folders(self) -> list[str]:
        """List the folders that hold files, sorted."""
        return sorted(one.removesuffix(os.sep) for one in self.distinct("folder", IS_READ))

    def days(self) -> list[int]:
        """List the days on which files were taken by their own dates, since 1970, sorted."""
        dated = all_of([IS_READ, "taken_at IS NOT NULL", "taken_local IS NOT NULL"])
        day = f"CAST(floor(taken_local / {float(_SECONDS_A_DAY)}) AS BIGINT)"
        return sorted(int(row["day"]) for row in self.query(f"SELECT DISTINCT {day} AS day", dated))

    def is_southern(self) -> bool:
        """Return whether most items with coordinates are from south of the equator."""
        located = all_of([IS_READ, "latitude IS NOT NULL"])
        select = "SELECT avg(CASE WHEN latitude < 0 THEN 1.0 ELSE 0.0 END) AS share"
        return (self.query(select, located)[0]["share"] or 0.0) > 0.5

    def taken_between(self) -> tuple[int, int] | None:
        """Return the first and the last capture time, seconds since 1970; None without files."""
        [row] = self.query('SELECT min("date") AS first, max("date") AS last', IS_READ)
        return None if row["first"] is None else (int(row["first"]), int(row["last"]))

    def columns(self) -> dict[str, list[ColumnValue]]:
        """Return the names of columns, sorted, each with up to 5 sample values."""
        found: dict[str, list[ColumnValue]] = {}
        for name, value in self.cells():
            if name in found or len(found) < _MOST_NAMES:
                add_samples(found.setdefault(name, []), value)
        return dict(sorted(found.items()))

    def cells(self) -> Iterator[tuple[str, ColumnValue]]:
        """Yield the distinct values of all columns with their names, sorted as they are written."""
        return (cell for one in sorted(self.distinct("cells")) if (cell := cell_in(one)))

    # Words.

    def text_matches(
        self,
        space_id: str,
        modality: Modality,
        text: str,
        *,
        limit: int,
        where: Filter | None = None,
    ) -> list[tuple[int, float]]:
        """Find the rows of items that hold words of a text; see `Snapshot.text_matches`."""
        from retrieval.lance.words import text_matches

        return text_matches(self, modality, text, limit, where)

    def telling_matches(
        self,
        space_id: str,
        modality: Modality,
        text: str,
        *,
        where: Filter | None = None,
        counts: Mapping[DocumentCount, int] | None = None,
    ) -> list[WordMatch]:
        """Find the rows of items that hold telling words of a text; see `Snapshot`.

        counts: none are wanted, as a table is searched as a whole.
        """
        from retrieval.lance.words import telling_matches

        return telling_matches(self, modality, text, where)

    # Collections, as they were when the table was written.

    def collections(self) -> list[Collection]:
        """List the collections by name, with the number of their items that a list shows."""
        return [
            Collection(number, name, 0, count)
            for number, (name, count) in enumerate(sorted(self.collected().items()), 1)
        ]

    def collected(self, predicate: str | None = None) -> dict[str, int]:
        """Count the items of each collection that pass a predicate. None: those that are shown."""
        rows = self.query(
            "SELECT unnest(collections) AS name",
            all_of([predicate or self.predicate(None, None), "collections IS NOT NULL"]),
        )
        return dict(Counter(row["name"] for row in rows))

    def id_of_collection(self, name: str) -> int:
        """Return the number of a collection; raises NotFoundError for an unknown name."""
        known = self.collections()
        for one in known:
            if folded_name(one.name) == folded_name(name):
                return one.id
        there = ", ".join(one.name for one in known[:20]) or "none"
        raise NotFoundError(f"There is no collection {name.strip()!r}. There are: {there}.")

    def items_of_collection(
        self,
        space_id: str,
        collection_id: int,
        *,
        where: Filter | None = None,
        modality: Modality | None = None,
        after: int = 0,
        limit: int,
    ) -> list[tuple[int, Item]]:
        """List items of a collection by id: a table does not say when they were added to it."""
        name = next(one.name for one in self.collections() if one.id == collection_id)
        of_name = Filter(collection=name)
        both = of_name if where is None else Filter(all_of=(where, of_name))
        found = self.items(space_id, where=both, modality=modality, after=after, limit=limit)
        return [(item.id, item) for item in found]

    def saved_searches(self) -> list[SavedSearch]:
        """Return nothing: a table has no saved searches."""
        return []


_HAS_NOTES = "(notes IS NOT NULL AND cardinality(notes) > 0)"
_BY_MODALITY = "GROUP BY modality"


def _position(
    after: tuple[datetime | None, int] | None, *, by_date: bool, descending: bool
) -> tuple[str | None, str]:
    """Say what lies behind an item of a list, and in which order; of dates, None comes last."""
    sign, way = ("<", "DESC") if descending else (">", "ASC")
    order = f"ORDER BY taken_local {way} NULLS LAST, {ROW_ID} {way}"
    if not by_date:
        order = f"ORDER BY {ROW_ID} {way}"
    if after is None:
        return None, order
    date, last_id = after
    is_behind = f"{ROW_ID} {sign} {row_id_of(last_id)}"
    if not by_date:
        return is_behind, order
    if date is None:
        return all_of(["taken_local IS NULL", is_behind]), order
    last = clock_seconds(date)
    tied = f"(taken_local = {last} AND {is_behind})"
    later = f"(taken_local IS NOT NULL AND taken_local {sign} {last})"
    return any_of([later, tied, "taken_local IS NULL"]), order


def path_of(row: Mapping[str, Any]) -> str:
    """Return the path of a row with `path` and `path_bytes`."""
    return row["path"] if row["path_bytes"] is None else os.fsdecode(row["path_bytes"])


def rows_in(rows: Iterable[int]) -> str:
    """Match rows by their ids."""
    return f"{ROW_ID} IN ({', '.join(str(int(row)) for row in rows)})"
