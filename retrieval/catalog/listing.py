"""Lists of what there is: items, and the values that filters can ask for."""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from retrieval.catalog.filtering import condition
from retrieval.catalog.records import FileState, Item
from retrieval.catalog.schema import AnnotationRecord, FileRecord, ItemRecord
from retrieval.catalog.statements import (
    CAN_BE_FOUND,
    chunks,
    has_row_in,
    item_of,
    row_in,
    select_items,
)
from retrieval.filters import Filter
from retrieval.media import UNTRUSTED_MTIME, MediaKind, Modality

_MOST_NAMES = 1000
_MOST_TABLES = 1000
_ROWS_A_TABLE = 50
_SAMPLES = 5
_LONGEST_SAMPLE = 100

Value = str | int | float | bool


def items(
    connection: sa.Connection,
    space_id: str,
    *,
    where: Filter | None,
    modality: Modality | None,
    after: int,
    limit: int,
    newest_first: bool,
) -> list[Item]:
    """As `Snapshot.items` says."""
    query = select_items().where(CAN_BE_FOUND, has_row_in(space_id)).limit(limit)
    if newest_first:
        query = query.order_by(ItemRecord.id.desc())
        if after:
            query = query.where(ItemRecord.id < after)
    else:
        query = query.where(ItemRecord.id > after).order_by(ItemRecord.id)
    if modality is not None:
        query = query.where(ItemRecord.modality == modality)
    if where is not None:
        query = query.where(condition(where))
    return [item_of(fields) for fields in connection.execute(query)]


def item_rows(
    connection: sa.Connection, space_id: str, item_ids: Sequence[int]
) -> dict[int, tuple[Modality, int]]:
    """As `Snapshot.item_rows` says."""
    query = (
        sa.select(ItemRecord.id, ItemRecord.modality, row_in(space_id))
        .select_from(ItemRecord)
        .join(FileRecord, FileRecord.id == ItemRecord.file_id)
        .where(CAN_BE_FOUND)
    )
    return {
        item_id: (Modality(modality), row)
        for chunk in chunks(item_ids)
        for item_id, modality, row in connection.execute(query.where(ItemRecord.id.in_(chunk)))
        if row is not None
    }


def cameras(connection: sa.Connection) -> list[str]:
    """As `Snapshot.cameras` says."""
    query = (
        sa.select(FileRecord.camera)
        .where(FileRecord.camera.is_not(None), FileRecord.state == FileState.INDEXED)
        .distinct()
        .order_by(FileRecord.camera)
        .limit(_MOST_NAMES)
    )
    return [camera for camera in connection.scalars(query) if camera]


def kinds(connection: sa.Connection) -> dict[MediaKind, int]:
    """As `Snapshot.kinds` says."""
    query = (
        sa.select(FileRecord.kind, sa.func.count())
        .where(FileRecord.state == FileState.INDEXED)
        .group_by(FileRecord.kind)
        .order_by(FileRecord.kind)
    )
    return {MediaKind(kind): count for kind, count in connection.execute(query)}


def taken_between(connection: sa.Connection) -> tuple[int, int] | None:
    """As `Snapshot.taken_between` says."""
    own = sa.select(sa.func.min(FileRecord.taken_at), sa.func.max(FileRecord.taken_at)).where(
        FileRecord.state == FileState.INDEXED
    )
    modified = sa.select(sa.func.min(FileRecord.mtime_ns), sa.func.max(FileRecord.mtime_ns)).where(
        FileRecord.state == FileState.INDEXED,
        FileRecord.taken_at.is_(None),
        FileRecord.mtime_ns != UNTRUSTED_MTIME,
    )
    times = [time for time in connection.execute(own).one() if time is not None]
    times += [ns // 10**9 for ns in connection.execute(modified).one() if ns is not None]
    return (min(times), max(times)) if times else None


def columns(connection: sa.Connection) -> dict[str, list[Value]]:
    """As `Snapshot.columns` says."""
    found: dict[str, list[Value]] = {}
    for row in _rows_of_tables(connection):
        for name, value in row.items():
            samples = found.setdefault(name, []) if len(found) < _MOST_NAMES else found.get(name)
            if samples is not None:
                _add_samples(samples, value)
    return dict(sorted(found.items()))


def _rows_of_tables(connection: sa.Connection) -> Iterator[dict[str, Any]]:
    """The first rows of each table that is there."""
    tables = (
        sa.select(FileRecord.id)
        .where(FileRecord.kind == MediaKind.TABLE, FileRecord.state == FileState.INDEXED)
        .order_by(FileRecord.id)
        .limit(_MOST_TABLES)
    )
    for file_id in connection.scalars(tables).all():
        for record in (AnnotationRecord, ItemRecord):
            rows = (
                sa.select(record.columns)
                .where(record.file_id == file_id, record.columns.is_not(None))
                .order_by(record.id)
                .limit(_ROWS_A_TABLE)
            )
            yield from connection.scalars(rows)


def _add_samples(samples: list[Value], value: Any) -> None:
    for single in value if isinstance(value, list) else [value]:
        is_fit = isinstance(single, int | float) or (
            isinstance(single, str) and 0 < len(single) <= _LONGEST_SAMPLE
        )
        if is_fit and len(samples) < _SAMPLES and single not in samples:
            samples.append(single)
