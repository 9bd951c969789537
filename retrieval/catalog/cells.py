"""Cells of users' tables, by value: what filters by column and facets of columns look up.

They follow from the annotations of files and the columns of items. A list has a cell for each of
its elements; null, objects and lists in lists have none. Each value of a column is kept once.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
import xxhash
from sqlalchemy.orm import aliased

from retrieval.catalog.column_condition import (
    compared,
    folded,
    number_of,
    truth_of,
    writable,
)
from retrieval.catalog.dialects import dialect_of
from retrieval.catalog.dialects.base import Condition, Dialect
from retrieval.catalog.records import FileState
from retrieval.catalog.schema import (
    AnnotationRecord,
    CellValueRecord,
    FileCellRecord,
    FileRecord,
    ItemCellRecord,
    ItemRecord,
    chunks,
    next_id,
)
from retrieval.filters import ColumnTest, ColumnValue

Cell = tuple[str, str]
"""The name of a column and a value of it as JSON."""

_AT_ONCE = 5000
_SCALAR = (str, int, float)
_OWNERS: Mapping[Any, str] = {FileCellRecord: "file_id", ItemCellRecord: "item_id"}


def refresh_files(connection: sa.Connection, file_ids: Iterable[int]) -> None:
    """Replace the cells of some files by what tables that can be found say of them."""
    table = aliased(FileRecord)
    annotated = (
        sa.select(FileRecord.id, AnnotationRecord.columns)
        .join_from(FileRecord, AnnotationRecord, AnnotationRecord.image_path == FileRecord.path)
        .join(table, table.id == AnnotationRecord.file_id)
        # Not by the index of states, as most files are in one: see `CAN_BE_FOUND`.
        .where(table.state.not_in([FileState.FAILED, FileState.REMOVED]))
    )
    for chunk in chunks(sorted(set(file_ids)), _AT_ONCE):
        cells: dict[int, set[Cell]] = {}
        for file_id, columns in connection.execute(annotated.where(FileRecord.id.in_(chunk))):
            cells.setdefault(file_id, set()).update(cells_in(columns))
        old = _delete(connection, FileCellRecord, FileCellRecord.file_id.in_(chunk))
        _insert(connection, FileCellRecord, cells, old)


def refresh_items(
    connection: sa.Connection, columns_of_items: Mapping[int, dict[str, Any] | None]
) -> None:
    """Replace the cells of some items by those of their columns, given by id."""
    for chunk in chunks(list(columns_of_items), _AT_ONCE):
        cells = {
            item_id: set(cells_in(columns))
            for item_id in chunk
            if (columns := columns_of_items[item_id])
        }
        old = _delete(connection, ItemCellRecord, ItemCellRecord.item_id.in_(chunk))
        _insert(connection, ItemCellRecord, cells, old)


def forget_items(connection: sa.Connection, item_ids: sa.Select[Any]) -> None:
    """Delete the cells of items before they are deleted, as ids may be used again."""
    old = _delete(connection, ItemCellRecord, ItemCellRecord.item_id.in_(item_ids))
    _insert(connection, ItemCellRecord, {}, old)


def fill(connection: sa.Connection) -> None:
    """Make the cells of a catalog that has none."""
    refresh_files(connection, connection.scalars(sa.select(FileRecord.id)).all())
    items = sa.select(ItemRecord.id, ItemRecord.columns).where(ItemRecord.columns.is_not(None))
    for rows in connection.execute(items).partitions(_AT_ONCE):
        refresh_items(connection, dict(map(tuple, rows)))


def values_that_pass(
    name: str, test: ColumnTest, dialect: Dialect, *, by_index: bool
) -> sa.Select[Any]:
    """Select the ids of the values of a column that pass a test.

    A text and a number are equal where the text spells the number; `true` and `false` as texts, in
    either case, equal those values. A number contains what it is written with.
    """
    name = writable(name)
    is_text = isinstance(test.equals, str)  # which is looked up by what it is
    column = CellValueRecord.name
    wanted = [(dialect.unindexed(column) if is_text or not by_index else column) == name]
    if test.equals is not None:
        wanted.append(_equals(name, test.equals))
    if test.contains is not None:
        wanted.append(dialect.holds(CellValueRecord.folded, writable(folded(test.contains))))
    if test.min is not None:
        wanted.append(CellValueRecord.number >= test.min)
    if test.max is not None:
        wanted.append(CellValueRecord.number <= test.max)
    return sa.select(CellValueRecord.id).where(*wanted)


def values_in_any_case(name: str, value: str) -> sa.Select[Any]:
    """Select the ids of the values of a column that are a text, whatever its case."""
    return sa.select(CellValueRecord.id).where(
        CellValueRecord.name == name, CellValueRecord.folded == writable(folded(value))
    )


def _equals(name: str, wanted: ColumnValue) -> Condition:
    if isinstance(wanted, bool):
        return CellValueRecord.truth == wanted
    truth, number = truth_of(wanted), number_of(wanted)
    same: Condition = sa.false() if number is None else CellValueRecord.number == number
    if not isinstance(wanted, str):
        return same
    if truth is not None:
        same = CellValueRecord.truth == truth
    # A text is equal to another text only if they are the same.
    written = json.dumps(wanted)
    is_this = sa.and_(
        CellValueRecord.digest == _digest((name, written)), CellValueRecord.value == written
    )
    if truth is None and number is None:
        return is_this
    return sa.or_(
        is_this,
        sa.and_(CellValueRecord.name == name, same, ~CellValueRecord.value.startswith('"')),
    )


def cells_in(columns: Mapping[str, Any]) -> Iterable[Cell]:
    """Yield the cells of columns; a list has one for each of its elements."""
    for name, value in columns.items():
        for single in value if isinstance(value, list) else (value,):
            if isinstance(single, _SCALAR):
                yield writable(name), json.dumps(single)


def _delete(connection: sa.Connection, record: Any, condition: Condition) -> set[int]:
    """Delete the cells that pass a condition; returns the ids of their values."""
    old = set(connection.scalars(sa.select(record.value_id).where(condition).distinct()))
    if old:
        connection.execute(sa.delete(record).where(condition))
    return old


def _insert(
    connection: sa.Connection,
    record: Any,
    cells: Mapping[int, set[Cell]],
    old: set[int],
) -> None:
    """Insert cells by the ids of their owners; deletes those of the old values that none has."""
    value_ids = _value_ids(connection, set().union(*cells.values()))
    dialect_of(connection).insert_rows(
        connection,
        record,
        (_OWNERS[record], "value_id"),
        [(owner, value_ids[cell]) for owner, own in cells.items() for cell in sorted(own)],
    )
    unused = [~sa.exists().where(owners.value_id == CellValueRecord.id) for owners in _OWNERS]
    for chunk in chunks(sorted(old - set(value_ids.values()))):
        connection.execute(sa.delete(CellValueRecord).where(CellValueRecord.id.in_(chunk), *unused))


def _value_ids(connection: sa.Connection, cells: set[Cell]) -> dict[Cell, int]:
    """Return the ids of values; adds those that are new."""
    digests = {cell: _digest(cell) for cell in sorted(cells)}
    known: dict[Cell, int] = {}
    columns = (CellValueRecord.name, CellValueRecord.value, CellValueRecord.id)
    for chunk in chunks(list(digests.values())):
        found = connection.execute(sa.select(*columns).where(CellValueRecord.digest.in_(chunk)))
        known |= {(name, value): value_id for name, value, value_id in found}
    new = [cell for cell in digests if cell not in known]
    if new:
        first = next_id(connection, CellValueRecord)
        ids = range(first, first + len(new))
        dialect_of(connection).insert_rows(
            connection,
            CellValueRecord,
            ("id", "digest", "name", "value", "folded", "number", "truth"),
            [
                (value_id, digests[name, written], name, written, *compared(json.loads(written)))
                for value_id, (name, written) in zip(ids, new, strict=True)
            ],
        )
        known |= dict(zip(new, ids, strict=True))
    return known


def _digest(cell: Cell) -> int:
    return xxhash.xxh3_64_intdigest("\0".join(cell).encode()) - 2**63
