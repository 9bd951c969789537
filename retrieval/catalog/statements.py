"""SQL expressions that several queries share."""

import os
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from retrieval.catalog.records import FileState, Item
from retrieval.catalog.schema import FileRecord, ItemRecord, RowRecord
from retrieval.media import MediaKind, Modality

PARAMETERS_PER_STATEMENT = 10_000
"""Below the limits of bound values: 32,766 in SQLite, 65,535 in PostgreSQL."""

_T = TypeVar("_T")

CURRENT = sa.and_(
    FileRecord.state == FileState.INDEXED, RowRecord.content_hash == FileRecord.content_hash
)
"""Of a joined row and file: the row is of the file's present content, and the file can be found."""

CAN_BE_FOUND = FileRecord.state.not_in([FileState.FAILED, FileState.REMOVED])
"""Of a file: it is indexed, said so that SQLite does not go through the index of states.

It takes a value that an index is asked for to be rare, and does not know that most files have it.
"""


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


ITEM_COLUMNS = (
    ItemRecord.part,
    ItemRecord.width,
    ItemRecord.height,
    ItemRecord.page,
    ItemRecord.time_s,
    ItemRecord.text,
    ItemRecord.columns,
)
"""In the order of the fields of `Item` and `ItemEntry`."""


def select_items(*columns: Any) -> sa.Select[Any]:
    """Select the fields of `item_of`, after some other columns."""
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
    ).join_from(ItemRecord, FileRecord, FileRecord.id == ItemRecord.file_id)


def item_of(fields: Sequence[Any]) -> Item:
    """Make an item from what `select_items` selects."""
    item_id, path, kind, modality, *rest = fields
    return Item(item_id, path, MediaKind(kind), Modality(modality), *rest)


def at_or_below(root: str, column: Any = FileRecord.path) -> sa.ColumnElement[bool]:
    """Match a path and all paths below it."""
    first = root.rstrip(os.sep) + os.sep
    past_last = first[:-1] + chr(ord(os.sep) + 1)
    return sa.or_(column == root, sa.and_(column >= first, column < past_last))


def chunks(values: Sequence[_T], size: int = PARAMETERS_PER_STATEMENT) -> Iterator[Sequence[_T]]:
    """Split values into as many as a statement takes."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
