"""Read the catalog."""

import functools
import inspect
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from retrieval.catalog import collections, enrichments
from retrieval.catalog.derived import date_of
from retrieval.catalog.dialects.base import Dialect
from retrieval.catalog.facets import (
    ColumnFacet,
    FileFacets,
    read_column_facet,
    read_column_facets,
    read_file_facets,
)
from retrieval.catalog.filtering import condition, is_of_file, shown
from retrieval.catalog.fulltext.search import DocumentCount, TextSearch
from retrieval.catalog.fulltext.words import terms
from retrieval.catalog.records import (
    Collection,
    Counts,
    Enrichment,
    EnrichmentCounts,
    FailedFile,
    FileDetails,
    FileEntry,
    FileState,
    Item,
    ItemEntry,
    ItemTable,
    KnownFile,
    MapPoint,
    NotedFile,
    SavedSearch,
    Seen,
    WordMatch,
    is_in,
    require_types,
)
from retrieval.catalog.schema import (
    CAN_BE_FOUND,
    CURRENT,
    FILE_WORDS,
    IS_OLD_METADATA,
    ITEM_COLUMNS,
    ITEM_WORDS,
    AnnotationRecord,
    CellValueRecord,
    CollectedItemRecord,
    EmbeddedFileRecord,
    ExtentRecord,
    FileRecord,
    FolderRecord,
    HiddenItemRecord,
    ItemCellRecord,
    ItemRecord,
    NoteRecord,
    RowRecord,
    SourceRecord,
    at_or_below,
    checksums_of,
    chunks,
    item_of,
    row_in,
    select_current,
    select_items,
)
from retrieval.catalog.whole import StoredFile, read_stored_files
from retrieval.errors import DamagedLibraryError
from retrieval.files import GIVEN
from retrieval.filters import ColumnValue, Filter, GeoBox
from retrieval.media import MediaKind, Metadata, Modality, clock_seconds
from retrieval.recognition.base import Segment, Task

METADATA = tuple(field.name for field in fields(Metadata) if field.name != "columns")
"""The fields of metadata that are columns of files; the others are annotations of the file."""
OF_FILES = ("rating", "label", "keyword", "person")
"""The columns that files say of themselves."""

_ROOTS_PER_STATEMENT = 200
"""Below SQLite's limit of 1,000 levels of an expression."""
_TEXT_TABLES = {table.name: table for table in (FILE_WORDS, ITEM_WORDS)}
_ROWS_AT_ONCE = 5000
_MOST_NAMES = 1000
_MOST_PLACES = 10_000
_MOST_TABLES = 1000
_ROWS_A_TABLE = 50
_SAMPLES = 5
_LONGEST_SAMPLE = 100


_C = TypeVar("_C", bound=type)

_WRONG_VALUES = (
    AttributeError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


def _values_explained(cls: _C) -> _C:
    """Let the public methods of a class raise DamagedLibraryError for values of a wrong type.

    SQLite keeps any value in any column, and a catalog may be from a stranger.
    """
    for name, method in list(vars(cls).items()):
        if inspect.isfunction(method) and not name.startswith("_"):
            setattr(cls, name, _explaining(method))
    return cls


def _explaining(method: Callable[..., Any]) -> Callable[..., Any]:
    def damaged(self: "Snapshot", error: Exception) -> DamagedLibraryError:
        return DamagedLibraryError(
            f"{self._dialect.location} is damaged: it holds a value that cannot be there "
            f"({str(error)[:100]}). Nothing was overwritten. Restore it from a backup, or index "
            "the sources into a new library (`--library NEW_DIR`)."
        )

    @functools.wraps(method)
    def call(self: "Snapshot", *args: Any, **options: Any) -> Any:
        try:
            return method(self, *args, **options)
        except _WRONG_VALUES as error:
            raise damaged(self, error) from error

    @functools.wraps(method)
    def iterate(self: "Snapshot", *args: Any, **options: Any) -> Iterator[Any]:
        values = iter(method(self, *args, **options))
        while True:
            try:
                value = next(values)
            except StopIteration:
                return
            except _WRONG_VALUES as error:
                raise damaged(self, error) from error
            yield value

    return iterate if inspect.isgeneratorfunction(method) else call


@_values_explained
@dataclass(frozen=True, eq=False)
class Snapshot:
    """Read queries that all see the catalog as it was at one instant.

    A value that its column cannot have raises DamagedLibraryError.
    """

    _connection: sa.Connection
    _dialect: Dialect

    def row_count(self, space_id: str, modality: Modality) -> int:
        """Count the committed rows of a space and modality, stale ones included."""
        query = sa.select(ExtentRecord.row_count).where(
            ExtentRecord.space_id == space_id, ExtentRecord.modality == modality
        )
        count = self._connection.scalar(query) or 0
        if not isinstance(count, int) or count < 0:
            raise ValueError(f"{count!r} rows")
        return count

    def checksum_count(self, space_id: str, modality: Modality) -> int:
        """Count the committed rows of a space and modality that have a checksum, the first ones."""
        query = sa.select(ExtentRecord.row_count).where(
            ExtentRecord.space_id == space_id, ExtentRecord.modality == checksums_of(modality)
        )
        return min(self._connection.scalar(query) or 0, self.row_count(space_id, modality))

    def extents(self) -> list[tuple[str, Modality, int]]:
        """List the spaces and modalities that have committed rows, with their number."""
        query = sa.select(ExtentRecord.space_id, ExtentRecord.modality, ExtentRecord.row_count)
        modalities = [str(modality) for modality in Modality]
        query = query.where(ExtentRecord.modality.in_(modalities)).order_by(*query.selected_columns)
        return [
            (space_id, Modality(modality), count)
            for space_id, modality, count in self._connection.execute(query)
        ]

    def rows_in_use(self, space_id: str, modality: Modality) -> NDArray[np.int64]:
        """Return the rows that hold the vector of an item, of a removed file too; ascending."""
        [rows] = self._numbers(_rows_of(space_id, modality, RowRecord.row))
        return np.unique(rows)

    def files_at_rows(
        self, space_id: str, modality: Modality, rows: Sequence[int]
    ) -> list[tuple[int, FileEntry, FileState]]:
        """List the files of the items at some rows, by row; their metadata is left out."""
        found = []
        for chunk in chunks(rows):
            query = (
                sa.select(RowRecord.row, *_FILE, FileRecord.state)
                .distinct()
                .join(ItemRecord, ItemRecord.id == RowRecord.item_id)
                .join(FileRecord, FileRecord.id == ItemRecord.file_id)
                .where(
                    RowRecord.space_id == space_id,
                    RowRecord.modality == modality,
                    RowRecord.row.in_(chunk),
                )
                .order_by(RowRecord.row, FileRecord.path)
            )
            for row, *file, state in self._connection.execute(query):
                found.append((row, _file_entry(file), FileState(state)))
        return found

    def fields_of_rows(
        self, space_id: str, modality: Modality, first: int, last: int
    ) -> list[tuple[Any, ...]]:
        """List the current items at rows first .. last-1, several where a row has several.

        Of each: row, width, height, taken_local, date, kind, camera, path; None for what it lacks.
        """
        query = select_current(
            space_id,
            modality,
            RowRecord.row,
            ItemRecord.width,
            ItemRecord.height,
            FileRecord.taken_local,
            FileRecord.date,
            FileRecord.kind,
            FileRecord.camera,
            FileRecord.path,
        ).where(RowRecord.row >= first, RowRecord.row < last)
        return [tuple(fields) for fields in self._connection.execute(query)]

    def indexed_files(self) -> Iterator[FileEntry]:
        """Yield the files that can be found, by path; their metadata is left out."""
        query = sa.select(*_FILE).where(FileRecord.state == FileState.INDEXED)
        for file in self._stream(query.order_by(FileRecord.path)):
            yield _file_entry(file)

    def stored_files(
        self, space_id: str, *, after: int = 0, limit: int
    ) -> tuple[int, list[StoredFile]]:
        """Read all that is known of the files that can be found, or failed, page by page.

        Args:
            space_id: Space in which items must have a vector.
            after: What the page before returned first; 0 for the first page.
            limit: Maximum number of files.

        Returns:
            Where the next page begins, and the files; an empty page is the last.
        """
        return read_stored_files(self._connection, space_id, METADATA, after, limit)

    def item_places(self, space_id: str) -> list[tuple[int, str, str, str]]:
        """List id, path, modality and part of the items that a search in a space can find."""
        query = select_current(
            space_id, None, ItemRecord.id, FileRecord.path, ItemRecord.modality, ItemRecord.part
        )
        return [(i, path, str(m), part) for i, path, m, part in self._connection.execute(query)]

    def files_without_items(self, space_id: str) -> list[FileEntry]:
        """List the files that can be found, or failed, but have no items in a space."""
        # Not by an `exists`, for which SQLite would go through all rows for each file.
        with_rows = sa.select(RowRecord.file_id).where(RowRecord.space_id == space_id)
        query = sa.select(*_FILE).where(
            FileRecord.state != FileState.REMOVED,
            sa.or_(FileRecord.state == FileState.FAILED, FileRecord.id.not_in(with_rows)),
        )
        return [_file_entry(file) for file in self._connection.execute(query)]

    def states_of(self, paths: Sequence[str]) -> dict[str, FileState]:
        """Return the states of those of some paths that are known files."""
        query = sa.select(FileRecord.path, FileRecord.state)
        return {
            path: FileState(state)
            for chunk in chunks(paths)
            for path, state in self._connection.execute(query.where(FileRecord.path.in_(chunk)))
        }

    def indexed_at(self, paths: Sequence[str]) -> dict[str, FileEntry]:
        """Return those of some paths that are files that can be found; metadata is left out."""
        query = sa.select(*_FILE).where(FileRecord.state == FileState.INDEXED)
        return {
            entry.path: entry
            for chunk in chunks(paths)
            for entry in map(
                _file_entry, self._connection.execute(query.where(FileRecord.path.in_(chunk)))
            )
        }

    def items_in(self, paths: Sequence[str]) -> dict[tuple[str, Modality, str], int]:
        """Return the ids of the items of some files, by path, modality and part."""
        query = sa.select(
            FileRecord.path, ItemRecord.modality, ItemRecord.part, ItemRecord.id
        ).join(ItemRecord, ItemRecord.file_id == FileRecord.id)
        return {
            (path, Modality(modality), part): item_id
            for chunk in chunks(paths)
            for path, modality, part, item_id in self._connection.execute(
                query.where(FileRecord.path.in_(chunk))
            )
        }

    def live_rows(self, space_id: str, modality: Modality) -> NDArray[np.bool_]:
        """Return which of the committed rows hold a current item, (row_count,) bool."""
        table = self.item_table(space_id, modality)
        return table.row_set(self.row_count(space_id, modality))

    def item_table(self, space_id: str, modality: Modality) -> ItemTable:
        """Return the current items of a space and modality.

        Takes a tenth of a second for 300,000 items.
        """
        rows, file_ids = self._numbers(
            _rows_of(space_id, modality, RowRecord.row, RowRecord.file_id)
        )
        [hidden] = self._numbers(
            sa.select(FileRecord.id).where(
                FileRecord.state.in_([FileState.FAILED, FileState.REMOVED])
            )
        )
        if rows.min(initial=0) < 0:
            raise ValueError("a negative row")
        is_current = ~is_in(file_ids, hidden)
        return ItemTable(rows[is_current], file_ids[is_current], is_current)

    def passing(
        self, space_id: str, modality: Modality, table: ItemTable, where: Filter | None
    ) -> NDArray[np.bool_]:
        """Return which items of a table pass a filter, (n,) bool; no hidden ones by default.

        Takes time by the number of those that pass where it asks for a folder, a kind, a date, a
        camera or a place; by the number of folders where it asks for a pattern of them.
        """
        if where is not None and where.says_hidden:
            return self._passing(space_id, modality, table, where)
        rows, file_ids = self._numbers(
            _rows_of(space_id, modality, RowRecord.row, RowRecord.file_id).where(
                RowRecord.item_id.in_(sa.select(HiddenItemRecord.item_id))
            )
        )
        passes = self._passing(space_id, modality, table, where)
        if len(rows):
            hidden = set(zip(rows.tolist(), file_ids.tolist(), strict=True))
            for place in np.flatnonzero(is_in(table.rows, rows)).tolist():
                if (int(table.rows[place]), int(table.file_ids[place])) in hidden:
                    passes[place] = False
        return passes

    def _passing(
        self, space_id: str, modality: Modality, table: ItemTable, where: Filter | None
    ) -> NDArray[np.bool_]:
        if where is None or where.is_empty:
            return np.ones(len(table.rows), np.bool_)
        has_columns = self._connection.scalar(sa.select(ItemCellRecord.id).limit(1)) is not None
        if is_of_file(where, with_columns=not has_columns):
            passes = condition(where, self._dialect, by_index=True, of_files=True)
            [found] = self._numbers(sa.select(FileRecord.id).where(passes))
            return is_in(table.file_ids, found)
        passes = condition(where, self._dialect, by_index=True)
        [found] = self._numbers(
            sa.select(ItemRecord.id)
            .join(FileRecord, FileRecord.id == ItemRecord.file_id)
            .where(passes)
        )
        return is_in(self.item_ids(space_id, modality, table), found)

    def item_ids(self, space_id: str, modality: Modality, table: ItemTable) -> NDArray[np.int64]:
        """Return the ids of the items of a table, (n,)."""
        [item_ids] = self._numbers(_rows_of(space_id, modality, RowRecord.item_id))
        return item_ids[table.is_current]

    def file_dates(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the files that have a date, by id, and these dates as `clock_seconds`."""
        date: Any = FileRecord.taken_local
        file_ids, seconds = self._numbers(sa.select(FileRecord.id, date).where(date.is_not(None)))
        return file_ids, seconds

    def file_facets(self) -> FileFacets:
        """Read what facets count of files."""
        return read_file_facets(self._connection)

    def column_facets(self) -> dict[str, ColumnFacet]:
        """Read what facets count of the columns of tables, by name, sorted.

        Takes time by the number of cells with values that are counted.
        """
        return read_column_facets(self._connection, self._dialect)

    def column_facet(self, name: str, part: str) -> tuple[ColumnFacet, int]:
        """Read the values of a column that contain a text, and count those left out."""
        return read_column_facet(self._connection, self._dialect, name, part)

    def text_matches(
        self,
        space_id: str,
        modality: Modality,
        text: str,
        *,
        limit: int,
        where: Filter | None = None,
    ) -> list[tuple[int, float]]:
        """Find the rows of current items that hold words of a text.

        Words are those of chunks of text and table columns, and those of the file: its name and
        folders, its embedded text, its camera, what tables say of it. The words of a file add to
        the score of those items that match by themselves; of a file without such an item, they
        stand for the first item alone, so that a video's name does not bring all of its frames.

        One word is enough, and the last one may go on (`bea` finds `beach`, below `bea` itself) if
        it has three characters and nothing follows it. In a large library, what holds only words
        that more than a tenth of it holds comes after all else.

        Args:
            space_id: Space in which items must have a vector.
            modality: Modality of the items.
            text: Words to search for. Nothing in it is syntax; without a letter or a digit, it
                finds nothing.
            limit: Maximum number of rows, but for those that tie with the last.
            where: Filter that the items must pass.

        Returns:
            Rows and their lexical scores (BM25), best first.
        """
        asked = terms(text)
        if not asked or limit < 1:
            return []
        search = TextSearch(self._connection, self._dialect, space_id, modality, where)
        if rare := search.rare(asked):
            found = search.best(asked, limit, any_of=rare)
            if len(found) >= limit:
                return found
        return search.best(asked, limit)

    def telling_matches(
        self,
        space_id: str,
        modality: Modality,
        text: str,
        *,
        where: Filter | None = None,
        counts: Mapping[DocumentCount, int] | None = None,
    ) -> list[WordMatch]:
        """Find all rows of current items that hold telling words of a text, in no order.

        A word is telling if less than half of the library holds it, and it is not one of the
        function words of the query. Words that too many files hold for each to be looked at (5,000
        together) count against the others, and find nothing.

        Args:
            space_id: Space in which items must have a vector.
            modality: Modality of the items.
            text: Words to search for, as in `text_matches`.
            where: Filter that the items must pass.
            counts: How many documents hold the words, in all shards of a library; None: in this.
        """
        asked = terms(text)
        if not asked:
            return []
        search = TextSearch(self._connection, self._dialect, space_id, modality, where, counts)
        return search.telling(asked)

    def document_counts(self, asked: Sequence[DocumentCount]) -> list[int]:
        """Count documents of the full-text index that hold words, as `telling_matches` needs it."""
        return [
            int(
                self._connection.scalar(
                    self._dialect.document_count(_TEXT_TABLES[name], held, most)
                )
            )
            for name, held, most in asked
        ]

    def items_at(
        self, space_id: str, modality: Modality, rows: Sequence[int], where: Filter | None = None
    ) -> dict[int, list[Item]]:
        """Return the current items at some rows; of hidden ones only those that a filter asks for.

        Args:
            space_id: Space of the rows.
            modality: Modality of the rows.
            rows: Rows, in any order.
            where: Filter that the items must pass.

        Returns:
            Items by row, sorted by id: several where files have the same content. Rows without
            any are left out.
        """
        found: dict[int, list[Item]] = {}
        for chunk in chunks(rows):
            query = (
                select_items(RowRecord.row)
                .join(RowRecord, RowRecord.item_id == ItemRecord.id)
                .where(
                    CURRENT,
                    RowRecord.space_id == space_id,
                    RowRecord.modality == modality,
                    RowRecord.row.in_(chunk),
                    shown(where, self._dialect),
                )
                .order_by(ItemRecord.id)
            )
            for row, *values in self._connection.execute(query):
                found.setdefault(row, []).append(item_of(values))
        return found

    def item_rows(self, space_id: str, item_ids: Sequence[int]) -> dict[int, tuple[Modality, int]]:
        """Return modalities and rows of those of some items that are current in a space, by id."""
        query = (
            sa.select(ItemRecord.id, ItemRecord.modality, row_in(space_id))
            .select_from(ItemRecord)
            .join(FileRecord, FileRecord.id == ItemRecord.file_id)
            .where(CAN_BE_FOUND)
        )
        return {
            item_id: (Modality(modality), row)
            for chunk in chunks(item_ids)
            for item_id, modality, row in self._connection.execute(
                query.where(ItemRecord.id.in_(chunk))
            )
            if row is not None
        }

    def item(self, item_id: int) -> Item | None:
        """Return an item by its id; None if its file was removed or failed."""
        query = select_items().where(
            ItemRecord.id == item_id, FileRecord.state == FileState.INDEXED
        )
        fields = self._connection.execute(query).one_or_none()
        return item_of(fields) if fields else None

    def items_of_ids(self, item_ids: Sequence[int]) -> dict[int, Item]:
        """Return those of some items whose files are there, by id, in the order that is given."""
        query = select_items().where(FileRecord.state == FileState.INDEXED)
        found = {
            item.id: item
            for chunk in chunks(item_ids)
            for item in map(
                item_of, self._connection.execute(query.where(ItemRecord.id.in_(chunk)))
            )
        }
        return {item_id: found[item_id] for item_id in item_ids if item_id in found}

    def page_pictures(self, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Item]:
        """Return the pictures of those of some pages, given by path and number, that have one."""
        wanted = set(places)
        found: dict[tuple[str, int], Item] = {}
        for paths in chunks(sorted({path for path, _ in wanted})):
            for pages in chunks(sorted({page for _, page in wanted})):
                query = select_items().where(
                    CAN_BE_FOUND,
                    FileRecord.path.in_(paths),
                    ItemRecord.modality == Modality.IMAGE,
                    ItemRecord.page.in_(pages),
                )
                for item in map(item_of, self._connection.execute(query)):
                    if item.page is not None and (item.path, item.page) in wanted:
                        found[item.path, item.page] = item
        return found

    def found_pictures(self, places: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Item]:
        """Return those of some pictures, given by path and part, that can be found."""
        wanted = set(places)
        found: dict[tuple[str, str], Item] = {}
        for paths in chunks(sorted({path for path, _ in wanted})):
            for parts in chunks(sorted({part for _, part in wanted})):
                query = select_items().where(
                    CAN_BE_FOUND,
                    FileRecord.path.in_(paths),
                    ItemRecord.modality == Modality.IMAGE,
                    ItemRecord.part.in_(parts),
                )
                for item in map(item_of, self._connection.execute(query)):
                    if (item.path, item.part) in wanted:
                        found[item.path, item.part] = item
        return found

    def paths_of_items(self, item_ids: Sequence[int]) -> set[str]:
        """Return the paths of the files that some items are in."""
        query = sa.select(FileRecord.path).join(ItemRecord, ItemRecord.file_id == FileRecord.id)
        return {
            path
            for chunk in chunks(item_ids)
            for path in self._connection.scalars(query.where(ItemRecord.id.in_(chunk)))
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
        """List current items of a space by id, page by page.

        Args:
            space_id: Space in which items must have a vector.
            where: Filter that the items must pass.
            modality: Modality of the items; None for all.
            after: Id of the last item of the page before; 0 for the first page.
            limit: Maximum number of items.
            newest_first: Sort by falling id.
        """
        query = self._listed(select_items(), space_id, where, modality).limit(limit)
        if newest_first:
            query = query.order_by(ItemRecord.id.desc())
            if after:
                query = query.where(ItemRecord.id < after)
        else:
            query = query.where(ItemRecord.id > after).order_by(ItemRecord.id)
        return [item_of(fields) for fields in self._connection.execute(query)]

    def added_after(
        self, space_id: str, item_id: int, limit: int
    ) -> tuple[int, dict[Modality, int]]:
        """Return the id of the newest current item of a space, and count those after an item.

        Returns 0 without items; of each modality at most `limit` are counted.
        """
        ids = self._listed(
            sa.select(ItemRecord.id).join_from(
                ItemRecord, FileRecord, FileRecord.id == ItemRecord.file_id
            ),
            space_id,
            None,
            None,
        )
        newest = self._connection.scalar(ids.order_by(ItemRecord.id.desc()).limit(1)) or 0
        added = dict.fromkeys(Modality, 0)
        if newest > item_id:
            for modality in Modality:
                later = ids.where(ItemRecord.id > item_id, ItemRecord.modality == modality)
                counted = sa.select(sa.func.count()).select_from(later.limit(limit).subquery())
                added[modality] = self._connection.scalar(counted) or 0
        return newest, added

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
        """List current items of a space by their local date, then id, page by page.

        Args:
            space_id: Space in which items must have a vector.
            where: Filter that the items must pass.
            modality: Modality of the items; None for all.
            after: Date and id of the last item of the page before; None for the first page. Items
                without a date come last.
            limit: Maximum number of items.
            oldest_first: Sort by rising date and id.
        """
        date, item_id = FileRecord.taken_local, ItemRecord.id
        query = self._listed(select_items(files_first=True), space_id, where, modality)
        # Dated ones and others by queries of their own: one for both would sort the whole library.
        dated = query.where(date.is_not(None))
        undated = query.where(date.is_(None))
        last_date, last_id = after or (None, None)
        if last_id is not None:
            is_behind = item_id > last_id if oldest_first else item_id < last_id
            if last_date is None:
                undated, dated = undated.where(is_behind), dated.where(sa.false())
            else:
                last = clock_seconds(last_date)
                at_most = date >= last if oldest_first else date <= last
                dated = dated.where(at_most, sa.or_(date != last, is_behind))
        by_id = item_id.asc() if oldest_first else item_id.desc()
        by_date = date.asc() if oldest_first else date.desc()
        found = self._connection.execute(dated.order_by(by_date, by_id).limit(limit)).all()
        if len(found) < limit:
            rest = undated.order_by(by_id).limit(limit - len(found))
            found = [*found, *self._connection.execute(rest)]
        return [item_of(fields) for fields in found]

    def items_by_name(
        self,
        space_id: str,
        *,
        where: Filter | None = None,
        modality: Modality | None = None,
        after: tuple[str, int] | None = None,
        limit: int,
    ) -> list[Item]:
        """List current items of a space by path, then id, page by page.

        Args:
            space_id: Space in which items must have a vector.
            where: Filter that the items must pass.
            modality: Modality of the items; None for all.
            after: Path and id of the last item of the page before; None for the first page.
            limit: Maximum number of items.
        """
        path, item_id = FileRecord.path, ItemRecord.id
        query = self._listed(select_items(files_first=True), space_id, where, modality)
        if after is not None:
            last_path, last_id = after
            query = query.where(path >= last_path, sa.or_(path != last_path, item_id > last_id))
        found = self._connection.execute(query.order_by(path, item_id).limit(limit))
        return [item_of(fields) for fields in found]

    def neighbours(
        self, space_id: str, item: Item, *, before: int = 0, after: int = 0
    ) -> list[Item]:
        """List items of the same file and modality that lie before or after one, in their order.

        Frames are in the order of their times, pages and chunks in that of the document.

        Args:
            space_id: Space in which items must have a vector.
            item: The item between them.
            before: Maximum number of items before it, of which the nearest are taken.
            after: The same after it; one of the two numbers is given.
        """
        page = sa.func.coalesce(ItemRecord.page, 0)
        time = sa.func.coalesce(ItemRecord.time_s, 0.0)
        place = sa.tuple_(page, time, ItemRecord.id)
        here = sa.tuple_(sa.literal(item.page or 0), sa.literal(item.time_s or 0.0), item.id)
        query = self._listed(select_items(), space_id, None, item.modality).where(
            FileRecord.path == item.path
        )
        if before:
            query = query.where(place < here).limit(before)
            query = query.order_by(page.desc(), time.desc(), ItemRecord.id.desc())
        else:
            query = query.where(place > here).limit(after).order_by(page, time, ItemRecord.id)
        found = [item_of(fields) for fields in self._connection.execute(query)]
        return found[::-1] if before else found

    def map_points(self, box: GeoBox, *, cells: int, where: Filter | None = None) -> list[MapPoint]:
        """Count the files with coordinates inside a box, by cells of a grid over it.

        Args:
            box: What the map shows.
            cells: Number of cells along each side of the box; a cell without files gives no point.
            where: Filter that an item of a file must pass.

        Returns:
            About cells x cells points at most, those of most files first.
        """
        inside = Filter(gps=box)
        east = box.east + 360 if box.west > box.east else box.east
        longitude: Any = FileRecord.longitude
        if box.west > box.east:  # it crosses the 180th meridian
            longitude = sa.case((longitude < box.west, longitude + 360), else_=longitude)
        sizes = (box.north - box.south) / cells or 1.0, (east - box.west) / cells or 1.0
        row = self._dialect.truncated((FileRecord.latitude - box.south) / sizes[0])
        column = self._dialect.truncated((longitude - box.west) / sizes[1])
        files = (
            sa.select(
                FileRecord.latitude.label("latitude"),
                longitude.label("longitude"),
                row.label("row"),
                column.label("column"),
                sa.func.min(ItemRecord.id).label("item_id"),
            )
            .join_from(FileRecord, ItemRecord, ItemRecord.file_id == FileRecord.id)
            .where(
                CAN_BE_FOUND,
                condition(inside, self._dialect, by_index=True),
                shown(where, self._dialect),
            )
            .group_by(FileRecord.id)
            .subquery()
        )
        count = sa.func.count()
        query = (
            sa.select(
                sa.func.avg(files.c.latitude),
                sa.func.avg(files.c.longitude),
                count,
                sa.func.min(files.c.item_id),
            )
            .group_by(files.c.row, files.c.column)
            .order_by(count.desc(), sa.func.min(files.c.item_id))
        )
        return [
            require_types(MapPoint(lat, lon - 360 if lon > 180 else lon, number, item_id))
            for lat, lon, number, item_id in self._connection.execute(query)
        ]

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
        """List current items of a collection in the order in which they were added, page by page.

        Args:
            space_id: Space in which items must have a vector.
            collection_id: The collection.
            where: Filter that the items must pass.
            modality: Modality of the items; None for all.
            after: Place of the last item of the page before; 0 for the first page.
            limit: Maximum number of items.

        Returns:
            Each item with its place, a number that grows with the order.
        """
        items = (
            select_items(CollectedItemRecord.id)
            .join(CollectedItemRecord, CollectedItemRecord.item_id == ItemRecord.id)
            .where(
                CollectedItemRecord.collection_id == collection_id, CollectedItemRecord.id > after
            )
            .order_by(CollectedItemRecord.id)
            .limit(limit)
        )
        found = self._connection.execute(self._listed(items, space_id, where, modality))
        return [(place, item_of(fields)) for place, *fields in found]

    def collections(self) -> list[Collection]:
        """List the collections by name, with the number of their items that a list shows."""
        return [require_types(one) for one in collections.read_collections(self._connection)]

    def collection_members(self) -> ColumnFacet:
        """Read what facets count of collections."""
        return collections.read_members(self._connection, self._dialect)

    def id_of_collection(self, name: str) -> int:
        """Return the id of a collection; raises NotFoundError for an unknown name."""
        return collections.id_of_collection(self._connection, name)

    def require_collections(self, where: Filter | None) -> None:
        """Raise NotFoundError for a collection of a filter that is not there."""
        for name in sorted(where.collections) if where is not None else ():
            self.id_of_collection(name)

    def saved_searches(self) -> list[SavedSearch]:
        """List the saved searches by name."""
        return [require_types(one) for one in collections.read_saved(self._connection)]

    def pictures(self, space_id: str) -> list[Item]:
        """List every image, frame and page that a search in the space can find, by row."""
        query = (
            select_items()
            .join(RowRecord, RowRecord.item_id == ItemRecord.id)
            .where(CURRENT, RowRecord.space_id == space_id, RowRecord.modality == Modality.IMAGE)
            .order_by(RowRecord.row, ItemRecord.id)
        )
        return [item_of(fields) for fields in self._connection.execute(query)]

    def enrichments(self, task: Task, keys: Iterable[str]) -> dict[str, Enrichment]:
        """Return what a task found in some pictures or files, by key; see `Enrichment`."""
        return enrichments.read(self._connection, task, keys)

    def enrichments_of(self, item: Item) -> list[Enrichment]:
        """List what was found in an item's picture, and what is said in its file, by task."""
        return enrichments.of_item(self._connection, item)

    def enrichment_counts(self) -> dict[Task, EnrichmentCounts]:
        """Count what each task has looked at; tasks that have looked at nothing are left out."""
        if not enrichments.exist(self._connection):
            return {}
        found = {task: enrichments.count(self._connection, task) for task in Task}
        return {task: counts for task, counts in found.items() if counts.looked_at}

    def pictures_to_enrich(
        self,
        space_id: str,
        task: Task,
        *,
        model: str | None = None,
        retry_failed: bool = False,
        after: int = 0,
        limit: int,
    ) -> list[Item]:
        """List pictures that a task has not looked at, by id, page by page.

        Several have the same `picture_key` where files have the same content. Pages with a text of
        their own are not for OCR, and pages of documents get no captions.

        Args:
            space_id: Space in which the pictures must have a vector.
            task: The task.
            model: Also list what another model than this one has looked at.
            retry_failed: Also list those at which it could not look.
            after: Id of the last item of the page before; 0 for the first page.
            limit: Maximum number of items.
        """
        return enrichments.missing_pictures(
            self._connection,
            space_id,
            task,
            model=model,
            retry_failed=retry_failed,
            after=after,
            limit=limit,
        )

    def files_to_enrich(
        self,
        task: Task,
        *,
        model: str | None = None,
        retry_failed: bool = False,
        after: str = "",
        limit: int,
    ) -> list[FileEntry]:
        """List files of sound, videos too, that a task has not heard, by path, page by page.

        Args:
            task: The task.
            model: Also list what another model than this one has heard.
            retry_failed: Also list those that it could not hear.
            after: Path of the last file of the page before.
            limit: Maximum number of files.
        """
        found = enrichments.missing_files(
            self._connection,
            task,
            model=model,
            retry_failed=retry_failed,
            after=after,
            limit=limit,
        )
        return [
            FileEntry(path, MediaKind(kind), size, mtime_ns, digest)
            for path, kind, digest, size, mtime_ns in found
        ]

    def subtitle_states(self) -> list[tuple[str, str, str]]:
        """List path, content hash and state of the subtitles of each file that was heard, by path.

        The state is the one that was recorded with what was heard; "" of none.
        """
        return enrichments.subtitle_states(self._connection)

    def count_to_enrich(
        self, space_id: str, task: Task, *, model: str | None = None, retry_failed: bool = False
    ) -> int:
        """Count the distinct pictures, or contents of files, that a task has not looked at."""
        return enrichments.count_missing(self._connection, space_id, task, model, retry_failed)

    def without_passages(
        self, space_id: str, task: Task, *, after: int = 0, limit: int
    ) -> list[tuple[int, Item | None, str, str, list[Segment]]]:
        """List found texts that are no items of a space yet, page by page.

        Args:
            space_id: The space; of pictures only those that it has a vector of.
            task: Whose texts.
            after: The number of the last of the page before; 0 for the first page.
            limit: Maximum number.

        Returns:
            Of each a number that grows, the picture (None: a file that was heard), the path and
            the content hash of its file, and the segments.
        """
        return enrichments.without_passages(
            self._connection, space_id, task, after=after, limit=limit
        )

    def picture_rows(self, space_id: str, *, parts: bool = False) -> Iterator[tuple[int, str]]:
        """Yield one row and the content hash of each distinct image that can be found, by row.

        parts: include frames and pages.
        """
        row = sa.func.min(RowRecord.row)
        query = (
            select_current(space_id, Modality.IMAGE, row, RowRecord.content_hash)
            .group_by(RowRecord.content_hash, ItemRecord.part)
            .order_by(row)
        )
        if not parts:
            query = query.where(ItemRecord.part == "")
        for first_row, content_hash in self._stream(query):  # noqa: UP028
            yield first_row, content_hash

    def details(self, item: Item) -> FileDetails:
        """Return the metadata of an item's file."""
        file = self._connection.execute(
            sa.select(FileRecord).where(FileRecord.path == item.path)
        ).one()
        annotations = self._connection.scalars(
            sa.select(AnnotationRecord.columns)
            .join(FileRecord, FileRecord.id == AnnotationRecord.file_id)
            .where(AnnotationRecord.image_path == item.path, FileRecord.state == FileState.INDEXED)
            .order_by(AnnotationRecord.id)
        )
        metadata = _metadata(file)
        taken_at = date_of(metadata.taken_at, file.mtime_ns)
        return FileDetails(metadata, taken_at, file.size, list(annotations), self._notes(file.id))

    def said_of(self, paths: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return what tables say of some files, by path; of one column the last row counts."""
        query = (
            sa.select(AnnotationRecord.image_path, AnnotationRecord.columns)
            .join(FileRecord, FileRecord.id == AnnotationRecord.file_id)
            .where(FileRecord.state == FileState.INDEXED)
            .order_by(AnnotationRecord.id)
        )
        said: dict[str, dict[str, Any]] = {}
        for chunk in chunks(paths):
            of_chunk = query.where(AnnotationRecord.image_path.in_(chunk))
            for path, columns in self._connection.execute(of_chunk):
                said.setdefault(path, {}).update(columns)
        return said

    def files_of_same_content(self) -> Iterator[FileEntry]:
        """Yield non-empty files that share their content, by its hash, then path.

        Their metadata is left out.
        """
        of_content = sa.and_(FileRecord.state == FileState.INDEXED, FileRecord.size > 0)
        shared = (
            sa.select(FileRecord.content_hash)
            .where(of_content)
            .group_by(FileRecord.content_hash)
            .having(sa.func.count() > 1)
        )
        query = (
            sa.select(*_FILE)
            .where(of_content, FileRecord.content_hash.in_(shared))
            .order_by(FileRecord.content_hash, FileRecord.path)
        )
        for file in self._stream(query):
            yield _file_entry(file)

    def files_below(self, roots: Sequence[str], space_id: str) -> Iterator[KnownFile]:
        """Yield every file that was seen at or below some paths, including removed ones."""
        query = sa.select(
            FileRecord.path,
            FileRecord.state,
            FileRecord.size,
            FileRecord.mtime_ns,
            FileRecord.content_hash,
            _is_embedded(space_id),
            FileRecord.sidecars,
            FileRecord.metadata_version,
            FileRecord.etag,
        )
        for chunk in chunks(roots, _ROOTS_PER_STATEMENT):
            below = query.where(sa.or_(*(at_or_below(root) for root in chunk)))
            for path, state, *rest in self._stream(below):
                known: list[Any] = rest
                yield KnownFile(path, FileState(state), *known)

    def images_without_parts(self, paths: Sequence[str]) -> list[str]:
        """Return those of some paths that are one item as a whole."""
        query = (
            sa.select(FileRecord.path)
            .join(ItemRecord, ItemRecord.file_id == FileRecord.id)
            .where(ItemRecord.part == "", ItemRecord.modality == Modality.IMAGE)
        )
        return [
            path
            for chunk in chunks(paths)
            for path in self._connection.scalars(query.where(FileRecord.path.in_(chunk)))
        ]

    def count_old_metadata(self) -> int:
        """Count the files that an earlier version read less of, until `mark_old_metadata`."""
        query = sa.select(sa.func.count()).where(IS_OLD_METADATA)
        return self._connection.scalar(query) or 0

    def contents_of_size(
        self, space_id: str, sizes: Iterable[int]
    ) -> dict[int, set[tuple[MediaKind, str]]]:
        """Return kinds and hashes of contents that were embedded completely, by size in bytes."""
        found: dict[int, set[tuple[MediaKind, str]]] = {}
        for chunk in chunks(sorted(set(sizes))):
            query = (
                sa.select(FileRecord.size, FileRecord.kind, FileRecord.content_hash)
                .join(EmbeddedFileRecord, EmbeddedFileRecord.file_id == FileRecord.id)
                .where(
                    FileRecord.size.in_(chunk),
                    EmbeddedFileRecord.space_id == space_id,
                    EmbeddedFileRecord.content_hash == FileRecord.content_hash,
                )
            )
            for size, kind, content_hash in self._connection.execute(query):
                found.setdefault(size, set()).add((MediaKind(kind), content_hash or ""))
        return found

    def paths_with_content(
        self, kind: MediaKind, content_hash: str, *, limit: int = 100
    ) -> list[tuple[str, FileState]]:
        """List files of a kind that have a content, or had it when they were removed, by path."""
        query = (
            sa.select(FileRecord.path, FileRecord.state)
            .where(FileRecord.kind == kind, FileRecord.content_hash == content_hash)
            .order_by(FileRecord.path)
            .limit(limit)
        )
        return [(path, FileState(state)) for path, state in self._connection.execute(query)]

    def content_hashes(self, paths: Sequence[str]) -> dict[str, str | None]:
        """Return the content hashes of those of some paths that can be found in searches."""
        found: dict[str, str | None] = {}
        for chunk in chunks(paths):
            found |= self._mapping(
                sa.select(FileRecord.path, FileRecord.content_hash).where(
                    FileRecord.path.in_(chunk), FileRecord.state == FileState.INDEXED
                )
            )
        return found

    def rows_of_contents(
        self, space_id: str, content_hashes: Iterable[str]
    ) -> dict[tuple[str, Modality, str], int]:
        """Return the rows that hold vectors of some contents, by hash, modality and part."""
        found: dict[tuple[str, Modality, str], int] = {}
        for chunk in chunks(sorted(set(content_hashes))):
            query = (
                sa.select(
                    RowRecord.content_hash, RowRecord.modality, ItemRecord.part, RowRecord.row
                )
                .join(ItemRecord, ItemRecord.id == RowRecord.item_id)
                .where(RowRecord.space_id == space_id, RowRecord.content_hash.in_(chunk))
            )
            for content_hash, modality, part, row in self._connection.execute(query):
                found[content_hash, Modality(modality), part] = row
        return found

    def embedded_content(
        self, space_id: str, kind: MediaKind, content_hash: str
    ) -> tuple[Metadata | None, list[ItemEntry], list[str]] | None:
        """Return metadata, items and notes of a content; None unless a file embeds it completely.

        Spares reading a copy of a known file. The metadata is None where it is partly of sidecars,
        which say nothing of a copy.
        """
        query = (
            sa.select(FileRecord)
            .join(EmbeddedFileRecord, EmbeddedFileRecord.file_id == FileRecord.id)
            .where(
                FileRecord.kind == kind,
                FileRecord.content_hash == content_hash,
                EmbeddedFileRecord.space_id == space_id,
                EmbeddedFileRecord.content_hash == content_hash,
            )
            # Rather one that no sidecar describes.
            .order_by(FileRecord.sidecars.is_not(None))
            .limit(1)
        )
        file = self._connection.execute(query).one_or_none()
        if file is None:
            return None
        items = (
            sa.select(RowRecord.modality, RowRecord.row, *ITEM_COLUMNS)
            .join(ItemRecord, ItemRecord.id == RowRecord.item_id)
            .where(
                ItemRecord.file_id == file.id,
                RowRecord.space_id == space_id,
                RowRecord.content_hash == content_hash,
            )
            .order_by(ItemRecord.id)
        )
        entries = [
            ItemEntry(Modality(modality), *values)
            for modality, *values in self._connection.execute(items)
        ]
        columns = self._connection.scalar(
            sa.select(AnnotationRecord.columns).where(
                AnnotationRecord.file_id == file.id, AnnotationRecord.image_path == file.path
            )
        )
        own = replace(_metadata(file), columns=columns) if file.sidecars is None else None
        return own, entries, self._notes(file.id)

    def failures(self) -> list[FailedFile]:
        """List the files that could not be read, by path."""
        query = (
            sa.select(FileRecord.path, FileRecord.failure, FileRecord.size, FileRecord.mtime_ns)
            .where(FileRecord.state == FileState.FAILED)
            .order_by(FileRecord.path)
        )
        return [
            FailedFile(path, failure or "", size, mtime_ns)
            for path, failure, size, mtime_ns in self._connection.execute(query)
        ]

    def notes(self) -> list[NotedFile]:
        """List the indexed files of which something could not be read, by path."""
        query = (
            sa.select(FileRecord.path, NoteRecord.note)
            .join(NoteRecord, NoteRecord.file_id == FileRecord.id)
            .where(FileRecord.state == FileState.INDEXED)
            .order_by(FileRecord.path, NoteRecord.id)
        )
        noted: dict[str, list[str]] = {}
        for path, note in self._connection.execute(query):
            noted.setdefault(path, []).append(note)
        return [NotedFile(path, notes) for path, notes in noted.items()]

    def _notes(self, file_id: int) -> list[str]:
        query = sa.select(NoteRecord.note).filter_by(file_id=file_id).order_by(NoteRecord.id)
        return list(self._connection.scalars(query))

    def sources(self) -> list[str]:
        """List the paths of the library's sources, sorted."""
        return sorted(self._connection.scalars(sa.select(SourceRecord.path)))

    def source_options(self) -> dict[str, dict[str, Any] | None]:
        """Return the options of each source, by path; None for the defaults."""
        query = sa.select(SourceRecord.path, SourceRecord.options).order_by(SourceRecord.path)
        options: dict[str, dict[str, Any] | None] = self._mapping(query)
        for chosen in options.values():
            if not isinstance(chosen, dict | None):
                raise TypeError(f"options {chosen!r:.40}")
        return options

    def sources_beside(self) -> dict[str, str]:
        """Return the way from the library's directory to the sources that lie beside it."""
        query = sa.select(SourceRecord.path, SourceRecord.beside).order_by(SourceRecord.path)
        return self._mapping(query.where(SourceRecord.beside.is_not(None)))

    def seen(self) -> Seen:
        """Return what the last walks of all sources met but did not take in."""
        return Seen.joined(self._connection.scalars(sa.select(SourceRecord.seen)))

    def counts(self, space_id: str) -> Counts:
        """Count files by state, and the items that a search in the space can find."""
        by_state: dict[str, int] = self._mapping(
            sa.select(FileRecord.state, sa.func.count()).group_by(FileRecord.state)
        )
        by_modality: dict[str, int] = self._mapping(
            select_current(space_id, None, RowRecord.modality, sa.func.count()).group_by(
                RowRecord.modality
            )
        )
        return Counts(
            indexed=by_state.get(FileState.INDEXED, 0),
            failed=by_state.get(FileState.FAILED, 0),
            removed=by_state.get(FileState.REMOVED, 0),
            items={modality: by_modality.get(modality, 0) for modality in Modality},
            noted=self._connection.scalar(
                sa.select(sa.func.count(NoteRecord.file_id.distinct()))
                .join(FileRecord, FileRecord.id == NoteRecord.file_id)
                .where(FileRecord.state == FileState.INDEXED)
            )
            or 0,
            dated_by_mtime=self._connection.scalar(
                sa.select(sa.func.count()).where(
                    FileRecord.state == FileState.INDEXED,
                    FileRecord.kind.in_([MediaKind.IMAGE, MediaKind.VIDEO]),
                    FileRecord.taken_at.is_(None),
                )
            )
            or 0,
            hidden=self._connection.scalar(
                select_current(space_id, None, sa.func.count()).join(
                    HiddenItemRecord, HiddenItemRecord.item_id == ItemRecord.id
                )
            )
            or 0,
        )

    def files_behind(self, space_id: str, kinds: Iterable[MediaKind] = tuple(MediaKind)) -> int:
        """Count the files that can be found, but were not embedded as they are in a space.

        kinds: those of which it takes anything. Items that were added with their vectors are of no
        files.
        """
        is_file = sa.or_(FileRecord.path < GIVEN, FileRecord.path >= GIVEN[:-1] + ";")
        query = sa.select(sa.func.count()).where(CAN_BE_FOUND, is_file, ~_is_embedded(space_id))
        query = query.where(FileRecord.kind.in_([str(kind) for kind in kinds]))
        return self._connection.scalar(query.select_from(FileRecord)) or 0

    def kinds(self) -> dict[MediaKind, int]:
        """Count the files of each kind that can be found."""
        query = (
            sa.select(FileRecord.kind, sa.func.count())
            .where(FileRecord.state == FileState.INDEXED)
            .group_by(FileRecord.kind)
            .order_by(FileRecord.kind)
        )
        return {MediaKind(kind): count for kind, count in self._connection.execute(query)}

    def cameras(self) -> list[str]:
        """List camera names of files that can be found, sorted; at most 1000."""
        query = (
            sa.select(FileRecord.camera)
            .where(FileRecord.camera.is_not(None), FileRecord.state == FileState.INDEXED)
            .distinct()
            .order_by(FileRecord.camera)
            .limit(_MOST_NAMES)
        )
        cameras = [camera for camera in self._connection.scalars(query) if camera]
        if not all(isinstance(camera, str) for camera in cameras):
            raise TypeError("a camera that is no text")
        return cameras

    def places(self) -> list[str]:
        """List the places of files that can be found: names, a line each; at most 10,000."""
        query = (
            sa.select(FileRecord.place)
            .where(FileRecord.place.is_not(None), FileRecord.state == FileState.INDEXED)
            .distinct()
            .limit(_MOST_PLACES)
        )
        return [place for place in self._connection.scalars(query) if place]

    def folders(self) -> list[str]:
        """List the folders that hold files that can be found, sorted."""
        holds_any = sa.exists().where(FileRecord.folder_id == FolderRecord.id, CAN_BE_FOUND)
        paths = self._connection.scalars(sa.select(FolderRecord.path).where(holds_any))
        return sorted(path.removesuffix(os.sep) for path in paths)

    def days(self) -> list[int]:
        """List the days on which files that can be found were taken by their own dates.

        In days since 1970, sorted.
        """
        day = self._dialect.truncated(FileRecord.taken_local / 86_400)
        query = sa.select(day).where(FileRecord.taken_at.is_not(None), CAN_BE_FOUND).distinct()
        return sorted(self._connection.scalars(query))

    def is_southern(self) -> bool:
        """Return whether most files with coordinates are from south of the equator."""
        query = sa.select(sa.func.avg(sa.case((FileRecord.latitude < 0, 1.0), else_=0.0))).where(
            FileRecord.latitude.is_not(None), CAN_BE_FOUND
        )
        return (self._connection.scalar(query) or 0.0) > 0.5

    def taken_between(self) -> tuple[int, int] | None:
        """Return the first and the last capture time, seconds since 1970; None without files."""
        between = sa.select(sa.func.min(FileRecord.date), sa.func.max(FileRecord.date)).where(
            FileRecord.state == FileState.INDEXED
        )
        first, last = self._connection.execute(between).one()
        return None if first is None or last is None else (first, last)

    def columns(self) -> dict[str, list[ColumnValue]]:
        """Return the column names of tables and files, sorted, each with up to 5 sample values.

        Reads the first 50 rows of each of up to 1000 tables.
        """
        found: dict[str, list[ColumnValue]] = {}
        for row in self._first_rows_of_tables():
            for name, value in row.items():
                if name in found or len(found) < _MOST_NAMES:
                    add_samples(found.setdefault(name, []), value)
        for name in OF_FILES:
            said = sa.select(CellValueRecord.value).where(CellValueRecord.name == name)
            for value in self._connection.scalars(said.limit(_SAMPLES)):
                add_samples(found.setdefault(name, []), json.loads(value))
        return dict(sorted(found.items()))

    def _first_rows_of_tables(self) -> Iterator[dict[str, Any]]:
        tables = (
            sa.select(FileRecord.id)
            .where(FileRecord.kind == MediaKind.TABLE, FileRecord.state == FileState.INDEXED)
            .order_by(FileRecord.id)
            .limit(_MOST_TABLES)
        )
        for file_id in self._connection.scalars(tables).all():
            for record in (AnnotationRecord, ItemRecord):
                rows = (
                    sa.select(record.columns)
                    .where(record.file_id == file_id, record.columns.is_not(None))
                    .order_by(record.id)
                    .limit(_ROWS_A_TABLE)
                )
                yield from self._connection.scalars(rows)

    def _listed(
        self, items: sa.Select[Any], space_id: str, where: Filter | None, modality: Modality | None
    ) -> sa.Select[Any]:
        """Keep the selected items that a list shows. modality: None for all."""
        query = items.where(
            CAN_BE_FOUND, row_in(space_id).is_not(None), shown(where, self._dialect)
        )
        return query if modality is None else query.where(ItemRecord.modality == modality)

    def _stream(self, query: sa.Executable) -> Iterable[Any]:
        """Read rows a few at a time, where a server would send all of them at once."""
        return self._connection.execute(query, execution_options={"yield_per": _ROWS_AT_ONCE})

    def _numbers(self, query: sa.Select[Any]) -> tuple[NDArray[np.int64], ...]:
        return self._dialect.read_integers(self._connection, query)

    def _mapping(self, query: sa.Executable) -> dict[str, Any]:
        return {key: value for key, value in self._connection.execute(query)}  # noqa: C416


_FILE = (
    FileRecord.path,
    FileRecord.kind,
    FileRecord.size,
    FileRecord.mtime_ns,
    FileRecord.content_hash,
)


def _file_entry(fields: Sequence[Any]) -> FileEntry:
    path, kind, size, mtime_ns, content_hash = fields
    return FileEntry(path, MediaKind(kind), size, mtime_ns, content_hash or "")


def _rows_of(space_id: str, modality: Modality, *columns: Any) -> sa.Select[Any]:
    """Select of all rows of a space and modality, always in the same order."""
    return (
        sa.select(*columns)
        .where(RowRecord.space_id == space_id, RowRecord.modality == modality)
        .order_by(RowRecord.row, RowRecord.file_id, RowRecord.item_id)
    )


def _is_embedded(space_id: str) -> sa.Exists:
    """Match files that were embedded in a space as they are now, completely."""
    return sa.exists().where(
        EmbeddedFileRecord.file_id == FileRecord.id,
        EmbeddedFileRecord.space_id == space_id,
        EmbeddedFileRecord.content_hash == FileRecord.content_hash,
    )


def _metadata(file: Any) -> Metadata:
    """Read the metadata back; a local time without a date in it is the machine's, by the mtime."""
    known = {name: getattr(file, name) for name in METADATA}
    undated = {"taken_local": None} if file.taken_at is None else {}
    return require_types(Metadata(**known | undated))


def add_samples(samples: list[ColumnValue], value: Any) -> None:
    """Add a value of a column to its samples, or those of a list, while they are few."""
    for single in value if isinstance(value, list) else [value]:
        is_fit = isinstance(single, int | float) or (
            isinstance(single, str) and 0 < len(single) <= _LONGEST_SAMPLE
        )
        if is_fit and len(samples) < _SAMPLES and single not in samples:
            samples.append(single)
