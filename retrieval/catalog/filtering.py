"""Translate filters to SQL conditions over a file and an item of it.

No condition is ever NULL, so that `not` lets pass exactly what its filter does not.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa

from retrieval.catalog import cells
from retrieval.catalog.dialects.base import Condition, Dialect
from retrieval.catalog.path_glob import literal_prefix, split_pattern
from retrieval.catalog.records import folded_name
from retrieval.catalog.schema import (
    CellValueRecord,
    CollectedItemRecord,
    CollectionRecord,
    FileCellRecord,
    FileRecord,
    FolderRecord,
    HiddenItemRecord,
    ItemCellRecord,
    ItemRecord,
    at_or_below,
)
from retrieval.catalog.shown_text import shows_text
from retrieval.filters import ColumnTest, Filter, GeoBox, Range, TimeRange

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def shown(where: Filter | None, dialect: Dialect) -> Condition:
    """Translate a filter for a few known items, without hidden ones unless it speaks of them."""
    wanted = condition(where, dialect)
    if where is not None and where.says_hidden:
        return wanted
    return sa.and_(wanted, ~_is_hidden())


def condition(
    where: Filter | None, dialect: Dialect, *, by_index: bool = False, of_files: bool = False
) -> Condition:
    """Translate a filter; None and ranges without an end let everything pass.

    Args:
        where: the filter.
        dialect: of the database.
        by_index: let the database begin with what passes, where all files are asked for. Where a
            few are known already, SQLite would go through an index of many instead.
        of_files: by_index, where columns are only those that tables give files.
    """
    if where is None:
        return sa.true()
    parts_of = partial(condition, dialect=dialect, by_index=by_index, of_files=of_files)
    wanted = [
        *_path_conditions(where, dialect, by_index=by_index),
        *_content_conditions(where, dialect, by_index=by_index),
        *_column_conditions(where, dialect, by_index=by_index, of_files=of_files),
        *_membership(where, by_index=by_index),
        *map(parts_of, where.all_of or ()),
    ]
    if where.any_of:
        wanted.append(sa.or_(*map(parts_of, where.any_of)))
    if where.none_of:
        wanted.append(sa.not_(parts_of(where.none_of)))
    return sa.and_(sa.true(), *wanted)


def is_of_file(where: Filter, *, with_columns: bool = False) -> bool:
    """Return whether a filter asks nothing of the single items of a file.

    with_columns: whether columns are of files, since no item has any.
    """
    of_columns = where.columns or where.rating or where.label or where.keyword or where.person
    is_of_member = where.collection is not None or isinstance(where.hidden, bool)
    is_of_picture = where.width or where.height or where.has_text is not None
    is_of_item = is_of_picture or is_of_member or (of_columns and not with_columns)
    return not is_of_item and all(
        is_of_file(part, with_columns=with_columns) for part in where.parts
    )


def _path_conditions(where: Filter, dialect: Dialect, *, by_index: bool) -> Iterator[Condition]:
    if where.source is not None:
        yield at_or_below(where.source)
    if where.path is not None:
        yield _glob(where.path, dialect, by_index=by_index)
    if where.place is not None:
        lines = "\n" + FileRecord.place + "\n"
        yield dialect.contains(lines, f"\n{where.place}\n")
    if where.gps is not None:
        latitude = FileRecord.latitude if by_index else dialect.unindexed(FileRecord.latitude)
        yield _inside(latitude, where.gps)


def _content_conditions(where: Filter, dialect: Dialect, *, by_index: bool) -> Iterator[Condition]:
    if where.kind is not None:
        yield (FileRecord.kind if by_index else dialect.unindexed(FileRecord.kind)).in_(where.kind)
    if where.taken_at is not None:
        yield from _dated(where.taken_at, dialect, by_index=by_index)
    for column, limits in ((ItemRecord.width, where.width), (ItemRecord.height, where.height)):
        if limits is not None:
            yield from _between(column, limits)
    if where.has_text is not None:
        yield shows_text() if where.has_text else ~shows_text()
    if where.camera is not None:
        yield _camera(where.camera, dialect, by_index=by_index)
    if where.camera_name is not None:
        name = FileRecord.camera if by_index else dialect.unindexed(FileRecord.camera)
        yield _is_true(FileRecord.camera, name == where.camera_name)


def _column_conditions(
    where: Filter, dialect: Dialect, *, by_index: bool, of_files: bool
) -> Iterator[Condition]:
    """Test the item's own columns, and what tables that are there now say of its file."""
    wanted = [
        cells.values_that_pass(name, test, dialect, by_index=by_index)
        for name, test in (where.columns or {}).items()
        if test != ColumnTest()
    ]
    # What files say of themselves are columns of their own.
    if where.rating is not None and where.rating != Range():
        stars = ColumnTest(min=where.rating.min, max=where.rating.max)
        wanted.append(cells.values_that_pass("rating", stars, dialect, by_index=by_index))
    named = {"label": where.label, "keyword": where.keyword, "person": where.person}
    wanted += [
        cells.values_in_any_case(name, value) for name, value in named.items() if value is not None
    ]
    for values in wanted:
        if of_files:
            yield FileRecord.id.in_(_owners(FileCellRecord.file_id, values))
        else:
            yield _of_many(values) if by_index else _of_few(values)


def _membership(where: Filter, *, by_index: bool) -> Iterator[Condition]:
    """Test the collections of an item, and whether it is hidden."""
    if where.collection is not None:
        of_name = sa.select(CollectionRecord.id).where(
            CollectionRecord.folded == folded_name(where.collection)
        )
        collected = CollectedItemRecord.collection_id == of_name.scalar_subquery()
        if by_index:
            yield ItemRecord.id.in_(sa.select(CollectedItemRecord.item_id).where(collected))
        else:
            of_item = CollectedItemRecord.item_id == ItemRecord.id
            yield sa.exists().where(collected, of_item).correlate(ItemRecord)
    if where.hidden is True:
        yield (ItemRecord.id.in_(sa.select(HiddenItemRecord.item_id)) if by_index else _is_hidden())
    elif where.hidden is False:
        yield ~_is_hidden()


def _is_hidden() -> sa.Exists:
    return sa.exists().where(HiddenItemRecord.item_id == ItemRecord.id).correlate(ItemRecord)


def _is_true(column: Any, condition: Condition) -> Condition:
    return sa.and_(column.is_not(None), condition)


def _camera(part: str, dialect: Dialect, *, by_index: bool) -> Condition:
    if not by_index:
        return dialect.contains(FileRecord.camera, part)
    names = dialect.distinct(FileRecord.camera).subquery()
    named = sa.select(names.c[0]).where(dialect.contains(names.c[0], part))
    return _is_true(FileRecord.camera, FileRecord.camera.in_(named))


def _glob(pattern: str, dialect: Dialect, *, by_index: bool) -> Condition:
    """Compare folders, which are few, and names where that is not enough."""
    matches = dialect.path_matches(FileRecord.path, pattern)
    prefix = literal_prefix(pattern)
    split = split_pattern(pattern)
    if prefix and (not by_index or split is None or prefix.startswith(split.folder)):
        past_last = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        return sa.and_(FileRecord.path >= prefix, FileRecord.path < past_last, matches)
    if split is None or not by_index:
        return matches
    wanted = []
    if split.folder:
        folders = sa.select(FolderRecord.id).where(
            dialect.path_matches(FolderRecord.path, split.folder)
        )
        wanted.append(_is_true(FileRecord.folder_id, FileRecord.folder_id.in_(folders)))
    if split.name != "*":
        wanted.append(dialect.name_matches(FileRecord.path, split.name))
    if not split.is_exact:
        wanted.append(matches)
    return sa.and_(sa.true(), *wanted)


def _dated(wanted: TimeRange, dialect: Dialect, *, by_index: bool) -> Iterator[Condition]:
    if wanted.recorded:
        yield FileRecord.taken_at.is_not(None)
    for moment, is_since in ((wanted.since, True), (wanted.before, False)):
        if moment is None:
            continue
        # A time without a zone is by the camera's clock.
        column: Any = FileRecord.taken_local if moment.tzinfo is None else FileRecord.date
        date = column if by_index else dialect.unindexed(column)
        # Times are whole seconds: from 0.5 s on, and before 0.5 s, both are about 1 s.
        seconds = -((_EPOCH - _in_utc(moment)) // timedelta(seconds=1))
        yield _is_true(date, date >= seconds if is_since else date < seconds)


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _between(column: Any, limits: Range) -> Iterator[Condition]:
    if limits.min is not None:
        yield _is_true(column, column >= limits.min)
    if limits.max is not None:
        yield _is_true(column, column <= limits.max)


def _inside(latitude: Any, box: GeoBox) -> Condition:
    longitude = FileRecord.longitude
    from_west, to_east = longitude >= box.west, longitude <= box.east
    crosses = box.west > box.east
    return sa.and_(
        latitude.is_not(None),
        longitude.is_not(None),
        latitude.between(box.south, box.north),
        sa.or_(from_west, to_east) if crosses else sa.and_(from_west, to_east),
    )


def _owners(owner: Any, values: sa.Select[Any]) -> sa.Select[Any]:
    """Select the files or items that have one of some values."""
    return sa.select(owner).where(owner.class_.value_id.in_(values))


def _of_many(values: sa.Select[Any]) -> Condition:
    passing = sa.select(values.cte())  # found once for both
    of_files = _owners(FileCellRecord.file_id, passing)
    said = sa.select(ItemRecord.id).where(ItemRecord.file_id.in_(of_files))
    return ItemRecord.id.in_(_owners(ItemCellRecord.item_id, passing).union(said))


def _of_few(values: sa.Select[Any]) -> Condition:
    of_item = ItemCellRecord.item_id == ItemRecord.id
    of_file = FileCellRecord.file_id == FileRecord.id
    return sa.or_(
        *(
            values.where(record.value_id == CellValueRecord.id, of_owner)
            .correlate(FileRecord, ItemRecord)
            .exists()
            for record, of_owner in ((ItemCellRecord, of_item), (FileCellRecord, of_file))
        )
    )
