"""Everything that the catalog knows of files and their items, for tables that hold a library.

What users collected by items comes along by name; the words, folders and cells follow from the
rest.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.orm import aliased

from retrieval.catalog.records import FileEntry, FileState, ItemEntry, require_types
from retrieval.catalog.schema import (
    ITEM_COLUMNS,
    METADATA_VERSION,
    AnnotationRecord,
    CollectedItemRecord,
    CollectionRecord,
    EmbeddedFileRecord,
    FileRecord,
    HiddenItemRecord,
    ItemRecord,
    NoteRecord,
    RowRecord,
)
from retrieval.media import MediaKind, Metadata, Modality

Said = tuple[str, dict[str, Any]]
"""The path of a table, or of the file itself, and what it says of the file."""


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item with its vector, (d,) float16 of unit length.

    entry: its row is that of the vector in the library's embeddings, -1 outside of a library.
    vector: None until it is read. collections: the names of those that it is in. id: of the item;
    0: not known.
    """

    entry: ItemEntry
    vector: NDArray[np.float16] | None = None
    hidden: bool = False
    collections: Sequence[str] = ()
    id: int = 0


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file with its items.

    file: what it says of itself is in `said`, and its metadata has no columns. said: by it and by
    tables, in this order, so that the last says what counts. failure: why it could not be read.
    is_complete: all that it holds was embedded. etag: its version in an object store.
    """

    file: FileEntry
    items: Sequence[StoredItem] = ()
    said: Sequence[Said] = ()
    notes: Sequence[str] = ()
    failure: str | None = None
    is_complete: bool = True
    metadata_version: int = METADATA_VERSION
    etag: str | None = None


def read_stored_files(
    connection: sa.Connection, space_id: str, metadata: Sequence[str], after: int, limit: int
) -> tuple[int, list[StoredFile]]:
    """Read files that can be found, or failed, with their items of a space, by their ids.

    Args:
        connection: to the catalog.
        space_id: the space in which items must have a vector.
        metadata: the fields of `Metadata` that are columns of files.
        after: id of the last file of the page before; 0 for the first page.
        limit: maximum number of files.

    Returns:
        The id of the last file, and the files; none are left where there are none.
    """
    records = connection.execute(
        sa.select(FileRecord)
        .where(FileRecord.id > after, FileRecord.state != FileState.REMOVED)
        .order_by(FileRecord.id)
        .limit(limit)
    ).all()
    if not records:
        return after, []
    ids = sa.and_(FileRecord.id > after, FileRecord.id <= records[-1].id)
    said = _said(connection, ids)
    notes = _grouped(
        connection.execute(
            sa.select(NoteRecord.file_id, NoteRecord.note)
            .join(FileRecord, FileRecord.id == NoteRecord.file_id)
            .where(ids)
            .order_by(NoteRecord.id)
        )
    )
    embedded = connection.execute(
        sa.select(EmbeddedFileRecord.file_id, EmbeddedFileRecord.content_hash)
        .join(FileRecord, FileRecord.id == EmbeddedFileRecord.file_id)
        .where(ids, EmbeddedFileRecord.space_id == space_id)
    )
    complete: dict[int, str] = {file_id: content for file_id, content in embedded}  # noqa: C416
    items = _items(connection, space_id, ids)
    found = []
    for record in records:
        has_failed = record.state == FileState.FAILED
        known = Metadata(**{name: getattr(record, name) for name in metadata})
        entry = FileEntry(
            record.path,
            MediaKind(record.kind),
            record.size,
            record.mtime_ns,
            record.content_hash or "",
            require_types(known),
            record.sidecars,
        )
        found.append(
            StoredFile(
                require_types(entry),
                () if has_failed else tuple(items.get(record.id, ())),
                tuple(said.get(record.id, ())),
                tuple(notes.get(record.id, ())),
                (record.failure or "") if has_failed else None,
                complete.get(record.id) == record.content_hash and not has_failed,
                record.metadata_version,
            )
        )
    return records[-1].id, found


def _said(connection: sa.Connection, ids: sa.ColumnElement[bool]) -> dict[int, list[Said]]:
    table = aliased(FileRecord)
    rows = connection.execute(
        sa.select(FileRecord.id, table.path, AnnotationRecord.columns)
        .join_from(FileRecord, AnnotationRecord, AnnotationRecord.image_path == FileRecord.path)
        .join(table, table.id == AnnotationRecord.file_id)
        .where(ids, table.state == FileState.INDEXED)
        .order_by(AnnotationRecord.id)
    )
    return _grouped((file_id, (path, columns)) for file_id, path, columns in rows)


def _items(
    connection: sa.Connection, space_id: str, ids: sa.ColumnElement[bool]
) -> dict[int, list[StoredItem]]:
    rows = connection.execute(
        sa.select(
            FileRecord.id,
            ItemRecord.id,
            ItemRecord.modality,
            RowRecord.row,
            HiddenItemRecord.item_id,
            *ITEM_COLUMNS,
        )
        .join_from(FileRecord, ItemRecord, ItemRecord.file_id == FileRecord.id)
        .join(RowRecord, RowRecord.item_id == ItemRecord.id)
        .outerjoin(HiddenItemRecord, HiddenItemRecord.item_id == ItemRecord.id)
        .where(
            ids,
            RowRecord.space_id == space_id,
            RowRecord.content_hash == FileRecord.content_hash,
        )
        .order_by(ItemRecord.id)
    ).all()
    collected = _grouped(
        connection.execute(
            sa.select(CollectedItemRecord.item_id, CollectionRecord.name)
            .join(CollectionRecord, CollectionRecord.id == CollectedItemRecord.collection_id)
            .join(ItemRecord, ItemRecord.id == CollectedItemRecord.item_id)
            .join(FileRecord, FileRecord.id == ItemRecord.file_id)
            .where(ids)
            .order_by(CollectionRecord.name)
        )
    )
    return _grouped(
        (
            file_id,
            StoredItem(
                require_types(ItemEntry(Modality(modality), row, *rest)),
                None,
                hidden is not None,
                tuple(collected.get(item_id, ())),
                item_id,
            ),
        )
        for file_id, item_id, modality, row, hidden, *rest in rows
    )


def _grouped(pairs: Iterable[Any]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found
