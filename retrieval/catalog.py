"""The truth about what exists: sources, files, items and the rows that hold their vectors.

The only module that speaks SQL. SQLite in WAL mode: readers never wait for the writer. A write
takes the database's write lock at its start (BEGIN IMMEDIATE), so that two writers meet at once
and not at commit.
"""

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from retrieval.errors import DamagedLibraryError, LibraryError, LibraryLockedError

SCHEMA_REVISION = "0001"
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


class FileRecord(Base):
    """A file as it was when it was last read; its state is what hides removed files."""

    __tablename__ = "files"
    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(FilePath, unique=True)
    state: Mapped[str] = mapped_column(sa.String(16), index=True)
    failure: Mapped[str | None] = mapped_column(sa.Text)
    size: Mapped[int] = mapped_column(sa.BigInteger)
    mtime_ns: Mapped[int] = mapped_column(sa.BigInteger)
    content_hash: Mapped[str | None] = mapped_column(sa.String(64))


class ItemRecord(Base):
    """One searchable thing inside a file. Its id stays when the file's content changes."""

    __tablename__ = "items"
    id: Mapped[int] = mapped_column(primary_key=True)
    file_id: Mapped[int] = mapped_column(sa.ForeignKey("files.id"), index=True)
    modality: Mapped[str] = mapped_column(sa.String(16))
    width: Mapped[int | None]
    height: Mapped[int | None]


class RowRecord(Base):
    """Where an item's vector lies in a space, and the content that it was computed from.

    A row whose content hash is no longer its file's is stale and does not count.
    """

    __tablename__ = "rows"
    __table_args__ = (sa.Index("ix_rows_space_modality_row", "space_id", "modality", "row"),)
    space_id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    item_id: Mapped[int] = mapped_column(sa.ForeignKey("items.id"), primary_key=True)
    modality: Mapped[str] = mapped_column(sa.String(16))
    row: Mapped[int] = mapped_column(sa.BigInteger)
    content_hash: Mapped[str] = mapped_column(sa.String(64))


class ExtentRecord(Base):
    """How many rows of a space and modality are committed. It never shrinks."""

    __tablename__ = "extents"
    space_id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    modality: Mapped[str] = mapped_column(sa.String(16), primary_key=True)
    row_count: Mapped[int] = mapped_column(sa.BigInteger)


@dataclass(frozen=True, slots=True)
class Item:
    """A searchable thing and the file that it lives in. Sizes in pixels, upright."""

    id: int
    path: str
    modality: Modality
    width: int | None
    height: int | None
    content_hash: str


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What the catalog remembers of a file; `embedded`: its content has a vector in the space."""

    path: str
    state: FileState
    size: int
    mtime_ns: int
    content_hash: str | None
    embedded: bool


@dataclass(frozen=True, slots=True)
class ReadImage:
    """An image file that was read: what the catalog keeps of it."""

    path: str
    size: int
    mtime_ns: int
    content_hash: str
    width: int
    height: int


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

    def sources(self) -> list[str]:
        """Paths that the library was told to index, sorted."""
        return sorted(self._connection.scalars(sa.select(SourceRecord.path)))

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
            for row, *fields in self._connection.execute(query):
                found.setdefault(row, []).append(_item(fields))
        return found

    def image_contents(self, space_id: str) -> list[tuple[str, str]]:
        """Path and content hash of every image that a search in the space can find, by row."""
        query = (
            sa.select(FileRecord.path, FileRecord.content_hash)
            .join_from(FileRecord, ItemRecord, ItemRecord.file_id == FileRecord.id)
            .join(RowRecord, RowRecord.item_id == ItemRecord.id)
            .where(_CURRENT, RowRecord.space_id == space_id, RowRecord.modality == Modality.IMAGE)
            .order_by(RowRecord.row)
        )
        return [
            (path, content_hash or "") for path, content_hash in self._connection.execute(query)
        ]

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
            ItemRecord.file_id == FileRecord.id,
            RowRecord.item_id == ItemRecord.id,
            RowRecord.space_id == space_id,
            RowRecord.content_hash == FileRecord.content_hash,
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

    def add_sources(self, paths: Iterable[str]) -> None:
        """Remember folders and files as told to be indexed."""
        now = int(time.time())
        if new := set(paths).difference(self.sources()):
            self._connection.execute(
                sa.insert(SourceRecord), [{"path": path, "added_at": now} for path in new]
            )

    def remove_sources_below(self, root: str) -> int:
        """Forget the sources at or below a path; returns how many there were."""
        return self._connection.execute(
            sa.delete(SourceRecord).where(_at_or_below(root, SourceRecord.path))
        ).rowcount

    def record_images(self, space_id: str, images: Sequence[ReadImage], first_row: int) -> None:
        """Name rows first_row .. first_row+n-1 of a space as these images' vectors, in order.

        The vectors must be on the disk already. Raises DamagedLibraryError when first_row is not
        the end of the committed rows.
        """
        committed = self.row_count(space_id, Modality.IMAGE)
        if first_row != committed:
            raise DamagedLibraryError(
                f"rows were written at {first_row}, but {committed} are committed"
            )
        file_ids = self._save_read_files(images)
        item_ids = self._save_image_items(
            {file_ids[image.path]: (image.width, image.height) for image in images}
        )
        ids = [item_ids[file_ids[image.path]] for image in images]
        for chunk in _chunks(ids):
            self._connection.execute(
                sa.delete(RowRecord).where(
                    RowRecord.space_id == space_id, RowRecord.item_id.in_(chunk)
                )
            )
        if images:
            self._connection.execute(
                sa.insert(RowRecord),
                [
                    {
                        "space_id": space_id,
                        "item_id": item_id,
                        "modality": Modality.IMAGE,
                        "row": row,
                        "content_hash": image.content_hash,
                    }
                    for row, (item_id, image) in enumerate(
                        zip(ids, images, strict=True), start=first_row
                    )
                ],
            )
        self._set_row_count(space_id, Modality.IMAGE, first_row + len(images))

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

    def record_touched(self, images: Sequence[ReadImage]) -> None:
        """Remember new times of files whose content is the same, and find them (again)."""
        self._save_read_files(images)

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

    def _save_read_files(self, images: Sequence[ReadImage]) -> dict[str, int]:
        return self._save_files(
            {
                image.path: {
                    "state": FileState.INDEXED,
                    "failure": None,
                    "size": image.size,
                    "mtime_ns": image.mtime_ns,
                    "content_hash": image.content_hash,
                }
                for image in images
            }
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

    def _save_image_items(self, sizes: dict[int, tuple[int, int]]) -> dict[int, int]:
        """Insert or update the one item of each image file; returns item ids by file id."""
        known = self._ids_of_items(sizes)
        if updates := [
            {"known_id": known[file_id], "width": width, "height": height}
            for file_id, (width, height) in sizes.items()
            if file_id in known
        ]:
            self._connection.execute(
                sa.update(ItemRecord).where(ItemRecord.id == sa.bindparam("known_id")), updates
            )
        if inserts := [
            {"file_id": file_id, "modality": Modality.IMAGE, "width": width, "height": height}
            for file_id, (width, height) in sizes.items()
            if file_id not in known
        ]:
            self._connection.execute(sa.insert(ItemRecord), inserts)
            known = self._ids_of_items(sizes)
        return known

    def _ids_of_items(self, file_ids: Iterable[int]) -> dict[int, int]:
        return {
            file_id: item_id
            for chunk in _chunks(list(file_ids))
            for file_id, item_id in self._connection.execute(
                sa.select(ItemRecord.file_id, ItemRecord.id).where(ItemRecord.file_id.in_(chunk))
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
        self._engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(path)),
            connect_args={"timeout": _BUSY_TIMEOUT_S},
        )
        event.listen(self._engine, "connect", _configure_connection)
        event.listen(self._engine, "begin", _begin)

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

    def close(self) -> None:
        """Close all connections."""
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
        if "readonly" in reason or "unable to open" in reason:
            return LibraryError(f"{self.path} cannot be opened or written: {reason}.")
        return DamagedLibraryError(
            f"{self.path} is damaged: {reason}. Nothing was overwritten. Restore it from a backup, "
            "try `sqlite3 catalog.sqlite .recover`, or index the sources into a new library "
            "(`--library NEW_DIR`)."
        )


def _configure_connection(connection: Any, _record: object) -> None:
    # SQLAlchemy, not the driver, opens transactions: the driver would defer the write lock.
    connection.isolation_level = None
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
        ItemRecord.modality,
        ItemRecord.width,
        ItemRecord.height,
        FileRecord.content_hash,
    ).join_from(ItemRecord, FileRecord, FileRecord.id == ItemRecord.file_id)


def _item(fields: Sequence[Any]) -> Item:
    item_id, path, modality, width, height, content_hash = fields
    return Item(item_id, path, Modality(modality), width, height, content_hash)


def _at_or_below(root: str, column: Any = FileRecord.path) -> sa.ColumnElement[bool]:
    first = root.rstrip(os.sep) + os.sep
    past_last = first[:-1] + chr(ord(os.sep) + 1)
    return sa.or_(column == root, sa.and_(column >= first, column < past_last))


def _chunks(values: Sequence[_T], size: int = _PARAMETERS_PER_STATEMENT) -> Iterator[Sequence[_T]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
