"""The truth about what exists: sources, files, items and the rows that hold their vectors.

The only module that speaks SQL. SQLite in WAL mode: readers never wait for the writer. A write
takes the database's write lock at its start (BEGIN IMMEDIATE), so that two writers meet at once
and not at commit.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from retrieval.errors import DamagedLibraryError, LibraryError, LibraryLockedError
from retrieval.media import NO_METADATA, MediaKind, Metadata

SCHEMA_REVISION = "0002"
"""The newest migration; a test compares it with the scripts."""

_BUSY_TIMEOUT_S = 10
_PARAMETERS_PER_STATEMENT = 10_000
"""Below SQLite's limit of 32,766 bound values."""
_ROOTS_PER_STATEMENT = 200
"""Below SQLite's limit of 1,000 levels of an expression."""


_T = TypeVar("_T")


class Modality(StrEnum):
    """What kind of thing an item is."""

    IMAGE = "image"
    TEXT = "text"


class FileState(StrEnum):
    """Whether a file's items can be found, and if not, why."""

    INDEXED = "indexed"
    FAILED = "failed"
    REMOVED = "removed"


class FilePath(sa.types.TypeDecorator[str]):
    """A path as the file system spells it: its bytes, which need not be valid UTF-8."""

    impl = sa.LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> bytes | None:
        """From Python's spelling, which escapes invalid bytes, to bytes."""
        return None if value is None else os.fsencode(value)

    def process_result_value(self, value: bytes | None, dialect: sa.Dialect) -> str | None:
        """From bytes to Python's spelling."""
        return None if value is None else os.fsdecode(value)


class Base(DeclarativeBase):
    """The schema; `retrieval/migrations` brings a catalog to it."""


class SourceRecord(Base):
    """A folder or file that the library was told to index."""

    __tablename__ = "sources"
    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(FilePath, unique=True)
    added_at: Mapped[int]
    options: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(none_as_null=True))


class FileRecord(Base):
    """A file as it was when it was last read; its state is what hides removed files."""

    __tablename__ = "files"
    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(FilePath, unique=True)
    state: Mapped[str] = mapped_column(sa.String(16), index=True)
    failure: Mapped[str | None] = mapped_column(sa.Text)
    size: Mapped[int] = mapped_column(sa.BigInteger, index=True)
    mtime_ns: Mapped[int] = mapped_column(sa.BigInteger)
    content_hash: Mapped[str | None] = mapped_column(sa.String(64), index=True)
    kind: Mapped[str] = mapped_column(sa.String(16), server_default=MediaKind.IMAGE)
    taken_at: Mapped[int | None] = mapped_column(sa.BigInteger)
    camera: Mapped[str | None] = mapped_column(sa.Text)
    latitude: Mapped[float | None] = mapped_column(sa.Double)
    longitude: Mapped[float | None] = mapped_column(sa.Double)
    duration_s: Mapped[float | None] = mapped_column(sa.Double)
    text: Mapped[str | None] = mapped_column(sa.Text)


class ItemRecord(Base):
    """One searchable thing inside a file, found there by its modality and part.

    Its id stays when the file moves, and when its content changes but has the same part still.
    """

    __tablename__ = "items"
    __table_args__ = (
        sa.Index("ix_items_file_modality_part", "file_id", "modality", "part", unique=True),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    file_id: Mapped[int] = mapped_column(sa.ForeignKey("files.id"))
    modality: Mapped[str] = mapped_column(sa.String(16))
    part: Mapped[str] = mapped_column(sa.String(64), server_default="")
    width: Mapped[int | None]
    height: Mapped[int | None]
    page: Mapped[int | None]
    time_s: Mapped[float | None] = mapped_column(sa.Double)
    text: Mapped[str | None] = mapped_column(sa.Text)
    columns: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(none_as_null=True))


class RowRecord(Base):
    """Where an item's vector lies in a space, and the content that it was computed from.

    A row whose content hash is no longer its file's is stale and does not count.
    """

    __tablename__ = "rows"
    __table_args__ = (
        sa.Index("ix_rows_space_modality_row", "space_id", "modality", "row"),
        sa.Index("ix_rows_content_hash", "content_hash"),
    )
    space_id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    item_id: Mapped[int] = mapped_column(sa.ForeignKey("items.id"), primary_key=True)
    modality: Mapped[str] = mapped_column(sa.String(16))
    row: Mapped[int] = mapped_column(sa.BigInteger)
    content_hash: Mapped[str] = mapped_column(sa.String(64))


class ReadingRecord(Base):
    """That a content of a file was read to its end in a space; it may have no items at all."""

    __tablename__ = "readings"
    space_id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    file_id: Mapped[int] = mapped_column(sa.ForeignKey("files.id"), primary_key=True)
    content_hash: Mapped[str] = mapped_column(sa.String(64))


class AnnotationRecord(Base):
    """What a row of a table says of the image file at a path."""

    __tablename__ = "annotations"
    id: Mapped[int] = mapped_column(primary_key=True)
    file_id: Mapped[int] = mapped_column(sa.ForeignKey("files.id"), index=True)
    image_path: Mapped[str] = mapped_column(FilePath, index=True)
    columns: Mapped[dict[str, Any]] = mapped_column(sa.JSON)


class ExtentRecord(Base):
    """How many rows of a space and modality are committed. It never shrinks."""

    __tablename__ = "extents"
    space_id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    modality: Mapped[str] = mapped_column(sa.String(16), primary_key=True)
    row_count: Mapped[int] = mapped_column(sa.BigInteger)


@dataclass(frozen=True, slots=True)
class Item:
    """A searchable thing and the file that it lives in. Sizes in pixels, upright.

    size, mtime_ns: of the file, in bytes, and nanoseconds since 1970. part: names it inside its
    file, "" for the whole. page counts from 1. text: the passage, of a text. columns: values of a
    table's row.
    """

    id: int
    path: str
    kind: MediaKind
    modality: Modality
    content_hash: str
    size: int
    mtime_ns: int
    part: str = ""
    width: int | None = None
    height: int | None = None
    page: int | None = None
    time_s: float | None = None
    text: str | None = None
    columns: dict[str, Any] | None = None

    @property
    def picture_key(self) -> str:
        """What its picture is, whatever its file is called: fit for a file name."""
        return f"{self.content_hash}-{self.part}" if self.part else self.content_hash


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What the catalog remembers of a file.

    embedded: its content was read to the end in the space. A mtime_ns of -1: not to be trusted.
    """

    path: str
    state: FileState
    size: int
    mtime_ns: int
    content_hash: str | None
    embedded: bool


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A file that was read: what the catalog keeps of it."""

    path: str
    kind: MediaKind
    size: int
    mtime_ns: int
    content_hash: str
    metadata: Metadata = NO_METADATA


@dataclass(frozen=True, slots=True)
class ReadItem:
    """An item that was read, and the row of its vector; fields as those of `Item`."""

    modality: Modality
    row: int
    part: str = ""
    width: int | None = None
    height: int | None = None
    page: int | None = None
    time_s: float | None = None
    text: str | None = None
    columns: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class FileUpdate:
    """Some items of a file, all of one content, from the first to the last of them.

    is_first, is_complete: whether these begin and end the file; what is known of the file itself
    comes with the first. annotations: image path and columns, of a table's rows.
    """

    file: ReadFile
    items: Sequence[ReadItem] = ()
    is_first: bool = True
    is_complete: bool = True
    annotations: Sequence[tuple[str, dict[str, Any]]] = ()


@dataclass(frozen=True, slots=True)
class FileDetails:
    """What is known of an item's file for filters and display.

    taken_at: of the file itself or, where it does not tell, its modification time, seconds since
    1970. annotations: what tables say of the file.
    """

    metadata: Metadata
    taken_at: int
    size: int
    annotations: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class FailedFile:
    """A file that could not be read, and why. A `mtime_ns` of -1: try again at the next run."""

    path: str
    failure: str
    size: int = -1
    mtime_ns: int = -1


@dataclass(frozen=True, slots=True)
class Counts:
    """What a library holds: files by state, found items by modality in one space."""

    indexed: int
    failed: int
    removed: int
    images: int
    texts: int


_METADATA = tuple(field.name for field in fields(Metadata))
_CURRENT = sa.and_(
    FileRecord.state == FileState.INDEXED, RowRecord.content_hash == FileRecord.content_hash
)


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
        live = np.zeros(self.row_count(space_id, modality), dtype=np.bool_)
        query = (
            sa.select(RowRecord.row)
            .join(ItemRecord, ItemRecord.id == RowRecord.item_id)
            .join(FileRecord, FileRecord.id == ItemRecord.file_id)
            .where(_CURRENT, RowRecord.space_id == space_id, RowRecord.modality == modality)
        )
        cursor = self._connection.execute(query).cursor  # SQLAlchemy's own rows take twice as long
        while cursor and (found := cursor.fetchmany(_PARAMETERS_PER_STATEMENT)):
            live[np.fromiter((row for (row,) in found), np.int64, len(found))] = True
        return live

    def sources(self) -> list[str]:
        """Paths that the library was told to index, sorted."""
        return sorted(self._connection.scalars(sa.select(SourceRecord.path)))

    def source_options(self) -> dict[str, dict[str, Any] | None]:
        """How each source was told to be read, by path; None: as usual."""
        query = sa.select(SourceRecord.path, SourceRecord.options).order_by(SourceRecord.path)
        return {path: options for path, options in self._connection.execute(query)}  # noqa: C416

    def items_at(
        self, space_id: str, modality: Modality, rows: Sequence[int]
    ) -> dict[int, list[Item]]:
        """The current items at some rows; rows that nothing current names are left out."""
        found: dict[int, list[Item]] = {}
        for chunk in _chunks(rows):
            query = (
                _select_items(RowRecord.row)
                .join(RowRecord, RowRecord.item_id == ItemRecord.id)
                .where(
                    _CURRENT,
                    RowRecord.space_id == space_id,
                    RowRecord.modality == modality,
                    RowRecord.row.in_(chunk),
                )
                .order_by(ItemRecord.id)
            )
            for row, *values in self._connection.execute(query):
                found.setdefault(row, []).append(_item(values))
        return found

    def pictures(self, space_id: str) -> list[Item]:
        """Every picture that a search in the space can find, by row."""
        query = (
            _select_items()
            .join(RowRecord, RowRecord.item_id == ItemRecord.id)
            .where(_CURRENT, RowRecord.space_id == space_id, RowRecord.modality == Modality.IMAGE)
            .order_by(RowRecord.row, ItemRecord.id)
        )
        return [_item(fields) for fields in self._connection.execute(query)]

    def picture_rows(self, space_id: str, *, parts: bool = False) -> Iterator[tuple[int, str]]:
        """One row of each distinct image that can be found, and its content's hash; by row.

        parts: frames and pages, too.
        """
        row = sa.func.min(RowRecord.row)
        query = (
            sa.select(row, RowRecord.content_hash)
            .join(ItemRecord, ItemRecord.id == RowRecord.item_id)
            .join(FileRecord, FileRecord.id == ItemRecord.file_id)
            .where(_CURRENT, RowRecord.space_id == space_id, RowRecord.modality == Modality.IMAGE)
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
        query = _select_items().where(
            ItemRecord.id == item_id, FileRecord.state == FileState.INDEXED
        )
        fields = self._connection.execute(query).one_or_none()
        return _item(fields) if fields else None

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
        for chunk in _chunks(roots, _ROOTS_PER_STATEMENT):
            below = query.where(sa.or_(*(_at_or_below(root) for root in chunk)))
            for path, state, size, mtime_ns, content_hash, has_row in self._connection.execute(
                below
            ):
                yield KnownFile(path, FileState(state), size, mtime_ns, content_hash, has_row)

    def contents_of_size(
        self, space_id: str, sizes: Iterable[int]
    ) -> dict[int, set[tuple[MediaKind, str]]]:
        """Kinds and hashes of contents of some sizes that were read to their end in a space."""
        found: dict[int, set[tuple[MediaKind, str]]] = {}
        for chunk in _chunks(sorted(set(sizes))):
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
        for chunk in _chunks(sorted(set(content_hashes))):
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
        if taken_at is None:
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
            .where(_CURRENT, RowRecord.space_id == space_id)
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


class Transaction(Snapshot):
    """Reads and writes that take effect together or not at all."""

    def add_sources(self, options_by_path: Mapping[str, dict[str, Any] | None]) -> None:
        """Remember folders and files as told to be indexed; None keeps what was told before."""
        now = int(time.time())
        known = set(self.sources())
        for path, options in options_by_path.items():
            if path not in known:
                self._connection.execute(
                    sa.insert(SourceRecord).values(path=path, added_at=now, options=options)
                )
            elif options is not None:
                self._connection.execute(
                    sa.update(SourceRecord).filter_by(path=path).values(options=options)
                )

    def remove_sources_below(self, root: str) -> int:
        """Forget the sources at or below a path; returns how many there were."""
        return self._connection.execute(
            sa.delete(SourceRecord).where(_at_or_below(root, SourceRecord.path))
        ).rowcount

    def extend_rows(self, space_id: str, modality: Modality, first_row: int, count: int) -> None:
        """Count rows first_row .. first_row+count-1 of a space as written.

        The vectors must be on the disk already. Raises DamagedLibraryError when first_row is not
        the end of the committed rows.
        """
        committed = self.row_count(space_id, modality)
        if first_row != committed:
            raise DamagedLibraryError(
                f"rows were written at {first_row}, but {committed} are committed"
            )
        if count:
            self._set_row_count(space_id, modality, first_row + count)

    def record_files(self, space_id: str, updates: Sequence[FileUpdate]) -> None:
        """Remember files as read, their items and the rows of these, which must be counted.

        What a file held before it changed is no longer found. At most one update a file.
        """
        file_ids: dict[str, int] = {}
        for is_first in (True, False):
            values_of = _values_of if is_first else _values_of_content
            file_ids |= self._save_files(
                {u.file.path: values_of(u.file) for u in updates if u.is_first is is_first}
            )
        self._drop_stale_rows(file_ids.values())
        self._drop_annotations(file_ids[u.file.path] for u in updates if u.is_first)
        wanted = {
            (file_ids[update.file.path], item.modality, item.part): (update.file, item)
            for update in updates
            for item in update.items
        }
        item_ids = self._save_items({key: item for key, (_, item) in wanted.items()})
        for chunk in _chunks(list(item_ids.values())):
            self._connection.execute(
                sa.delete(RowRecord).where(
                    RowRecord.space_id == space_id, RowRecord.item_id.in_(chunk)
                )
            )
        if wanted:
            self._connection.execute(
                sa.insert(RowRecord),
                [
                    {
                        "space_id": space_id,
                        "item_id": item_ids[key],
                        "modality": item.modality,
                        "row": item.row,
                        "content_hash": file.content_hash,
                    }
                    for key, (file, item) in wanted.items()
                ],
            )
        if annotations := [
            {"file_id": file_ids[update.file.path], "image_path": path, "columns": columns}
            for update in updates
            for path, columns in update.annotations
        ]:
            self._connection.execute(sa.insert(AnnotationRecord), annotations)
        self._record_readings(
            space_id,
            {
                file_ids[update.file.path]: update.file.content_hash
                for update in updates
                if update.is_complete
            },
        )

    def move_file(self, old_path: str, new_path: str) -> bool:
        """Let a file's items follow it to another path; False if that path is known already."""
        if self._ids_of_files([new_path]):
            return False
        return bool(
            self._connection.execute(
                sa.update(FileRecord)
                .where(FileRecord.path == old_path)
                .values(path=new_path, state=FileState.INDEXED)
            ).rowcount
        )

    def record_failures(self, failures: Sequence[FailedFile]) -> None:
        """Remember files that could not be read; what they held before is no longer found."""
        self._save_files(
            {
                failed.path: {
                    "state": FileState.FAILED,
                    "failure": failed.failure,
                    "size": failed.size,
                    "mtime_ns": failed.mtime_ns,
                    "content_hash": None,
                }
                for failed in failures
            }
        )

    def record_touched(self, files: Sequence[ReadFile]) -> None:
        """Remember new times of files whose content is the same, and find them (again)."""
        self._save_files({file.path: _values_of_content(file) for file in files})

    def mark_removed(self, paths: Iterable[str]) -> int:
        """Hide files from every search at once; returns how many were not hidden before."""
        return sum(
            self._connection.execute(
                sa.update(FileRecord)
                .where(FileRecord.path.in_(chunk), FileRecord.state != FileState.REMOVED)
                .values(state=FileState.REMOVED, failure=None)
            ).rowcount
            for chunk in _chunks(list(paths))
        )

    def _save_files(self, values_by_path: dict[str, dict[str, Any]]) -> dict[str, int]:
        """Insert or update files by path; returns their ids."""
        known = self._ids_of_files(values_by_path)
        if updates := [
            {"file_id": known[path], **values}
            for path, values in values_by_path.items()
            if path in known
        ]:
            self._connection.execute(
                sa.update(FileRecord).where(FileRecord.id == sa.bindparam("file_id")), updates
            )
        if inserts := [
            {"path": path, **values} for path, values in values_by_path.items() if path not in known
        ]:
            self._connection.execute(sa.insert(FileRecord), inserts)
            known = self._ids_of_files(values_by_path)
        return known

    def _ids_of_files(self, paths: Iterable[str]) -> dict[str, int]:
        return {
            path: file_id
            for chunk in _chunks(list(paths))
            for path, file_id in self._connection.execute(
                sa.select(FileRecord.path, FileRecord.id).where(FileRecord.path.in_(chunk))
            )
        }

    def _drop_stale_rows(self, file_ids: Iterable[int]) -> None:
        """Forget where vectors of earlier contents of some files lie."""
        current = (
            sa.select(FileRecord.content_hash)
            .join(ItemRecord, ItemRecord.file_id == FileRecord.id)
            .where(ItemRecord.id == RowRecord.item_id)
            .scalar_subquery()
        )
        for chunk in _chunks(list(file_ids)):
            items = sa.select(ItemRecord.id).where(ItemRecord.file_id.in_(chunk))
            self._connection.execute(
                sa.delete(RowRecord).where(
                    RowRecord.item_id.in_(items), RowRecord.content_hash != current
                )
            )

    def _drop_annotations(self, file_ids: Iterable[int]) -> None:
        for chunk in _chunks(list(file_ids)):
            self._connection.execute(
                sa.delete(AnnotationRecord).where(AnnotationRecord.file_id.in_(chunk))
            )

    def _record_readings(self, space_id: str, content_by_file: Mapping[int, str]) -> None:
        """Remember files as read to their end; items that only an earlier content had go."""
        for chunk in _chunks(sorted(content_by_file)):
            self._connection.execute(
                sa.delete(ReadingRecord).where(
                    ReadingRecord.space_id == space_id, ReadingRecord.file_id.in_(chunk)
                )
            )
            self._connection.execute(
                sa.insert(ReadingRecord),
                [
                    {
                        "space_id": space_id,
                        "file_id": file_id,
                        "content_hash": content_by_file[file_id],
                    }
                    for file_id in chunk
                ],
            )
            self._connection.execute(
                sa.delete(ItemRecord).where(
                    ItemRecord.file_id.in_(chunk),
                    ~sa.exists().where(RowRecord.item_id == ItemRecord.id),
                )
            )

    def _save_items(
        self, items: Mapping[tuple[int, Modality, str], ReadItem]
    ) -> dict[tuple[int, Modality, str], int]:
        """Insert or update items by file, modality and part; returns their ids."""
        known = self._ids_of_items(items)
        if updates := [
            {"known_id": known[key], **_values_of_item(item)}
            for key, item in items.items()
            if key in known
        ]:
            self._connection.execute(
                sa.update(ItemRecord).where(ItemRecord.id == sa.bindparam("known_id")), updates
            )
        if inserts := [
            {"file_id": key[0], "modality": key[1], "part": key[2], **_values_of_item(item)}
            for key, item in items.items()
            if key not in known
        ]:
            self._connection.execute(sa.insert(ItemRecord), inserts)
            known = self._ids_of_items(items)
        return known

    def _ids_of_items(
        self, keys: Iterable[tuple[int, Modality, str]]
    ) -> dict[tuple[int, Modality, str], int]:
        """Ids of those of some items that exist."""
        columns = sa.tuple_(ItemRecord.file_id, ItemRecord.modality, ItemRecord.part)
        return {
            (file_id, Modality(modality), part): item_id
            for chunk in _chunks(list(keys), _PARAMETERS_PER_STATEMENT // 3)
            for file_id, modality, part, item_id in self._connection.execute(
                sa.select(
                    ItemRecord.file_id, ItemRecord.modality, ItemRecord.part, ItemRecord.id
                ).where(columns.in_(chunk))
            )
        }

    def _set_row_count(self, space_id: str, modality: Modality, count: int) -> None:
        key = {"space_id": space_id, "modality": modality}
        updated = self._connection.execute(
            sa.update(ExtentRecord).filter_by(**key).values(row_count=count)
        )
        if not updated.rowcount:
            self._connection.execute(sa.insert(ExtentRecord).values(row_count=count, **key))


class Catalog:
    """The catalog of one library. Threads may share it; each snapshot has its own connection."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_read_only = _is_at_rest_on_a_read_only_disk(path)
        if self.is_read_only:
            # Reading too would write a file beside it, unless SQLite knows that nothing changes.
            url = sa.URL.create(
                "sqlite",
                database=path.absolute().as_uri(),
                query={"immutable": "1", "mode": "ro", "uri": "true"},
            )
        else:
            url = sa.URL.create("sqlite", database=str(path))
        self._engine = sa.create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_S})
        configure = _disable_driver_transactions if self.is_read_only else _configure_connection
        event.listen(self._engine, "connect", configure)
        event.listen(self._engine, "begin", _begin)
        self._observer: sa.PoolProxiedConnection | None = None
        self._observer_lock = threading.Lock()

    def check_schema(self, *, upgrade: bool = False) -> None:
        """Raise if the catalog is not one that this version can read; `upgrade` an older one."""
        if not self.path.exists():
            raise DamagedLibraryError(
                f"{self.path} is missing. Restore it from a backup, or index the sources into a "
                "new library (`--library NEW_DIR`); the vectors alone do not say what they show."
            )
        revision = self._revision()
        if revision is None:
            raise self._not_a_catalog()
        if revision > SCHEMA_REVISION:
            raise LibraryError(
                f"{self.path} was written by a newer version of mmsearch (schema {revision}; this "
                f"version knows {SCHEMA_REVISION}). Upgrade with `pip install -U mmsearch`."
            )
        if revision < SCHEMA_REVISION and upgrade:
            self.migrate()
        elif revision < SCHEMA_REVISION:
            raise LibraryError(
                f"{self.path} was written by an older version of mmsearch. Run any `mmsearch "
                "index` on the library to upgrade it."
            )

    def migrate(self) -> None:
        """Create the schema, or bring an older one to this version.

        Raises DamagedLibraryError rather than touch a database that is not a catalog.
        """
        if self.path.exists():
            revision = self._revision()
            if revision == SCHEMA_REVISION:
                return
            if revision is None and self._has_tables():
                raise self._not_a_catalog()
        from alembic import command
        from alembic.config import Config

        config = Config()
        scripts = str(Path(__file__).with_name("migrations"))
        config.set_main_option("script_location", scripts.replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        with self._connect(write=True) as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Read consistently; never waits for the writer."""
        with self._connect(write=False) as connection:
            yield Snapshot(connection)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Write; commits at the end, rolls back on any exception."""
        with self._connect(write=True) as connection:
            yield Transaction(connection)

    def version(self) -> int:
        """A number that changes with every commit, whoever makes it, while this object lives.

        A snapshot taken after the call shows that version or a later one.
        """
        with self._observer_lock:
            try:
                if self._observer is None:
                    # SQLite counts the commits of all connections but the one that asks.
                    self._observer = self._engine.raw_connection()
                cursor = self._observer.cursor()
                cursor.execute("PRAGMA data_version")
                [version] = cursor.fetchone() or (0,)
                cursor.close()
                return int(version)
            except (sa.exc.DatabaseError, sqlite3.DatabaseError) as error:
                raise self._explain(str(error)) from error

    def close(self) -> None:
        """Close all connections."""
        with self._observer_lock:
            if self._observer is not None:
                self._observer.close()
                self._observer = None
        self._engine.dispose()

    def _not_a_catalog(self) -> DamagedLibraryError:
        return DamagedLibraryError(
            f"{self.path} is not a catalog of mmsearch (it has no schema version). Nothing was "
            "changed. Restore it from a backup, or choose another directory with `--library DIR`."
        )

    def _has_tables(self) -> bool:
        with self._connect(write=False) as connection:
            return bool(sa.inspect(connection).get_table_names())

    def _revision(self) -> str | None:
        with self._connect(write=False) as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            revision = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
            return None if revision is None else str(revision)

    @contextmanager
    def _connect(self, *, write: bool) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                connection.execution_options(write=write)
                with connection.begin():
                    yield connection
        except sa.exc.DatabaseError as error:
            raise self._explain(str(error.orig)) from error
        except sqlite3.DatabaseError as error:  # from the hook that configures a connection
            raise self._explain(str(error)) from error

    def _explain(self, reason: str) -> LibraryError:
        if "locked" in reason or "busy" in reason:
            return LibraryLockedError(
                f"{self.path} is locked by another process. Wait for it to finish and try again."
            )
        if "full" in reason:
            return LibraryError(
                f"No space left on the disk of {self.path}. Free some and run the same command "
                "again: what was committed is kept."
            )
        if "disk I/O error" in reason:
            return LibraryError(
                f"{self.path} cannot be read or written: disk I/O error. There may be no space "
                "left on its disk, or the disk fails. What was committed is kept; run the same "
                "command again."
            )
        if "readonly" in reason or "unable to open" in reason:
            return LibraryError(
                f"{self.path} cannot be opened or written: {reason}. Check the permissions. A "
                "library on a read-only disk can be searched only if it was closed in good order."
            )
        return DamagedLibraryError(
            f"{self.path} is damaged: {reason}. Nothing was overwritten. Restore it from a backup, "
            "try `sqlite3 catalog.sqlite .recover`, or index the sources into a new library "
            "(`--library NEW_DIR`)."
        )


def _is_at_rest_on_a_read_only_disk(path: Path) -> bool:
    """Whether nobody can write a catalog, nor has left anything in its log."""
    log = path.with_name(f"{path.name}-wal")
    return path.exists() and not os.access(path.parent, os.W_OK) and not log.exists()


def _disable_driver_transactions(connection: Any, _record: object) -> None:
    # SQLAlchemy, not the driver, opens transactions: the driver would defer the write lock.
    connection.isolation_level = None


def _configure_connection(connection: Any, record: object) -> None:
    _disable_driver_transactions(connection, record)
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _select_items(*columns: Any) -> sa.Select[Any]:
    return sa.select(
        *columns,
        ItemRecord.id,
        FileRecord.path,
        FileRecord.kind,
        ItemRecord.modality,
        FileRecord.content_hash,
        FileRecord.size,
        FileRecord.mtime_ns,
        ItemRecord.part,
        ItemRecord.width,
        ItemRecord.height,
        ItemRecord.page,
        ItemRecord.time_s,
        ItemRecord.text,
        ItemRecord.columns,
    ).join_from(ItemRecord, FileRecord, FileRecord.id == ItemRecord.file_id)


def _item(fields: Sequence[Any]) -> Item:
    item_id, path, kind, modality, *rest = fields
    return Item(item_id, path, MediaKind(kind), Modality(modality), *rest)


def _metadata(file: Any) -> Metadata:
    return Metadata(**{name: getattr(file, name) for name in _METADATA})


def _values_of(file: ReadFile) -> dict[str, Any]:
    described = {name: getattr(file.metadata, name) for name in _METADATA}
    return _values_of_content(file) | {"kind": file.kind} | described


def _values_of_content(file: ReadFile) -> dict[str, Any]:
    return {
        "state": FileState.INDEXED,
        "failure": None,
        "size": file.size,
        "mtime_ns": file.mtime_ns,
        "content_hash": file.content_hash,
    }


def _values_of_item(item: ReadItem) -> dict[str, Any]:
    names = ("width", "height", "page", "time_s", "text", "columns")
    return {name: getattr(item, name) for name in names}


def _at_or_below(root: str, column: Any = FileRecord.path) -> sa.ColumnElement[bool]:
    first = root.rstrip(os.sep) + os.sep
    past_last = first[:-1] + chr(ord(os.sep) + 1)
    return sa.or_(column == root, sa.and_(column >= first, column < past_last))


def _chunks(values: Sequence[_T], size: int = _PARAMETERS_PER_STATEMENT) -> Iterator[Sequence[_T]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
