"""Filters as conditions of SQL, over a file and an item of it.

No condition is ever NULL, so that `not` lets pass exactly what its filter does not.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from retrieval.catalog import column_condition as column_test
from retrieval.catalog import path_glob
from retrieval.catalog.records import FileState
from retrieval.catalog.schema import AnnotationRecord, FileRecord, ItemRecord
from retrieval.catalog.statements import at_or_below
from retrieval.filters import ColumnTest, Filter, GeoBox, Range, TimeRange
from retrieval.media import UNTRUSTED_MTIME

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_NS = 2**63 - 1

Condition = sa.ColumnElement[bool]


def add_functions(connection: Any) -> None:
    """Give a connection of SQLite the functions that conditions call."""
    for name, count, function in (
        ("mmsearch_glob", 2, path_glob.matches),
        ("mmsearch_contains", 2, _contains),
        ("mmsearch_passes", 3, column_test.passes),
    ):
        connection.create_function(name, count, function, deterministic=True)


def condition(where: Filter) -> Condition:
    """What a file and an item must be like to pass; a range without an end asks for nothing."""
    wanted = [
        *_of_place(where),
        *_of_content(where),
        *(condition(part) for part in where.all_of or ()),
    ]
    if where.any_of:
        wanted.append(sa.or_(*(condition(part) for part in where.any_of)))
    if where.none_of:
        wanted.append(sa.not_(condition(where.none_of)))
    return sa.and_(sa.true(), *wanted)


def _of_place(where: Filter) -> Iterator[Condition]:
    if where.source is not None:
        yield at_or_below(where.source)
    if where.path is not None:
        yield _glob(where.path)
    if where.gps is not None:
        yield _inside(where.gps)


def _of_content(where: Filter) -> Iterator[Condition]:
    if where.kind is not None:
        yield FileRecord.kind.in_(where.kind)
    if where.taken_at is not None:
        yield from _taken(where.taken_at)
    for column, limits in ((ItemRecord.width, where.width), (ItemRecord.height, where.height)):
        if limits is not None:
            yield from _between(column, limits)
    if where.camera is not None:
        camera = column_test.folded(where.camera)
        yield _is_true(FileRecord.camera, sa.func.mmsearch_contains(FileRecord.camera, camera) == 1)
    for name, test in (where.columns or {}).items():
        if test != ColumnTest():
            yield _column(name, test)


def _contains(text: str | None, part: str) -> bool:
    return text is not None and part in column_test.folded(text)


def _is_true(column: Any, condition: Condition) -> Condition:
    return sa.and_(column.is_not(None), condition)


def _glob(pattern: str) -> Condition:
    matches = sa.func.mmsearch_glob(pattern, FileRecord.path) == 1
    prefix = path_glob.literal_prefix(pattern)
    if not prefix:
        return matches
    past_last = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    return sa.and_(FileRecord.path >= prefix, FileRecord.path < past_last, matches)


def _taken(wanted: TimeRange) -> Iterator[Condition]:
    for instant, is_since in ((wanted.since, True), (wanted.before, False)):
        if instant is None:
            continue
        # Times are whole seconds: from 0.5 s on, and before 0.5 s, both are about 1 s.
        seconds = -((_EPOCH - _in_utc(instant)) // timedelta(seconds=1))
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


def _in_utc(instant: datetime) -> datetime:
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


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


def _column(name: str, test: ColumnTest) -> Condition:
    """Of the item itself, or of what a table that is there now says of its file."""
    table = aliased(FileRecord)
    annotated = (
        sa.exists()
        .where(
            AnnotationRecord.image_path == FileRecord.path,
            table.id == AnnotationRecord.file_id,
            table.state == FileState.INDEXED,
            _cell(AnnotationRecord.columns, name, test),
        )
        .correlate(FileRecord)
    )
    return sa.or_(_is_true(ItemRecord.columns, _cell(ItemRecord.columns, name, test)), annotated)


def _cell(columns: Any, name: str, test: ColumnTest) -> Condition:
    # Not `json_extract`: its paths cannot name every column.
    cell = sa.func.json_each(columns).table_valued("key", "value", "type")
    return (
        sa.select(1)
        .select_from(cell)
        .where(
            cell.c.key == name,
            sa.func.mmsearch_passes(cell.c.value, cell.c.type, column_test.written(test)) == 1,
        )
        .exists()
    )
