"""Translate filters to SQL conditions over a file and an item of it.

No condition is ever NULL, so that `not` lets pass exactly what its filter does not.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from retrieval.catalog.dialects.base import Condition, Dialect
from retrieval.catalog.path_glob import literal_prefix
from retrieval.catalog.records import FileState
from retrieval.catalog.schema import AnnotationRecord, FileRecord, ItemRecord, at_or_below
from retrieval.filters import ColumnTest, Filter, GeoBox, Range, TimeRange
from retrieval.media import UNTRUSTED_MTIME

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_NS = 2**63 - 1


def condition(where: Filter | None, dialect: Dialect) -> Condition:
    """Translate a filter; None and ranges without an end let everything pass."""
    if where is None:
        return sa.true()
    wanted = [
        *_path_conditions(where, dialect),
        *_content_conditions(where, dialect),
        *(condition(part, dialect) for part in where.all_of or ()),
    ]
    if where.any_of:
        wanted.append(sa.or_(*(condition(part, dialect) for part in where.any_of)))
    if where.none_of:
        wanted.append(sa.not_(condition(where.none_of, dialect)))
    return sa.and_(sa.true(), *wanted)


def _path_conditions(where: Filter, dialect: Dialect) -> Iterator[Condition]:
    if where.source is not None:
        yield at_or_below(where.source)
    if where.path is not None:
        yield _glob(where.path, dialect)
    if where.place is not None:
        lines = "\n" + FileRecord.place + "\n"
        yield dialect.contains(lines, f"\n{where.place}\n")
    if where.gps is not None:
        yield _inside(where.gps)


def _content_conditions(where: Filter, dialect: Dialect) -> Iterator[Condition]:
    if where.kind is not None:
        yield FileRecord.kind.in_(where.kind)
    if where.taken_at is not None:
        yield from _taken(where.taken_at)
    for column, limits in ((ItemRecord.width, where.width), (ItemRecord.height, where.height)):
        if limits is not None:
            yield from _between(column, limits)
    if where.camera is not None:
        yield dialect.contains(FileRecord.camera, where.camera)
    for name, test in (where.columns or {}).items():
        if test != ColumnTest():
            yield _column(name, test, dialect)


def _is_true(column: Any, condition: Condition) -> Condition:
    return sa.and_(column.is_not(None), condition)


def _glob(pattern: str, dialect: Dialect) -> Condition:
    matches = dialect.path_matches(FileRecord.path, pattern)
    prefix = literal_prefix(pattern)
    if not prefix:
        return matches
    past_last = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    return sa.and_(FileRecord.path >= prefix, FileRecord.path < past_last, matches)


def _taken(wanted: TimeRange) -> Iterator[Condition]:
    if wanted.recorded:
        yield FileRecord.taken_at.is_not(None)
    for moment, is_since in ((wanted.since, True), (wanted.before, False)):
        if moment is None:
            continue
        # Times are whole seconds: from 0.5 s on, and before 0.5 s, both are about 1 s.
        seconds = -((_EPOCH - _in_utc(moment)) // timedelta(seconds=1))
        if moment.tzinfo is None:
            local = FileRecord.taken_local
            yield _is_true(local, local >= seconds if is_since else local < seconds)
            continue
        nanoseconds = max(-_MOST_NS - 1, min(_MOST_NS, seconds * 1_000_000_000))
        taken, modified = FileRecord.taken_at, FileRecord.mtime_ns
        yield sa.or_(
            _is_true(taken, taken >= seconds if is_since else taken < seconds),
            sa.and_(
                taken.is_(None),
                modified != UNTRUSTED_MTIME,
                modified >= nanoseconds if is_since else modified < nanoseconds,
            ),
        )


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _between(column: Any, limits: Range) -> Iterator[Condition]:
    if limits.min is not None:
        yield _is_true(column, column >= limits.min)
    if limits.max is not None:
        yield _is_true(column, column <= limits.max)


def _inside(box: GeoBox) -> Condition:
    latitude, longitude = FileRecord.latitude, FileRecord.longitude
    from_west, to_east = longitude >= box.west, longitude <= box.east
    crosses = box.west > box.east
    return sa.and_(
        latitude.is_not(None),
        longitude.is_not(None),
        latitude.between(box.south, box.north),
        sa.or_(from_west, to_east) if crosses else sa.and_(from_west, to_east),
    )


def _column(name: str, test: ColumnTest, dialect: Dialect) -> Condition:
    """Test the item's own columns, and what tables that are there now say of its file."""
    table = aliased(FileRecord)
    annotated = (
        sa.exists()
        .where(
            AnnotationRecord.image_path == FileRecord.path,
            table.id == AnnotationRecord.file_id,
            table.state == FileState.INDEXED,
            dialect.cell_passes(AnnotationRecord.columns, name, test),
        )
        .correlate(FileRecord)
    )
    own = dialect.cell_passes(ItemRecord.columns, name, test)
    return sa.or_(_is_true(ItemRecord.columns, own), annotated)
