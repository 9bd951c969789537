"""The tables of the catalog, and the SQL expressions that several queries share.

`retrieval/catalog/migrations` brings a database to these tables.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from retrieval.catalog.paths import below
from retrieval.catalog.records import FileState, Item, TakenFrom, local_time, require_types
from retrieval.media import MediaKind, Modality

_T = TypeVar("_T")

SCHEMA_REVISION = "0015"
"""The newest migration; a test compares it with the scripts."""

METADATA_VERSION = 2
"""What is read of files: a run that is asked to reads those with a smaller number again.

0: dates without their local time, which any run reads again. 1: of EXIF, IPTC and a little of XMP.
Files of an older version whose owner was told so have the negative number of the newer one.
"""


class FilePath(sa.types.TypeDecorator[str]):
    """A path as the file system spells it: its bytes, which need not be valid UTF-8."""

    impl = sa.LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> bytes | None:
        """Encode Python's spelling, which escapes invalid bytes."""
        return None if value is None else os.fsencode(value)

    def process_result_value(self, value: bytes | None, dialect: sa.Dialect) -> str | None:
        """Decode to Python's spelling."""
        return None if value is None else os.fsdecode(value)


class Base(DeclarativeBase):
    """The schema; `retrieval/catalog/migrations` brings a catalog to it."""


class SourceRecord(Base):
    """A folder or file that the library indexes.

    beside: the way to it from the directory of the library, by which it is found again when both
    are moved together; None where they are unrelated. seen: what the last walk met but did not take
    in, `Seen` as JSON.
    """

    __tablename__ = "sources"
    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(FilePath, unique=True)
    added_at: Mapped[int]
    options: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(none_as_null=True))
    beside: Mapped[str | None] = mapped_column(FilePath)
    seen: Mapped[dict[str, Any] | None] = mapped_column(sa.JSON(none_as_null=True))


class FolderRecord(Base):
    """A folder that a file is or was in; its path ends with a slash."""

    __tablename__ = "folders"
    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(FilePath, unique=True)


class FileRecord(Base):
    """A file as it was when it was last read; its state is what hides removed files.

    `folder_id` and `date` follow from its path and times: `retrieval.catalog.derived` sets them.
    """

    __tablename__ = "files"
    __table_args__ = (sa.Index("ix_files_latitude_longitude", "latitude", "longitude"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(FilePath, unique=True)
    state: Mapped[str] = mapped_column(sa.String(16), index=True)
    failure: Mapped[str | None] = mapped_column(sa.Text)
    size: Mapped[int] = mapped_column(sa.BigInteger, index=True)
    mtime_ns: Mapped[int] = mapped_column(sa.BigInteger)
    content_hash: Mapped[str | None] = mapped_column(sa.String(64), index=True)
    kind: Mapped[str] = mapped_column(sa.String(16), server_default=MediaKind.IMAGE, index=True)
    taken_at: Mapped[int | None] = mapped_column(sa.BigInteger)
    camera: Mapped[str | None] = mapped_column(sa.Text, index=True)
    latitude: Mapped[float | None] = mapped_column(sa.Double)
    longitude: Mapped[float | None] = mapped_column(sa.Double)
    duration_s: Mapped[float | None] = mapped_column(sa.Double)
    text: Mapped[str | None] = mapped_column(sa.Text)
    # The local date and time by which files are filtered and sorted, seconds since 1970 by that
    # clock: of the metadata, else of the machine that indexed, by the instant or the mtime.
    taken_local: Mapped[int | None] = mapped_column(sa.BigInteger, index=True)
    metadata_version: Mapped[int] = mapped_column(server_default="0")
    date_source: Mapped[str | None] = mapped_column(sa.String(16))
    # The state of its sidecars when they were read, as a number; NULL without any.
    sidecars: Mapped[int | None] = mapped_column(sa.BigInteger)
    # What its server said of the state of an object; NULL of files.
    etag: Mapped[str | None] = mapped_column(sa.Text)
    place: Mapped[str | None] = mapped_column(sa.Text, index=True)
    folder_id: Mapped[int | None] = mapped_column(index=True)
    date: Mapped[int | None] = mapped_column(sa.BigInteger, index=True)


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
    start_s: Mapped[float | None] = mapped_column(sa.Double)
    end_s: Mapped[float | None] = mapped_column(sa.Double)


class RowRecord(Base):
    """Where an item's vector lies in a space, and the content that it was computed from.

    A row whose content hash is no longer its file's is stale and does not count; a transaction
    leaves none behind, but for files that failed. `file_id` is that of the item.
    """

    __tablename__ = "rows"
    __table_args__ = (
        sa.Index("ix_rows_space_modality_row", "space_id", "modality", "row", "file_id", "item_id"),
        sa.Index("ix_rows_content_hash", "content_hash"),
        sa.Index("ix_rows_item_id", "item_id"),
    )
    space_id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    item_id: Mapped[int] = mapped_column(sa.ForeignKey("items.id"), primary_key=True)
    modality: Mapped[str] = mapped_column(sa.String(16))
    row: Mapped[int] = mapped_column(sa.BigInteger)
    content_hash: Mapped[str] = mapped_column(sa.String(64))
    file_id: Mapped[int] = mapped_column(server_default="0")


class EmbeddedFileRecord(Base):
    """A content of a file that was embedded completely in a space; it may have no items at all."""

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


class EnrichmentRecord(Base):
    """What a model found in one picture, or heard in one file; `retrieval.catalog.enrichments`.

    key: `Item.picture_key` of a picture, the content hash of a file. model: of a file beside which
    subtitles were, with their state. text: all of its segments; NULL where it found nothing, or
    failed.
    """

    __tablename__ = "enrichments"
    task: Mapped[str] = mapped_column(sa.String(16), primary_key=True)
    key: Mapped[str] = mapped_column(sa.String(128), primary_key=True)
    model: Mapped[str] = mapped_column(sa.Text)
    text: Mapped[str | None] = mapped_column(sa.Text)
    segments: Mapped[list[dict[str, Any]]] = mapped_column(sa.JSON)
    failure: Mapped[str | None] = mapped_column(sa.Text)


class NoteRecord(Base):
    """What could not be read of a file that is indexed all the same; ids in order of reading."""

    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(primary_key=True)
    file_id: Mapped[int] = mapped_column(sa.ForeignKey("files.id"), index=True)
    note: Mapped[str] = mapped_column(sa.Text)


class Number(sa.types.TypeDecorator[float]):
    """A number that is compared exactly, be it an integer of 64 bits or a double."""

    impl = sa.Numeric
    cache_ok = True

    def bind_processor(self, dialect: sa.Dialect) -> Callable[[Any], Any] | None:
        """Leave integers as they are; PostgreSQL would take a double for the nearest decimal."""
        if dialect.name == "sqlite":
            return None
        return lambda value: Decimal(value) if isinstance(value, float) else value

    def result_processor(self, dialect: sa.Dialect, coltype: object) -> None:
        """Make no decimals."""


class CellValueRecord(Base):
    """A value of a column that a cell has; `retrieval.catalog.cells` sets it and the cells.

    value: as JSON. digest: of name and value. folded, number, truth: what is compared.
    """

    __tablename__ = "cell_values"
    __table_args__ = (sa.Index("ix_cell_values_name_number", "name", "number"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[int] = mapped_column(sa.BigInteger, index=True)
    name: Mapped[str] = mapped_column(sa.Text)
    value: Mapped[str] = mapped_column(sa.Text)
    folded: Mapped[str] = mapped_column(sa.Text)
    number: Mapped[float | None] = mapped_column(Number)
    truth: Mapped[bool | None]


class FileCellRecord(Base):
    """A value that some table gives a file."""

    __tablename__ = "file_cells"
    __table_args__ = (
        sa.Index("ix_file_cells_value_file", "value_id", "file_id"),
        sa.Index("ix_file_cells_file_value", "file_id", "value_id"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    file_id: Mapped[int]
    value_id: Mapped[int]


class ItemCellRecord(Base):
    """A value that an item has in a column of its own."""

    __tablename__ = "item_cells"
    __table_args__ = (
        sa.Index("ix_item_cells_value_item", "value_id", "item_id"),
        sa.Index("ix_item_cells_item_value", "item_id", "value_id"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    item_id: Mapped[int]
    value_id: Mapped[int]


class LabelRecord(Base):
    """A value of a facet of files; `retrieval.catalog.facets` sets it and the codes."""

    __tablename__ = "labels"
    __table_args__ = (sa.Index("ix_labels_facet_value", "facet", "value", unique=True),)
    id: Mapped[int] = mapped_column(primary_key=True)
    facet: Mapped[str] = mapped_column(sa.String(16))
    value: Mapped[str] = mapped_column(sa.Text)


class CodesRecord(Base):
    """The values of all facets of the files from an id on, as an array."""

    __tablename__ = "codes"
    first_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    codes: Mapped[bytes] = mapped_column(sa.LargeBinary)


class CollectionRecord(Base):
    """A named collection of items. folded: the name as names are compared."""

    __tablename__ = "collections"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.Text)
    folded: Mapped[str] = mapped_column(sa.Text, unique=True)
    created_at: Mapped[int] = mapped_column(sa.BigInteger)


class CollectedItemRecord(Base):
    """An item of a collection; ids in the order in which items were added."""

    __tablename__ = "collected_items"
    __table_args__ = (
        sa.Index("ix_collected_items_collection_item", "collection_id", "item_id", unique=True),
        sa.Index("ix_collected_items_item_id", "item_id"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    collection_id: Mapped[int] = mapped_column(sa.ForeignKey("collections.id"))
    item_id: Mapped[int] = mapped_column(sa.ForeignKey("items.id"))


class HiddenItemRecord(Base):
    """An item that searches and lists leave out unless they ask for it."""

    __tablename__ = "hidden_items"
    item_id: Mapped[int] = mapped_column(sa.ForeignKey("items.id"), primary_key=True)
    hidden_at: Mapped[int] = mapped_column(sa.BigInteger)


class SavedSearchRecord(Base):
    """A search that was given a name. folded: the name as names are compared."""

    __tablename__ = "saved_searches"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.Text)
    folded: Mapped[str] = mapped_column(sa.Text, unique=True)
    query: Mapped[dict[str, Any]] = mapped_column(sa.JSON)
    created_at: Mapped[int] = mapped_column(sa.BigInteger)


class ExtentRecord(Base):
    """The number of committed rows of a space and modality. It never shrinks.

    Under the name of `checksums_of` a modality: how many of them have a checksum, the first ones.
    Versions that know of no checksums do not count it up, and their rows have none.
    """

    __tablename__ = "extents"
    space_id: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    modality: Mapped[str] = mapped_column(sa.String(16), primary_key=True)
    row_count: Mapped[int] = mapped_column(sa.BigInteger)


FILE_WORDS = sa.table(
    "file_words", *map(sa.column, ("rowid", "said", "described", "camera", "name", "folders"))
)
ITEM_WORDS = sa.table("item_words", *map(sa.column, ("rowid", "passage", "columns")))
"""The full-text index, a document a file and an item: `Dialect.create_text_index` makes both."""

WEIGHTS = {FILE_WORDS.name: (4.0, 3.0, 1.0, 1.5, 0.5), ITEM_WORDS.name: (4.0, 1.0)}
"""Of the columns: what a person wrote of a picture says more than the name of its folder."""


def checksums_of(modality: Modality) -> str:
    """Name the extent of the checksums of a modality's rows."""
    return f"{modality}.xxh3"


PARAMETERS_PER_STATEMENT = 10_000
"""Below the limits of bound values: 32,766 in SQLite, 65,535 in PostgreSQL."""

CURRENT = sa.and_(
    FileRecord.state == FileState.INDEXED, RowRecord.content_hash == FileRecord.content_hash
)
"""Of a joined row and file: the row is of the file's present content, and the file can be found."""

CAN_BE_FOUND = FileRecord.state.not_in([FileState.FAILED, FileState.REMOVED])
"""Of a file: it is indexed, said so that SQLite does not go through the index of states.

It takes a value that an index is asked for to be rare, and does not know that most files have it.
"""


SIDECARS_NOT_READ = 1
"""State of the sidecars of a file whose metadata the next run is to read."""

IS_OLD_METADATA = sa.and_(
    FileRecord.state == FileState.INDEXED,
    FileRecord.kind.in_([MediaKind.IMAGE, MediaKind.VIDEO, MediaKind.AUDIO, MediaKind.DOCUMENT]),
    FileRecord.metadata_version.between(1, METADATA_VERSION - 1),
)
"""Of a file: an earlier version read less of it, and nobody was told so."""


def row_in(space_id: str) -> sa.ScalarSelect[int]:
    """Select the row of an item's current vector in a space, or NULL; join files and items outside.

    Not a join: SQLite would begin with the rows of the space, for the reason above.
    """
    return (
        sa.select(RowRecord.row)
        .where(
            RowRecord.space_id == space_id,
            RowRecord.item_id == ItemRecord.id,
            RowRecord.content_hash == FileRecord.content_hash,
        )
        .correlate(ItemRecord, FileRecord)
        .scalar_subquery()
    )


def select_current(space_id: str, modality: Modality | None, *columns: Any) -> sa.Select[Any]:
    """Select of the current rows of a space and modality (None: all), their items and files."""
    query = (
        sa.select(*columns)
        .select_from(RowRecord)
        .join(ItemRecord, ItemRecord.id == RowRecord.item_id)
        .join(FileRecord, FileRecord.id == ItemRecord.file_id)
        .where(CURRENT, RowRecord.space_id == space_id)
    )
    return query if modality is None else query.where(RowRecord.modality == modality)


ITEM_COLUMNS = (
    ItemRecord.part,
    ItemRecord.width,
    ItemRecord.height,
    ItemRecord.page,
    ItemRecord.time_s,
    ItemRecord.text,
    ItemRecord.columns,
    ItemRecord.start_s,
    ItemRecord.end_s,
)
"""In the order of the fields of `Item` and `ItemEntry`."""


def select_items(*columns: Any, files_first: bool = False) -> sa.Select[Any]:
    """Select the fields of `item_of`, after some other columns.

    files_first: go through the files, in an order of theirs, and not through the items, as SQLite
    would rather do: it cannot look files up by an expression.
    """
    of_item = FileRecord.id + 0 if files_first else FileRecord.id
    return sa.select(
        *columns,
        ItemRecord.id,
        FileRecord.path,
        FileRecord.kind,
        ItemRecord.modality,
        FileRecord.content_hash,
        FileRecord.size,
        FileRecord.mtime_ns,
        *ITEM_COLUMNS,
        FileRecord.taken_local,
        FileRecord.taken_at.is_not(None).label("taken_from"),
    ).join_from(ItemRecord, FileRecord, of_item == ItemRecord.file_id)


def item_of(fields: Sequence[Any]) -> Item:
    """Make an item from what `select_items` selects."""
    item_id, path, kind, modality, *rest, taken_local, has_date = fields
    dated: tuple[Any, ...] = ()
    if taken_local is not None:
        dated = local_time(taken_local), TakenFrom.METADATA if has_date else TakenFrom.MTIME
    item = Item(item_id, path, MediaKind(kind), Modality(modality), *rest, *dated)
    return require_types(item)


def at_or_below(root: str, column: Any = FileRecord.path) -> sa.ColumnElement[bool]:
    """Match a path and all paths below it."""
    first = below(root)
    past_last = first[:-1] + chr(ord(first[-1]) + 1)
    return sa.or_(column == root, sa.and_(column >= first, column < past_last))


def next_id(connection: sa.Connection, record: Any) -> int:
    """Return the id from which on none is taken: only one transaction at a time inserts."""
    return (connection.scalar(sa.select(sa.func.max(record.id))) or 0) + 1


def raw_rows(connection: sa.Connection, query: sa.Executable) -> Sequence[Any]:
    """Return rows as the driver gives them, as tuples: SQLAlchemy's own take twice as long."""
    cursor = connection.execute(query).cursor
    return cursor.fetchall() if cursor else []


def chunks(values: Sequence[_T], size: int = PARAMETERS_PER_STATEMENT) -> Iterator[Sequence[_T]]:
    """Split values into as many as a statement takes."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
