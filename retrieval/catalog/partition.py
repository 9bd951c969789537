"""Cut a copy of a catalog down to one shard: files by the hash of their content, with their ids."""

from typing import Any

import numpy as np
import sqlalchemy as sa
import xxhash
from numpy.typing import NDArray

from retrieval.catalog import enrichments
from retrieval.catalog.fulltext.index import forget_items
from retrieval.catalog.schema import (
    FILE_WORDS,
    AnnotationRecord,
    CollectedItemRecord,
    EmbeddedFileRecord,
    ExtentRecord,
    FileCellRecord,
    FileRecord,
    HiddenItemRecord,
    ItemCellRecord,
    ItemRecord,
    NoteRecord,
    RowRecord,
    SourceRecord,
    checksums_of,
    chunks,
)
from retrieval.media import MediaKind, Modality

Extents = dict[tuple[str, Modality], NDArray[np.int64]]
"""The rows of a shard by space and modality: numbers in the whole library, ascending."""


def shard_of(key: str, count: int) -> int:
    """Return which of some shards holds a content, by its hash; copies of a file stay together."""
    return xxhash.xxh3_64_intdigest(key.encode("utf-8", "surrogateescape")) % count


def keep_shard(connection: sa.Connection, index: int, count: int) -> Extents:
    """Delete what is not of one of `count` shards, and number the rows that stay from 0.

    Ids stay. Tables stay in every shard, as they say something of the files of all; their own items
    are in one. Rows that no item has any more are shared out, too: calibration samples them.
    """
    known = connection.execute(
        sa.select(FileRecord.id, FileRecord.path, FileRecord.content_hash, FileRecord.kind)
    ).all()
    elsewhere: list[int] = []
    foreign_tables: list[int] = []
    gone_paths = []
    for file_id, path, content_hash, kind in known:
        if shard_of(content_hash or str(path), count) != index:
            (foreign_tables if kind == MediaKind.TABLE else elsewhere).append(file_id)
            gone_paths.append(path)
    extents = _rows_of_shard(connection, index, count)
    for chunk in chunks([*elsewhere, *foreign_tables]):
        _delete_items(connection, chunk)
        _delete(connection, NoteRecord, NoteRecord.file_id.in_(chunk))
        _delete(connection, FileCellRecord, FileCellRecord.file_id.in_(chunk))
        _delete(connection, EmbeddedFileRecord, EmbeddedFileRecord.file_id.in_(chunk))
        connection.execute(sa.delete(FILE_WORDS).where(FILE_WORDS.c.rowid.in_(chunk)))
    for paths in chunks(gone_paths):
        _delete(connection, AnnotationRecord, AnnotationRecord.image_path.in_(paths))
    for chunk in chunks(elsewhere):
        _delete(connection, AnnotationRecord, AnnotationRecord.file_id.in_(chunk))
        _delete(connection, FileRecord, FileRecord.id.in_(chunk))
    enrichments.forget_unused(connection)
    if index:  # what walks met is of no file
        connection.execute(sa.update(SourceRecord).values(seen=None))
    for (space_id, modality), numbers in extents.items():
        _renumber(connection, space_id, modality, numbers)
    return extents


def _delete(connection: sa.Connection, record: Any, condition: Any) -> None:
    connection.execute(sa.delete(record).where(condition))


def _delete_items(connection: sa.Connection, file_ids: Any) -> None:
    items = sa.select(ItemRecord.id).where(ItemRecord.file_id.in_(file_ids))
    forget_items(connection, items)
    for record in (RowRecord, ItemCellRecord, CollectedItemRecord, HiddenItemRecord):
        _delete(connection, record, record.item_id.in_(items))
    _delete(connection, ItemRecord, ItemRecord.file_id.in_(file_ids))


def _rows_of_shard(connection: sa.Connection, index: int, count: int) -> Extents:
    """List the rows of a shard, and delete the other rows, while all are still known."""
    extents: Extents = {}
    known = connection.execute(
        sa.select(ExtentRecord.space_id, ExtentRecord.modality, ExtentRecord.row_count).where(
            ExtentRecord.modality.in_(list(Modality))
        )
    ).all()
    for space_id, modality, row_count in known:
        of_extent = RowRecord.space_id == space_id, RowRecord.modality == modality
        homes = np.arange(row_count) % count
        elsewhere = set()
        for row, content_hash in connection.execute(
            sa.select(RowRecord.row, RowRecord.content_hash).where(*of_extent).distinct()
        ):
            homes[row] = shard_of(content_hash, count)
            if homes[row] != index:
                elsewhere.add(content_hash)
        for chunk in chunks(sorted(elsewhere)):
            _delete(connection, RowRecord, sa.and_(*of_extent, RowRecord.content_hash.in_(chunk)))
        extents[space_id, Modality(modality)] = np.flatnonzero(homes == index)
    return extents


def _renumber(
    connection: sa.Connection, space_id: str, modality: Modality, numbers: NDArray[np.int64]
) -> None:
    """Number rows from 0. numbers: ascending, so that no row takes a number that is still used."""
    changes = [{"old": old, "new": new} for new, old in enumerate(numbers.tolist()) if old != new]
    if changes:
        connection.execute(
            sa.update(RowRecord)
            .where(
                RowRecord.space_id == space_id,
                RowRecord.modality == modality,
                RowRecord.row == sa.bindparam("old"),
            )
            .values(row=sa.bindparam("new"))
            .execution_options(synchronize_session=False),
            changes,
        )
    for name in (str(modality), checksums_of(modality)):
        extent = sa.and_(ExtentRecord.space_id == space_id, ExtentRecord.modality == name)
        had = connection.scalar(sa.select(ExtentRecord.row_count).where(extent))
        if had is not None:
            kept = int(np.searchsorted(numbers, had))
            connection.execute(sa.update(ExtentRecord).where(extent).values(row_count=kept))
