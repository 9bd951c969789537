"""What can be asked of the catalog."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from retrieval.catalog import listing
from retrieval.catalog.filtering import condition
from retrieval.catalog.fulltext.search import TextSearch
from retrieval.catalog.records import (
    Counts,
    FailedFile,
    FileDetails,
    FileState,
    Item,
    KnownFile,
    ReadFile,
    ReadItem,
)
from retrieval.catalog.schema import (
    AnnotationRecord,
    ExtentRecord,
    FileRecord,
    ItemRecord,
    ReadingRecord,
    RowRecord,
    SourceRecord,
)
from retrieval.catalog.statements import (
    CAN_BE_FOUND,
    CURRENT,
    PARAMETERS_PER_STATEMENT,
    at_or_below,
    chunks,
    item_of,
    row_in,
    select_items,
)
from retrieval.filters import Filter
from retrieval.media import UNTRUSTED_MTIME, MediaKind, Metadata, Modality

_ROOTS_PER_STATEMENT = 200
"""Below SQLite's limit of 1,000 levels of an expression."""

METADATA = tuple(field.name for field in fields(Metadata))


class Snapshot:
    """Read queries that all see the catalog as it was at one instant."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def row_count(self, space_id: str, modality: Modality) -> int:
        """Committed rows of a space and modality."""
        query = sa.select(ExtentRecord.row_count).where(
            ExtentRecord.space_id == space_id, ExtentRecord.modality == modality
        )
        return self._connection.scalar(query) or 0

    def live_rows(self, space_id: str, modality: Modality) -> NDArray[np.bool_]:
        """Which of the committed rows hold a current item, (row_count,) bool.

        Takes most of a second for a million rows.
        """
        query = (
            sa.select(RowRecord.row)
            .join(ItemRecord, ItemRecord.id == RowRecord.item_id)
            .join(FileRecord, FileRecord.id == ItemRecord.file_id)
            .where(CURRENT, RowRecord.space_id == space_id, RowRecord.modality == modality)
        )
        return self._bitmap(space_id, modality, query)

    def matching_rows(self, space_id: str, modality: Modality, where: Filter) -> NDArray[np.bool_]:
        """Which of the committed rows hold a current item that passes, (row_count,) bool.

        Takes a second or two for a million rows, and a small part of it where the filter names a
        folder.
        """
        if where.is_empty:
            return self.live_rows(space_id, modality)
        query = (
            sa.select(row_in(space_id))
            .select_from(ItemRecord)
            .join(FileRecord, FileRecord.id == ItemRecord.file_id)
            .where(CAN_BE_FOUND, ItemRecord.modality == modality, condition(where))
        )
        return self._bitmap(space_id, modality, query)

    def text_matches(
        self,
        space_id: str,
        modality: Modality,
        text: str,
        *,
        limit: int,
        where: Filter | None = None,
        all_words: bool = False,
    ) -> list[tuple[int, float]]:
        """Rows of current items that hold words of a text, and their scores (BM25), best first.

        Words are those of passages and table columns, and those of the file: its name and folders,
        what it and tables say of it, its camera. The words of a file add to the score of those
        items that match by themselves; of a file without such an item, they stand for the first
        item alone, so that a video's name does not bring all of its frames.

        One word is enough, and the last one may go on (`bea` finds `beach`, below `bea` itself) if
        it has three characters and nothing follows it. In a large library, what holds only words
        that more than a tenth of it holds comes after all else. all_words: an item must hold each
        word, itself or in its file's, and as it stands. Nothing in the text is syntax; a
        text without a letter or a digit finds nothing.
        """
        search = TextSearch(self._connection, space_id, modality, where)
        return search.run(text, limit, all_words=all_words)

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
        """Current items of a space that pass a filter, by id, from the first past `after` on.

        newest_first: by falling id, and `after` 0 begins with the last.
        """
        return listing.items(
            self._connection,
            space_id,
            where=where,
            modality=modality,
            after=after,
            limit=limit,
            newest_first=newest_first,
        )

    def item_rows(self, space_id: str, item_ids: Sequence[int]) -> dict[int, tuple[Modality, int]]:
        """Modalities and rows of those of some items that are current in a space."""
        return listing.item_rows(self._connection, space_id, item_ids)

    def cameras(self) -> list[str]:
        """Names of cameras that took what can be found, sorted; at most 1000."""
        return listing.cameras(self._connection)

    def kinds(self) -> dict[MediaKind, int]:
        """How many files of each kind can be found."""
        return listing.kinds(self._connection)

    def taken_between(self) -> tuple[int, int] | None:
        """When the first and the last file was taken, seconds since 1970; None without files."""
        return listing.taken_between(self._connection)

    def columns(self) -> dict[str, list[str | int | float | bool]]:
        """Names of the columns of tables, sorted, each with up to 5 values for example.

        Of each of up to 1000 tables, the first 50 rows tell.
        """
        return listing.columns(self._connection)

    def _bitmap(
        self, space_id: str, modality: Modality, query: sa.Select[Any]
    ) -> NDArray[np.bool_]:
        """Which of the committed rows a query finds; NULLs are passed over."""
        found_rows = np.zeros(self.row_count(space_id, modality), dtype=np.bool_)
        cursor = self._connection.execute(query).cursor  # SQLAlchemy's own rows take twice as long
        while cursor and (found := cursor.fetchmany(PARAMETERS_PER_STATEMENT)):
            found_rows[[row for (row,) in found if row is not None]] = True
        return found_rows

    def sources(self) -> list[str]:
        """Paths that the library was told to index, sorted."""
        return sorted(self._connection.scalars(sa.select(SourceRecord.path)))

    def source_options(self) -> dict[str, dict[str, Any] | None]:
        """How each source was told to be read, by path; None: as usual."""
        query = sa.select(SourceRecord.path, SourceRecord.options).order_by(SourceRecord.path)
        return {path: options for path, options in self._connection.execute(query)}  # noqa: C416

    def items_at(
        self, space_id: str, modality: Modality, rows: Sequence[int], where: Filter | None = None
    ) -> dict[int, list[Item]]:
        """The current items at some rows that pass a filter; rows without any are left out."""
        passing = sa.true() if where is None else condition(where)
        found: dict[int, list[Item]] = {}
        for chunk in chunks(rows):
            query = (
                select_items(RowRecord.row)
                .join(RowRecord, RowRecord.item_id == ItemRecord.id)
                .where(
                    CURRENT,
                    passing,
                    RowRecord.space_id == space_id,
                    RowRecord.modality == modality,
                    RowRecord.row.in_(chunk),
                )
                .order_by(ItemRecord.id)
            )
            for row, *values in self._connection.execute(query):
                found.setdefault(row, []).append(item_of(values))
        return found

    def pictures(self, space_id: str) -> list[Item]:
        """Every picture that a search in the space can find, by row."""
        query = (
            select_items()
            .join(RowRecord, RowRecord.item_id == ItemRecord.id)
            .where(CURRENT, RowRecord.space_id == space_id, RowRecord.modality == Modality.IMAGE)
            .order_by(RowRecord.row, ItemRecord.id)
        )
        return [item_of(fields) for fields in self._connection.execute(query)]

    def picture_rows(self, space_id: str, *, parts: bool = False) -> Iterator[tuple[int, str]]:
        """One row of each distinct image that can be found, and its content's hash; by row.

        parts: frames and pages, too.
        """
        row = sa.func.min(RowRecord.row)
        query = (
            sa.select(row, RowRecord.content_hash)
            .join(ItemRecord, ItemRecord.id == RowRecord.item_id)
            .join(FileRecord, FileRecord.id == ItemRecord.file_id)
            .where(CURRENT, RowRecord.space_id == space_id, RowRecord.modality == Modality.IMAGE)
            .group_by(RowRecord.content_hash, ItemRecord.part)
            .order_by(row)
        )
        if not parts:
            query = query.where(ItemRecord.part == "")
        for first_row, content_hash in self._connection.execute(query):  # noqa: UP028
            yield first_row, content_hash

    def files_of_same_content(self) -> Iterator[ReadFile]:
        """Files that are not empty and not alone with their content, by its hash, then path.

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
            sa.select(
                FileRecord.path,
                FileRecord.kind,
                FileRecord.size,
                FileRecord.mtime_ns,
                FileRecord.content_hash,
            )
            .where(of_content, FileRecord.content_hash.in_(shared))
            .order_by(FileRecord.content_hash, FileRecord.path)
        )
        for path, kind, size, mtime_ns, content_hash in self._connection.execute(query):
            yield ReadFile(path, MediaKind(kind), size, mtime_ns, content_hash or "")

    def item(self, item_id: int) -> Item | None:
        """An item by its id, unless its file was removed or failed."""
        query = select_items().where(
            ItemRecord.id == item_id, FileRecord.state == FileState.INDEXED
        )
        fields = self._connection.execute(query).one_or_none()
        return item_of(fields) if fields else None

    def files_below(self, roots: Sequence[str], space_id: str) -> Iterator[KnownFile]:
        """Every file that was seen at or below some paths, removed ones too."""
        embedded = sa.exists().where(
            ReadingRecord.file_id == FileRecord.id,
            ReadingRecord.space_id == space_id,
            ReadingRecord.content_hash == FileRecord.content_hash,
        )
        query = sa.select(
            FileRecord.path,
            FileRecord.state,
            FileRecord.size,
            FileRecord.mtime_ns,
            FileRecord.content_hash,
            embedded,
        )
        for chunk in chunks(roots, _ROOTS_PER_STATEMENT):
            below = query.where(sa.or_(*(at_or_below(root) for root in chunk)))
            for path, state, size, mtime_ns, content_hash, has_row in self._connection.execute(
                below
            ):
                yield KnownFile(path, FileState(state), size, mtime_ns, content_hash, has_row)

    def contents_of_size(
        self, space_id: str, sizes: Iterable[int]
    ) -> dict[int, set[tuple[MediaKind, str]]]:
        """Kinds and hashes of contents of some sizes that were read to their end in a space."""
        found: dict[int, set[tuple[MediaKind, str]]] = {}
        for chunk in chunks(sorted(set(sizes))):
            query = (
                sa.select(FileRecord.size, FileRecord.kind, FileRecord.content_hash)
                .join(ReadingRecord, ReadingRecord.file_id == FileRecord.id)
                .where(
                    FileRecord.size.in_(chunk),
                    ReadingRecord.space_id == space_id,
                    ReadingRecord.content_hash == FileRecord.content_hash,
                )
            )
            for size, kind, content_hash in self._connection.execute(query):
                found.setdefault(size, set()).add((MediaKind(kind), content_hash or ""))
        return found

    def rows_of_contents(
        self, space_id: str, content_hashes: Iterable[str]
    ) -> dict[tuple[str, Modality, str], int]:
        """Rows that hold vectors of some contents: by content hash, modality and part."""
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

    def reading_of(
        self, space_id: str, kind: MediaKind, content_hash: str
    ) -> tuple[Metadata, list[ReadItem]] | None:
        """What was read of a content in a space, whichever file held it; None if it was not."""
        query = (
            sa.select(FileRecord)
            .join(ReadingRecord, ReadingRecord.file_id == FileRecord.id)
            .where(
                FileRecord.kind == kind,
                FileRecord.content_hash == content_hash,
                ReadingRecord.space_id == space_id,
                ReadingRecord.content_hash == content_hash,
            )
            .limit(1)
        )
        file = self._connection.execute(query).one_or_none()
        if file is None:
            return None
        items = (
            sa.select(
                RowRecord.modality,
                RowRecord.row,
                ItemRecord.part,
                ItemRecord.width,
                ItemRecord.height,
                ItemRecord.page,
                ItemRecord.time_s,
                ItemRecord.text,
                ItemRecord.columns,
            )
            .join(ItemRecord, ItemRecord.id == RowRecord.item_id)
            .where(
                ItemRecord.file_id == file.id,
                RowRecord.space_id == space_id,
                RowRecord.content_hash == content_hash,
            )
            .order_by(ItemRecord.id)
        )
        read = [
            ReadItem(Modality(modality), *fields)
            for modality, *fields in self._connection.execute(items)
        ]
        return _metadata(file), read

    def details(self, item: Item) -> FileDetails:
        """What is known of an item's file."""
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
        taken_at = metadata.taken_at
        if taken_at is None and file.mtime_ns != UNTRUSTED_MTIME:
            taken_at = file.mtime_ns // 1_000_000_000
        return FileDetails(metadata, taken_at, file.size, list(annotations))

    def failures(self) -> list[FailedFile]:
        """Files that could not be read, by path."""
        query = (
            sa.select(FileRecord.path, FileRecord.failure, FileRecord.size, FileRecord.mtime_ns)
            .where(FileRecord.state == FileState.FAILED)
            .order_by(FileRecord.path)
        )
        return [
            FailedFile(path, failure or "", size, mtime_ns)
            for path, failure, size, mtime_ns in self._connection.execute(query)
        ]

    def counts(self, space_id: str) -> Counts:
        """Files by state, and the items that a search in the space can find."""
        by_state = self._tally(
            sa.select(FileRecord.state, sa.func.count()).group_by(FileRecord.state)
        )
        by_modality = self._tally(
            sa.select(RowRecord.modality, sa.func.count())
            .join(ItemRecord, ItemRecord.id == RowRecord.item_id)
            .join(FileRecord, FileRecord.id == ItemRecord.file_id)
            .where(CURRENT, RowRecord.space_id == space_id)
            .group_by(RowRecord.modality)
        )
        return Counts(
            indexed=by_state.get(FileState.INDEXED, 0),
            failed=by_state.get(FileState.FAILED, 0),
            removed=by_state.get(FileState.REMOVED, 0),
            images=by_modality.get(Modality.IMAGE, 0),
            texts=by_modality.get(Modality.TEXT, 0),
        )

    def _tally(self, query: sa.Executable) -> dict[str, int]:
        return {name: count for name, count in self._connection.execute(query)}  # noqa: C416


def _metadata(file: Any) -> Metadata:
    return Metadata(**{name: getattr(file, name) for name in METADATA})
