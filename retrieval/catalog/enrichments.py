"""What recognisers found: texts of pictures by their content, of files by theirs.

A picture is looked at once, whatever copies there are and wherever they move. What it says becomes
words of its items (`retrieval.catalog.fulltext.index`) and items of their own, one a chunk, in each
space that has vectors of texts.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from retrieval.catalog.records import (
    Enrichment,
    EnrichmentCounts,
    FileState,
    Item,
    found_part,
)
from retrieval.catalog.schema import (
    CAN_BE_FOUND,
    CURRENT,
    EnrichmentRecord,
    FileRecord,
    ItemRecord,
    RowRecord,
    chunks,
    item_of,
    select_items,
)
from retrieval.media import MediaKind, Modality
from retrieval.recognition.base import Recognized, Segment, Task

_KEYS_AT_ONCE = 1000
_HASH_LENGTH = 32
"""Characters of a content hash: XXH3 of 128 bits."""
_STATE = "\t"
"""Between a model's identity and the state of the subtitles that were there, where these were."""
_GIVEN = "given-"
"""Begins the content hashes of items of no file; an XXH3 follows."""
_OF_PICTURES = [task for task in Task if task.is_of_pictures]

OF_SOUND = ("video", "audio")
"""Kinds of the files that are heard."""
_WITHOUT_PAGES = (MediaKind.IMAGE, MediaKind.VIDEO)
"""Kinds of the files whose pictures get captions: nobody asks what a page of text shows."""

PICTURE_KEY = sa.case(
    (ItemRecord.part == "", FileRecord.content_hash),
    else_=FileRecord.content_hash + "-" + ItemRecord.part,
)
"""`Item.picture_key` of an image, a frame or a page; join items and files outside."""


def exist(connection: sa.Connection) -> bool:
    """Return whether anything was recognised at all."""
    return connection.scalar(sa.select(EnrichmentRecord.key).limit(1)) is not None


def read(connection: sa.Connection, task: Task, keys: Iterable[str]) -> dict[str, Enrichment]:
    """Return what is known of some pictures or files, by key."""
    query = sa.select(
        EnrichmentRecord.key,
        EnrichmentRecord.model,
        EnrichmentRecord.segments,
        EnrichmentRecord.failure,
    ).where(EnrichmentRecord.task == task)
    return {
        key: Enrichment(task, key, model.partition(_STATE)[0], _segments(segments), failure)
        for chunk in chunks(sorted(set(keys)), _KEYS_AT_ONCE)
        for key, model, segments, failure in connection.execute(
            query.where(EnrichmentRecord.key.in_(chunk))
        )
    }


def of_item(connection: sa.Connection, item: Item) -> list[Enrichment]:
    """List what was found in an item's picture, and what is said in its file."""
    found: list[Enrichment] = []
    for task in Task:
        key = item.content_hash
        if task.is_of_pictures:
            part = item.origin_part
            key = f"{key}-{part}" if part else key
        found += read(connection, task, [key]).values()
    return found


def count(connection: sa.Connection, task: Task) -> EnrichmentCounts:
    """Count the pictures or files that a task has looked at, of files that can be found."""
    of_task = sa.and_(
        EnrichmentRecord.task == task,
        sa.exists()
        .where(CAN_BE_FOUND, FileRecord.content_hash == _HASH)
        .correlate(EnrichmentRecord),
    )
    looked_at, with_text, failed = connection.execute(
        sa.select(
            sa.func.count(),
            sa.func.count(EnrichmentRecord.text),
            sa.func.count(EnrichmentRecord.failure),
        ).where(of_task)
    ).one()
    models = connection.scalars(
        sa.select(EnrichmentRecord.model).distinct().where(EnrichmentRecord.task == task)
    )
    names = {model.partition(_STATE)[0] for model in models}
    return EnrichmentCounts(looked_at, with_text, failed, sorted(names))


def subtitle_states(connection: sa.Connection) -> list[tuple[str, str, str]]:
    """List path, content hash and state of subtitles of what was heard; see `Snapshot`."""
    query = (
        sa.select(FileRecord.path, FileRecord.content_hash, EnrichmentRecord.model)
        .join(EnrichmentRecord, EnrichmentRecord.key == FileRecord.content_hash)
        .where(EnrichmentRecord.task == Task.SPEECH, _is_heard())
        .order_by(FileRecord.path)
    )
    return [
        (path, digest or "", model.partition(_STATE)[2])
        for path, digest, model in connection.execute(query)
    ]


_HASH = sa.case(
    (
        EnrichmentRecord.key.like(f"{_GIVEN}%"),
        sa.func.substr(EnrichmentRecord.key, 1, len(_GIVEN) + _HASH_LENGTH),
    ),
    else_=sa.func.substr(EnrichmentRecord.key, 1, _HASH_LENGTH),
)
"""The content hash that a key begins with: an expression that an index of files is used for."""


def missing_pictures(
    connection: sa.Connection,
    space_id: str,
    task: Task,
    *,
    model: str | None,
    retry_failed: bool,
    after: int,
    limit: int,
) -> list[Item]:
    """List pictures of a space that a task has not looked at, by id; see `Snapshot`."""
    query = _pictures(select_items(), space_id, task).where(
        RowRecord.item_id > after, _is_missing(task, PICTURE_KEY, model, retry_failed)
    )
    # By the index of rows, which is in this order.
    found = connection.execute(query.order_by(RowRecord.item_id).limit(limit))
    return [item_of(fields) for fields in found]


def missing_files(
    connection: sa.Connection,
    task: Task,
    *,
    model: str | None,
    retry_failed: bool,
    after: str,
    limit: int,
) -> list[tuple[str, str, str, int, int]]:
    """List path, kind, hash, size and mtime of files that a task has not heard, by path."""
    query = sa.select(
        FileRecord.path,
        FileRecord.kind,
        FileRecord.content_hash,
        FileRecord.size,
        FileRecord.mtime_ns,
    ).where(
        _is_heard(),
        FileRecord.path > after,
        _is_missing(task, FileRecord.content_hash, model, retry_failed),
    )
    rows = connection.execute(query.order_by(FileRecord.path).limit(limit))
    return [(path, kind, digest or "", size, mtime) for path, kind, digest, size, mtime in rows]


def count_missing(
    connection: sa.Connection, space_id: str, task: Task, model: str | None, retry_failed: bool
) -> int:
    """Count the distinct pictures or contents of files that a task has not looked at."""
    if task.is_of_pictures:
        keys = _pictures(
            sa.select(PICTURE_KEY)
            .distinct()
            .join_from(ItemRecord, FileRecord, FileRecord.id == ItemRecord.file_id),
            space_id,
            task,
        ).where(_is_missing(task, PICTURE_KEY, model, retry_failed))
    else:
        keys = (
            sa.select(FileRecord.content_hash)
            .distinct()
            .where(_is_heard(), _is_missing(task, FileRecord.content_hash, model, retry_failed))
        )
    return connection.scalar(sa.select(sa.func.count()).select_from(keys.subquery())) or 0


def without_passages(
    connection: sa.Connection, space_id: str, task: Task, *, after: int, limit: int
) -> list[tuple[int, Item | None, str, str, list[Segment]]]:
    """List found texts that are no items of a space yet; see `Snapshot.without_passages`."""
    if task.is_of_pictures:
        query = _pictures(select_items(FileRecord.id, EnrichmentRecord.segments), space_id, task)
        query = query.join(
            EnrichmentRecord,
            sa.and_(EnrichmentRecord.task == task, EnrichmentRecord.key == PICTURE_KEY),
        ).where(
            RowRecord.item_id > after,
            EnrichmentRecord.text.is_not(None),
            ~_has_passages(space_id, task, ItemRecord.part),
        )
        found = connection.execute(query.order_by(RowRecord.item_id).limit(limit))
        return [
            (item.id, item, item.path, item.content_hash, _segments(segments))
            for _, segments, *fields in found
            for item in [item_of(fields)]
        ]
    heard = (
        sa.select(
            FileRecord.id, FileRecord.path, FileRecord.content_hash, EnrichmentRecord.segments
        )
        .join(
            EnrichmentRecord,
            sa.and_(EnrichmentRecord.task == task, EnrichmentRecord.key == FileRecord.content_hash),
        )
        .where(
            _is_heard(),
            FileRecord.id > after,
            EnrichmentRecord.text.is_not(None),
            ~_has_passages(space_id, task, sa.literal("")),
        )
    )
    return [
        (file_id, None, path, digest, _segments(segments))
        for file_id, path, digest, segments in connection.execute(
            heard.order_by(FileRecord.id).limit(limit)
        )
    ]


def record(
    connection: sa.Connection,
    task: Task,
    model: str,
    found: Mapping[str, Recognized],
    subtitles: str = "",
) -> None:
    """Record what a recogniser found, by key, in place of what is known."""
    model = f"{model}{_STATE}{subtitles}" if subtitles else model
    for chunk in chunks(sorted(found), _KEYS_AT_ONCE):
        connection.execute(
            sa.delete(EnrichmentRecord).where(
                EnrichmentRecord.task == task, EnrichmentRecord.key.in_(chunk)
            )
        )
        connection.execute(
            sa.insert(EnrichmentRecord),
            [
                {
                    "task": task,
                    "key": key,
                    "model": model,
                    "text": found[key].text,
                    "segments": [_sparse(segment) for segment in found[key].segments],
                    "failure": found[key].failure,
                }
                for key in chunk
            ],
        )


def forget(connection: sa.Connection, task: Task) -> None:
    """Delete all that a task found."""
    connection.execute(sa.delete(EnrichmentRecord).where(EnrichmentRecord.task == task))


def forget_unused(connection: sa.Connection) -> int:
    """Delete what was found in contents that no file has; returns of how many."""
    used = sa.exists().where(FileRecord.content_hash == _HASH).correlate(EnrichmentRecord)
    return connection.execute(sa.delete(EnrichmentRecord).where(~used)).rowcount


def items_of_keys(connection: sa.Connection, keys: Iterable[str]) -> list[int]:
    """Return the ids of the pictures with some keys, of every file that the library knows."""
    contents: dict[str, set[str]] = {}
    for key in keys:
        content, _, part = key.partition("-") if not key.startswith(_GIVEN) else (key, "", "")
        contents.setdefault(content, set()).add(part)
    query = (
        sa.select(ItemRecord.id, FileRecord.content_hash, ItemRecord.part)
        .join(FileRecord, FileRecord.id == ItemRecord.file_id)
        .where(ItemRecord.modality == Modality.IMAGE)
    )
    return [
        item_id
        for chunk in chunks(sorted(contents), _KEYS_AT_ONCE)
        for item_id, content, part in connection.execute(
            query.where(FileRecord.content_hash.in_(chunk))
        )
        if content is not None and part in contents[content]
    ]


def files_of_contents(connection: sa.Connection, contents: Iterable[str]) -> list[int]:
    """Return the ids of the files with some contents."""
    return [
        file_id
        for chunk in chunks(sorted(set(contents)), _KEYS_AT_ONCE)
        for file_id in connection.scalars(
            sa.select(FileRecord.id).where(FileRecord.content_hash.in_(chunk))
        )
    ]


def passages_of(task: Task, origin: Any, part: Any = None) -> sa.ColumnElement[bool]:
    """Match the found texts of an origin by their part.

    origin: the part of the origin. part: the column; None: that of items.
    """
    column = ItemRecord.part if part is None else part
    return sa.and_(column.like(origin + found_part("", task, 0)[:-1] + "%"))


def texts_of_items(connection: sa.Connection, item_ids: Sequence[int]) -> dict[int, list[str]]:
    """Return what was found in the pictures of some items, and what is said while they last."""
    query = (
        sa.select(ItemRecord.id, EnrichmentRecord.text)
        .join_from(ItemRecord, FileRecord, FileRecord.id == ItemRecord.file_id)
        .join(EnrichmentRecord, EnrichmentRecord.key == PICTURE_KEY)
        .where(
            ItemRecord.modality == Modality.IMAGE,
            EnrichmentRecord.task.in_(_OF_PICTURES),  # not `!=`, which uses no index
            EnrichmentRecord.text.is_not(None),
        )
        .order_by(ItemRecord.id, EnrichmentRecord.task)
    )
    files = sa.select(ItemRecord.file_id).distinct().where(_LASTS)
    found: dict[int, list[str]] = {}
    for chunk in chunks(item_ids):
        for item_id, text in connection.execute(query.where(ItemRecord.id.in_(chunk))):
            found.setdefault(item_id, []).append(text or "")
        of_chunk = connection.scalars(files.where(ItemRecord.id.in_(chunk))).all()
        said, _ = _spoken(connection, of_chunk)
        for item_id in said.keys() & set(chunk):
            found.setdefault(item_id, []).extend(said[item_id])
    return found


def texts_of_files(connection: sa.Connection, file_ids: Sequence[int]) -> dict[int, list[str]]:
    """Return what is said in some files while none of their items lasts, by id."""
    return _spoken(connection, file_ids)[1]


def lasting_items(connection: sa.Connection, file_ids: Sequence[int]) -> list[int]:
    """Return the ids of the shots and windows of sound of some files."""
    return [
        item_id
        for chunk in chunks(file_ids)
        for item_id in connection.scalars(
            sa.select(ItemRecord.id).where(_LASTS, ItemRecord.file_id.in_(chunk))
        )
    ]


_LASTS = sa.and_(ItemRecord.modality != Modality.TEXT, ItemRecord.start_s.is_not(None))
"""Of an item: it is a shot, or a window of sound."""


def _spoken(
    connection: sa.Connection, file_ids: Sequence[int]
) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """Return the lines that begin while each item of some files lasts, by the item's id.

    And by the file's id those that begin in none of its items, or have no times.
    """
    heard = (
        sa.select(FileRecord.id, EnrichmentRecord.segments)
        .join(EnrichmentRecord, EnrichmentRecord.key == FileRecord.content_hash)
        .where(EnrichmentRecord.task == Task.SPEECH, EnrichmentRecord.text.is_not(None))
    )
    lasting = sa.select(
        ItemRecord.file_id, ItemRecord.id, ItemRecord.start_s, ItemRecord.end_s
    ).where(_LASTS)
    of_items: dict[int, list[str]] = {}
    rest: dict[int, list[str]] = {}
    for chunk in chunks(file_ids, _KEYS_AT_ONCE):
        lines: dict[int, list[Segment]] = {}
        for file_id, told in connection.execute(heard.where(FileRecord.id.in_(chunk))):
            timed = [line for line in _segments(told) if line.start_s is not None]
            lines[file_id] = sorted(timed, key=_start_of)
            if untimed := [line.text for line in _segments(told) if line.start_s is None]:
                rest[file_id] = untimed
        if not lines:
            continue
        taken: dict[int, set[int]] = {file_id: set() for file_id in lines}
        for file_id, item_id, start, end in connection.execute(
            lasting.where(ItemRecord.file_id.in_(sorted(lines)))
        ):
            said = lines[file_id]
            first = bisect_left(said, start or 0.0, key=_start_of)
            past = len(said) if end is None else bisect_left(said, end, key=_start_of)
            if first < past:
                of_items[item_id] = [line.text for line in said[first:past]]
                taken[file_id].update(range(first, past))
        for file_id, said in lines.items():
            if left := [line.text for n, line in enumerate(said) if n not in taken[file_id]]:
                rest.setdefault(file_id, []).extend(left)
    return of_items, rest


def _start_of(line: Segment) -> float:
    return line.start_s or 0.0


def _pictures(query: sa.Select[Any], space_id: str, task: Task) -> sa.Select[Any]:
    """Keep the pictures that a task looks at, of those that a search in a space can find."""
    query = query.join(
        RowRecord, sa.and_(RowRecord.item_id == ItemRecord.id, RowRecord.space_id == space_id)
    ).where(CURRENT, ItemRecord.modality == Modality.IMAGE)
    if task is Task.CAPTION:
        return query.where(FileRecord.kind.in_(_WITHOUT_PAGES))
    # A page with a text of its own is not recognised again.
    own = aliased(ItemRecord)
    has_text = sa.exists().where(
        own.file_id == ItemRecord.file_id,
        own.modality == Modality.TEXT,
        own.page == ItemRecord.page,
        own.part.not_like("%-%"),
    )
    return query.where(sa.or_(ItemRecord.page.is_(None), ~has_text))


def _is_heard() -> sa.ColumnElement[bool]:
    return sa.and_(
        FileRecord.state == FileState.INDEXED,
        FileRecord.kind.in_(OF_SOUND),
        FileRecord.content_hash.is_not(None),
    )


def _is_missing(
    task: Task, key: Any, model: str | None, retry_failed: bool
) -> sa.ColumnElement[bool]:
    """Match what a task has not looked at. model: or what another model has."""
    known = [EnrichmentRecord.task == task, EnrichmentRecord.key == key]
    if model is not None:
        with_state = EnrichmentRecord.model.startswith(model + _STATE, autoescape=True)
        known.append(sa.or_(EnrichmentRecord.model == model, with_state))
    if retry_failed:
        known.append(EnrichmentRecord.failure.is_(None))
    return ~sa.exists().where(*known).correlate(ItemRecord, FileRecord)


def _has_passages(space_id: str, task: Task, origin: Any) -> sa.Exists:
    """Match what has items of its texts in a space; join files outside."""
    passage, row = aliased(ItemRecord), aliased(RowRecord)
    return (
        sa.exists()
        .where(
            passage.file_id == FileRecord.id,
            passage.modality == Modality.TEXT,
            passages_of(task, origin, passage.part),
            row.item_id == passage.id,
            row.space_id == space_id,
            row.content_hash == FileRecord.content_hash,
        )
        .correlate(ItemRecord, FileRecord)
    )


def _segments(told: Any) -> list[Segment]:
    if not isinstance(told, list):
        raise TypeError(f"segments {told!r:.40}")
    return [Segment.from_json(one) for one in told]


def _sparse(segment: Segment) -> dict[str, Any]:
    return {name: value for name, value in segment.to_json().items() if value is not None}
