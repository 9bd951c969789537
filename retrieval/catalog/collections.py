"""Collections of items, hidden items and saved searches, as the catalog stores them.

Items of removed files stay where they are: they are found again when their files come back. Where
another file has the same content, its item takes their place (`hand_over_to_copies`).
"""

import time
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from retrieval.catalog.dialects.base import Dialect
from retrieval.catalog.facets import ColumnFacet
from retrieval.catalog.records import (
    Collection,
    FileState,
    SavedSearch,
    folded_name,
    picture_part,
)
from retrieval.catalog.schema import (
    CAN_BE_FOUND,
    CollectedItemRecord,
    CollectionRecord,
    FileRecord,
    HiddenItemRecord,
    ItemRecord,
    SavedSearchRecord,
    chunks,
    next_id,
)
from retrieval.errors import NotFoundError, UsageError
from retrieval.media import Modality

LONGEST_NAME = 200
MOST_NAMED = 1000
"""Collections of a library, and saved searches of it."""

_MEMBERS: tuple[Any, ...] = (CollectedItemRecord, HiddenItemRecord)


def plain_name(name: str) -> str:
    """Return a name without blanks around it; raises UsageError for one that cannot be used."""
    plain = unicodedata.normalize("NFC", name.strip())
    if not plain or len(plain) > LONGEST_NAME:
        raise UsageError(f"A name has 1 to {LONGEST_NAME} characters.")
    if any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in plain):
        raise UsageError("A name is one line of text, without control characters.")
    return plain


def read_collections(connection: sa.Connection) -> list[Collection]:
    """List collections by name, each with the number of its items that can be found."""
    counts = dict(
        connection.execute(
            sa.select(CollectedItemRecord.collection_id, sa.func.count())
            .join(ItemRecord, ItemRecord.id == CollectedItemRecord.item_id)
            .join(FileRecord, FileRecord.id == ItemRecord.file_id)
            .where(CAN_BE_FOUND, ~sa.exists().where(HiddenItemRecord.item_id == ItemRecord.id))
            .group_by(CollectedItemRecord.collection_id)
        ).all()
    )
    query = sa.select(
        CollectionRecord.id, CollectionRecord.name, CollectionRecord.created_at
    ).order_by(CollectionRecord.folded)
    return [
        Collection(collection_id, name, created_at, counts.get(collection_id, 0))
        for collection_id, name, created_at in connection.execute(query)
    ]


def read_members(connection: sa.Connection, dialect: Dialect) -> ColumnFacet:
    """Read which items are in which collections, for facets."""
    query = sa.select(CollectionRecord.id, CollectionRecord.name).order_by(CollectionRecord.folded)
    names: dict[int, str] = dict(connection.execute(query).all())
    codes = {collection_id: code for code, collection_id in enumerate(names)}
    pair: tuple[Any, Any] = (CollectedItemRecord.collection_id, CollectedItemRecord.item_id)
    members = sa.select(*pair)
    pairs = [
        np.column_stack((item_ids, np.full(len(item_ids), codes[collection_id])))
        for collection_id, item_ids in dialect.read_groups(connection, members)
    ]
    nothing = np.empty((0, 2), np.int64)
    return ColumnFacet(list(names.values()), nothing, np.concatenate([nothing, *pairs]))


def id_of_collection(connection: sa.Connection, name: str) -> int:
    """Return the id of a collection; raises NotFoundError for an unknown name."""
    found = connection.scalar(
        sa.select(CollectionRecord.id).where(CollectionRecord.folded == folded_name(name))
    )
    if found is None:
        known = [one.name for one in read_collections(connection)][:20]
        there = f"There are: {', '.join(known)}." if known else "There are none yet."
        raise NotFoundError(f"There is no collection {name.strip()!r}. {there}")
    return int(found)


def create(connection: sa.Connection, name: str) -> int:
    """Create a collection and return its id; raises UsageError for a name that is taken."""
    plain = plain_name(name)
    _require_free(connection, plain)
    _require_room(connection, CollectionRecord)
    new_id = next_id(connection, CollectionRecord)
    connection.execute(
        sa.insert(CollectionRecord).values(
            id=new_id, name=plain, folded=folded_name(plain), created_at=int(time.time())
        )
    )
    return new_id


def rename(connection: sa.Connection, collection_id: int, name: str) -> None:
    """Give a collection another name; raises UsageError for one that is taken."""
    plain = plain_name(name)
    _require_free(connection, plain, but=collection_id)
    connection.execute(
        sa.update(CollectionRecord)
        .where(CollectionRecord.id == collection_id)
        .values(name=plain, folded=folded_name(plain))
    )


def delete(connection: sa.Connection, collection_id: int) -> None:
    """Delete a collection; its items stay in the library."""
    of_collection = CollectedItemRecord.collection_id == collection_id
    connection.execute(sa.delete(CollectedItemRecord).where(of_collection))
    connection.execute(sa.delete(CollectionRecord).where(CollectionRecord.id == collection_id))


def collect(connection: sa.Connection, collection_id: int, item_ids: Sequence[int]) -> int:
    """Add items at the end of a collection, in their order; returns how many were not in it.

    Raises NotFoundError for an unknown item; nothing is added then.
    """
    wanted = _existing(connection, item_ids)
    inside = _members(
        connection, CollectedItemRecord, wanted, CollectedItemRecord.collection_id == collection_id
    )
    new = [item_id for item_id in wanted if item_id not in inside]
    first = next_id(connection, CollectedItemRecord)
    if new:
        connection.execute(
            sa.insert(CollectedItemRecord),
            [
                {"id": first + place, "collection_id": collection_id, "item_id": item_id}
                for place, item_id in enumerate(new)
            ],
        )
    return len(new)


def uncollect(connection: sa.Connection, collection_id: int, item_ids: Sequence[int]) -> int:
    """Take items out of a collection; returns how many were in it."""
    return _delete_members(
        connection,
        CollectedItemRecord,
        item_ids,
        CollectedItemRecord.collection_id == collection_id,
    )


def hide(connection: sa.Connection, item_ids: Sequence[int]) -> int:
    """Hide items; returns how many were not hidden. Raises NotFoundError for an unknown one.

    The picture of a page and the passages on it are hidden together: each finds the page.
    """
    wanted = _with_their_pages(connection, _existing(connection, item_ids))
    hidden = _members(connection, HiddenItemRecord, wanted)
    new = [item_id for item_id in wanted if item_id not in hidden]
    if new:
        now = int(time.time())
        connection.execute(
            sa.insert(HiddenItemRecord), [{"item_id": i, "hidden_at": now} for i in new]
        )
    return len(new)


def unhide(connection: sa.Connection, item_ids: Sequence[int]) -> int:
    """Show hidden items again, with those of the same pages; returns how many were hidden."""
    wanted = _with_their_pages(connection, item_ids)
    return _delete_members(connection, HiddenItemRecord, wanted)


def read_saved(connection: sa.Connection) -> list[SavedSearch]:
    """List saved searches by name."""
    query = sa.select(
        SavedSearchRecord.id,
        SavedSearchRecord.name,
        SavedSearchRecord.query,
        SavedSearchRecord.created_at,
    ).order_by(SavedSearchRecord.folded)
    return [SavedSearch(*fields) for fields in connection.execute(query)]


def save(connection: sa.Connection, name: str, query: dict[str, Any]) -> SavedSearch:
    """Save a search under a name, in place of one that has it."""
    plain = plain_name(name)
    folded, now = folded_name(plain), int(time.time())
    known = connection.scalar(
        sa.select(SavedSearchRecord.id).where(SavedSearchRecord.folded == folded)
    )
    if known is None:
        _require_room(connection, SavedSearchRecord)
    else:
        connection.execute(sa.delete(SavedSearchRecord).where(SavedSearchRecord.id == known))
    saved = SavedSearch(known or next_id(connection, SavedSearchRecord), plain, query, now)
    connection.execute(
        sa.insert(SavedSearchRecord).values(
            id=saved.id, name=plain, folded=folded, query=query, created_at=now
        )
    )
    return saved


def delete_saved(connection: sa.Connection, saved_id: int) -> bool:
    """Delete a saved search; returns whether there was one."""
    deleted = connection.execute(
        sa.delete(SavedSearchRecord).where(SavedSearchRecord.id == saved_id)
    )
    return bool(deleted.rowcount)


def forget_items(connection: sa.Connection, item_ids: sa.Select[Any]) -> None:
    """Take items out of all collections, before they are deleted."""
    for record in _MEMBERS:
        connection.execute(sa.delete(record).where(record.item_id.in_(item_ids)))


def hand_over_to_copies(connection: sa.Connection) -> None:
    """Let items of files with the same content take the place of those of removed files.

    Of hidden ones only later items do, as those of a file that was moved: of two copies, the hidden
    one may have been deleted, and the other one is to stay.
    """
    copy, of_copy = sa.orm.aliased(FileRecord), sa.orm.aliased(ItemRecord)
    for record in _MEMBERS:
        query = (
            sa.select(record.item_id, sa.func.min(of_copy.id))
            .join(ItemRecord, ItemRecord.id == record.item_id)
            .join(FileRecord, FileRecord.id == ItemRecord.file_id)
            .join(
                copy,
                sa.and_(
                    copy.content_hash == FileRecord.content_hash,
                    copy.kind == FileRecord.kind,
                    copy.state == FileState.INDEXED,
                ),
            )
            .join(
                of_copy,
                sa.and_(
                    of_copy.file_id == copy.id,
                    of_copy.modality == ItemRecord.modality,
                    of_copy.part == ItemRecord.part,
                ),
            )
            .where(FileRecord.state == FileState.REMOVED)
            .group_by(record.item_id)
        )
        if record is HiddenItemRecord:
            query = query.where(of_copy.id > record.item_id)
        for item_id, copied_id in connection.execute(query).all():
            _replace(connection, record, item_id, copied_id)


def _replace(connection: sa.Connection, record: Any, item_id: int, by: int) -> None:
    """Put an item in the place of another one, where it has none of its own."""
    if record is HiddenItemRecord:
        taken = sa.select(HiddenItemRecord.item_id).where(HiddenItemRecord.item_id == by)
        is_free: sa.ColumnElement[bool] = ~taken.exists()
    else:
        others = sa.select(CollectedItemRecord.collection_id)
        in_others = others.where(CollectedItemRecord.item_id == by)
        is_free = CollectedItemRecord.collection_id.not_in(in_others)
    connection.execute(
        sa.update(record).where(record.item_id == item_id, is_free).values(item_id=by)
    )


def _require_free(connection: sa.Connection, name: str, *, but: int | None = None) -> None:
    query = sa.select(CollectionRecord.id).where(CollectionRecord.folded == folded_name(name))
    if connection.scalar(query) not in {None, but}:
        raise UsageError(f"There is a collection {name!r} already.")


def _require_room(connection: sa.Connection, record: Any) -> None:
    if (connection.scalar(sa.select(sa.func.count(record.id))) or 0) >= MOST_NAMED:
        raise UsageError(f"A library has at most {MOST_NAMED:,} of these. Delete one first.")


def _existing(connection: sa.Connection, item_ids: Sequence[int]) -> list[int]:
    """Return items once each, in their order; raises NotFoundError for one that is not there."""
    wanted = list(dict.fromkeys(item_ids))
    known = {
        item_id
        for chunk in chunks(wanted)
        for item_id in connection.scalars(sa.select(ItemRecord.id).where(ItemRecord.id.in_(chunk)))
    }
    for item_id in wanted:
        if item_id not in known:
            raise NotFoundError(f"There is no item {item_id}.")
    return wanted


def _with_their_pages(connection: sa.Connection, item_ids: Sequence[int]) -> list[int]:
    """Add to items all that lie on the same pages of their files, and what was found in them."""
    of_page = sa.orm.aliased(ItemRecord)
    query = sa.select(of_page.id).join(
        ItemRecord,
        sa.and_(ItemRecord.file_id == of_page.file_id, ItemRecord.page == of_page.page),
    )
    found = [
        item_id
        for chunk in chunks(list(item_ids))
        for item_id in connection.scalars(query.where(ItemRecord.id.in_(chunk)))
    ]
    return list(dict.fromkeys([*item_ids, *found, *_found_with(connection, item_ids)]))


def hide_with_origins(connection: sa.Connection, item_ids: Sequence[int]) -> None:
    """Hide those of some found texts whose pictures are hidden."""
    hidden = set()
    for chunk in chunks(_found_with(connection, item_ids)):
        hidden |= _members(connection, HiddenItemRecord, chunk)
    places = {place for _, place in _origins(connection, sorted(hidden))}
    known = _members(connection, HiddenItemRecord, item_ids)
    new = [i for i, place in _origins(connection, item_ids) if place in places and i not in known]
    if new:
        now = int(time.time())
        connection.execute(
            sa.insert(HiddenItemRecord), [{"item_id": i, "hidden_at": now} for i in new]
        )


def _found_with(connection: sa.Connection, item_ids: Sequence[int]) -> list[int]:
    """Return the pictures and the texts found in them, of which some items are one."""
    places = {place for _, place in _origins(connection, item_ids)}
    query = sa.select(ItemRecord.id, ItemRecord.file_id, ItemRecord.part).where(
        sa.or_(ItemRecord.modality == Modality.IMAGE, ItemRecord.part.like("%-%"))
    )
    return [
        item_id
        for chunk in chunks(sorted({file_id for file_id, _ in places}))
        for item_id, file_id, part in connection.execute(query.where(ItemRecord.file_id.in_(chunk)))
        if (file_id, picture_part(part)) in places
    ]


def _origins(
    connection: sa.Connection, item_ids: Sequence[int]
) -> list[tuple[int, tuple[int, str]]]:
    """List pictures and found texts by id, with the file and the part of the picture."""
    query = sa.select(ItemRecord.id, ItemRecord.file_id, ItemRecord.part).where(
        sa.or_(ItemRecord.modality == Modality.IMAGE, ItemRecord.part.like("%-%"))
    )
    return [
        (item_id, (file_id, picture_part(part)))
        for chunk in chunks(list(item_ids))
        for item_id, file_id, part in connection.execute(query.where(ItemRecord.id.in_(chunk)))
    ]


def _members(
    connection: sa.Connection,
    record: Any,
    item_ids: Sequence[int],
    *conditions: sa.ColumnElement[bool],
) -> set[int]:
    return {
        item_id
        for chunk in chunks(item_ids)
        for item_id in connection.scalars(
            sa.select(record.item_id).where(record.item_id.in_(chunk), *conditions)
        )
    }


def _delete_members(
    connection: sa.Connection,
    record: Any,
    item_ids: Iterable[int],
    *conditions: sa.ColumnElement[bool],
) -> int:
    return sum(
        connection.execute(sa.delete(record).where(record.item_id.in_(chunk), *conditions)).rowcount
        for chunk in chunks(list(item_ids))
    )
