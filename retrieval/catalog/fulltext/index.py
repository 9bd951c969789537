"""The full-text index: one document per file and one per item, updated with them.

A file's words are those of its name without its ending, of the folders from its source down, of its
embedded text, camera and place, and of what tables say of it; an item's are those of its chunk of
text and of its columns. Folders above a source hold everything, and so tell nothing apart. The
words of files that cannot be found stay, as such a file may return.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from retrieval.catalog import enrichments
from retrieval.catalog.dialects import dialect_of
from retrieval.catalog.fulltext.words import indexed, without_ending
from retrieval.catalog.records import FileState
from retrieval.catalog.schema import (
    FILE_WORDS,
    ITEM_WORDS,
    AnnotationRecord,
    FileRecord,
    ItemRecord,
    SourceRecord,
    at_or_below,
    chunks,
)

MOST_ANNOTATIONS = 100
"""Of what is said of a file, the first, whose words are indexed."""
_LONGEST_TEXT = 100_000
"""Characters of a field that are indexed; the rest is ignored."""
_FILES_AT_ONCE = 1000


class Folders:
    """The words of folders, from the outermost source that holds them down."""

    def __init__(self, sources: Iterable[str]) -> None:
        self._sources = frozenset(sources)
        self._known: dict[str, str] = {}

    def words(self, folder: str) -> str:
        """Return the words of a folder's path, with the source's own name; none outside sources."""
        if (known := self._known.get(folder)) is None:
            top, above = None, folder
            while True:
                if above in self._sources:
                    top = above
                above, below = os.path.dirname(above), above  # noqa: PTH120 - may not be valid text
                if above == below:
                    break
            start = 0 if top is None else len(top) - len(os.path.basename(top))  # noqa: PTH119
            known = self._known[folder] = "" if top is None else indexed(folder[start:])
        return known


def fill(connection: sa.Connection) -> None:
    """Index all files and items of a catalog whose text index is empty."""
    file_ids = connection.scalars(sa.select(FileRecord.id).order_by(FileRecord.id)).all()
    refresh_files(connection, file_ids, with_found=False)
    items = sa.select(ItemRecord.id, ItemRecord.text, ItemRecord.columns).where(
        sa.or_(ItemRecord.text.is_not(None), ItemRecord.columns.is_not(None))
    )
    for rows in connection.execute(items).partitions(_FILES_AT_ONCE):
        _insert(connection, ITEM_WORDS, ((row[0], *words_of_item(*row[1:])) for row in rows))


def refresh_files(
    connection: sa.Connection, file_ids: Iterable[int], *, with_found: bool = True
) -> None:
    """Replace the documents of some files.

    with_found: with what is said in them, but in none of their items; a migration has no table of
    it yet.
    """
    with_found = with_found and enrichments.exist(connection)
    folders = Folders(connection.scalars(sa.select(SourceRecord.path)))
    for chunk in chunks(sorted(set(file_ids)), _FILES_AT_ONCE):
        files = connection.execute(
            sa.select(
                FileRecord.id,
                FileRecord.path,
                FileRecord.text,
                FileRecord.camera,
                FileRecord.place,
            ).where(FileRecord.id.in_(chunk))
        ).all()
        annotations = _annotations_of(connection, [file.path for file in files])
        heard = enrichments.texts_of_files(connection, chunk) if with_found else {}
        _forget(connection, FILE_WORDS, chunk)
        _insert(
            connection,
            FILE_WORDS,
            (
                (
                    file.id,
                    *words_of_file(
                        file.path,
                        "\n".join(filter(None, [file.text, *heard.get(file.id, ())])),
                        file.camera,
                        file.place,
                        annotations.get(file.path, ()),
                        folders,
                    ),
                )
                for file in files
            ),
        )


def refresh_files_below(connection: sa.Connection, root: str) -> None:
    """Replace the documents of the files at or below a path, as that of a new source."""
    files = connection.scalars(sa.select(FileRecord.id).where(at_or_below(root))).all()
    refresh_files(connection, files)


def refresh_items(
    connection: sa.Connection, items: Mapping[int, tuple[str | None, dict[str, Any] | None]]
) -> None:
    """Replace the documents of some items, given their texts and columns by id.

    What was found in their pictures, and is said while they last, is among their words.
    """
    has_found = enrichments.exist(connection)
    for chunk in chunks(list(items)):
        found = enrichments.texts_of_items(connection, chunk) if has_found else {}
        _forget(connection, ITEM_WORDS, chunk)
        _insert(
            connection,
            ITEM_WORDS,
            ((i, *words_of_item(*items[i], found=found.get(i, ()))) for i in chunk),
        )


def refresh_known_items(connection: sa.Connection, item_ids: Sequence[int]) -> None:
    """Replace the documents of some items, by what the catalog has of them."""
    query = sa.select(ItemRecord.id, ItemRecord.text, ItemRecord.columns)
    for chunk in chunks(item_ids):
        found = connection.execute(query.where(ItemRecord.id.in_(chunk)))
        refresh_items(connection, {i: (text, columns) for i, text, columns in found})


def forget_files(connection: sa.Connection, file_ids: Iterable[int]) -> None:
    """Delete the documents of files."""
    for chunk in chunks(list(file_ids)):
        _forget(connection, FILE_WORDS, chunk)


def forget_items(connection: sa.Connection, item_ids: sa.Select[Any]) -> None:
    """Delete the documents of items before they are deleted, as ids may be used again."""
    connection.execute(sa.delete(ITEM_WORDS).where(ITEM_WORDS.c.rowid.in_(item_ids)))


def annotated_files(connection: sa.Connection, tables: Sequence[str]) -> set[int]:
    """Return the ids of the files that some tables annotate."""
    table = aliased(FileRecord)
    query = (
        sa.select(FileRecord.id)
        .join(AnnotationRecord, AnnotationRecord.image_path == FileRecord.path)
        .join(table, table.id == AnnotationRecord.file_id)
    )
    return {
        file_id
        for chunk in chunks(tables)
        for file_id in connection.scalars(query.where(table.path.in_(chunk)))
    }


def _annotations_of(
    connection: sa.Connection, paths: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    table = aliased(FileRecord)
    query = (
        sa.select(AnnotationRecord.image_path, AnnotationRecord.columns)
        .join(table, table.id == AnnotationRecord.file_id)
        .where(AnnotationRecord.image_path.in_(paths), table.state == FileState.INDEXED)
        .order_by(AnnotationRecord.id)
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for path, columns in connection.execute(query):
        annotations = found.setdefault(path, [])
        if len(annotations) < MOST_ANNOTATIONS:
            annotations.append(columns)
    return found


def words_of_file(
    path: str,
    text: str | None,
    camera: str | None,
    place: str | None,
    annotations: Iterable[dict[str, Any]],
    folders: Folders,
) -> tuple[str, ...]:
    """Return the words of a file for each column of `FILE_WORDS`, separated by spaces."""
    folder, name = os.path.split(path)
    known = (
        _texts_in(annotations),
        [text or ""],
        [camera or "", place or ""],
        [without_ending(name)],
    )
    return *map(_words, known), folders.words(folder)


def words_of_item(
    text: str | None, columns: dict[str, Any] | None, found: Iterable[str] = ()
) -> tuple[str, ...]:
    """Return the words of an item for each column of `ITEM_WORDS`, separated by spaces.

    found: what was found in it.
    """
    return _words([text or "", *found]), _words(_texts_in(columns))


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from chain.from_iterable(map(_texts_in, value.values()))
    elif isinstance(value, list | tuple):
        yield from chain.from_iterable(map(_texts_in, value))


def _words(texts: Iterable[str]) -> str:
    return indexed("\n".join(texts)[:_LONGEST_TEXT])


def _forget(connection: sa.Connection, table: sa.TableClause, ids: Sequence[int]) -> None:
    connection.execute(sa.delete(table).where(table.c.rowid.in_(ids)))


def _insert(
    connection: sa.Connection, table: sa.TableClause, documents: Iterable[tuple[Any, ...]]
) -> None:
    rows = (document for document in documents if any(document[1:]))
    dialect_of(connection).insert_rows(connection, table, table.c.keys(), rows)
