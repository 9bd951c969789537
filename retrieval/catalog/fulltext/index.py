"""The full-text index: its words, and one document per file and one per item, updated with them.

Words are compared in either case and without accents (NFKC, case folding, then without the marks of
Latin, Greek and Cyrillic letters, Hebrew points and Arabic vowel signs). Where a script puts no
spaces between words, or puts particles onto them, as Hangul, each character is a word of the index,
and a run of them is asked for as a phrase.

A file's words are those of its path, of its embedded text, camera and place, and of what tables say
of it; an item's are those of its chunk of text and of its columns. The words of files that cannot
be found stay, as such a file may return.
"""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import regex
import sqlalchemy as sa
from sqlalchemy.orm import aliased

from retrieval.catalog.records import FileState
from retrieval.catalog.schema import AnnotationRecord, FileRecord, ItemRecord, chunks

FILE_WORDS = sa.table(
    "file_words", *map(sa.column, ("rowid", "said", "described", "camera", "name", "folders"))
)
ITEM_WORDS = sa.table("item_words", *map(sa.column, ("rowid", "passage", "columns")))

WEIGHTS = {FILE_WORDS.name: (4.0, 3.0, 1.0, 1.5, 0.5), ITEM_WORDS.name: (4.0, 1.0)}
"""Of the columns: what a person wrote of a picture says more than the name of its folder."""

_MOST_ANNOTATIONS = 100
_LONGEST_TEXT = 100_000
"""Characters of a field that are indexed; the rest is ignored."""
_FILES_AT_ONCE = 1000

MOST_TERMS = 64
"""Maximum terms of a query, and phrases of a term; the rest is ignored."""


class Phrase(NamedTuple):
    """Words that follow each other, separated by spaces; is_prefix: the last may go on."""

    words: str
    is_prefix: bool = False


Term = tuple[Phrase, ...]
"""Phrases one of which a document must hold. Their words are letters, marks and digits."""

_LONGEST_WORD = 64
_SHORTEST_PREFIX = 3

_SYLLABLES = r"\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Bopomofo}\p{scx=Hangul}"
_LETTERS = r"\p{scx=Thai}\p{scx=Lao}\p{scx=Khmer}\p{scx=Myanmar}\p{scx=Tibetan}"
_RUN = regex.compile(
    rf"(?P<syllables>(?:[[{_SYLLABLES}]&&[\p{{L}}\p{{N}}]]\p{{M}}*)+)"
    rf"|(?P<letters>(?:[[{_LETTERS}]&&\p{{L}}]\p{{M}}*)+)"
    rf"|(?P<spaced>[[\p{{L}}\p{{M}}\p{{N}}]--[[{_SYLLABLES}{_LETTERS}]&&\p{{L}}]]+)",
    regex.VERSION1,
)
_ASCII_WORD = re.compile("[A-Za-z0-9]+")
_CHARACTER = regex.compile(r"[\p{L}\p{N}]\p{M}*")
_PIECE = regex.compile(r"\p{N}+|\p{Lu}+(?!\p{Ll})|\p{Lu}?[^\p{Lu}\p{N}]+")
"""Of `HTMLPage2`: `HTML`, `Page` and `2`."""
_MARKS = regex.compile("[\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u0640\u064b-\u065f\u0670]+")

_GRAM = {"syllables": 2, "letters": 4}
"""Characters that make about a word."""


def indexed(text: str) -> str:
    """Join the words of a text with spaces, for a tokenizer that only splits there.

    A compound such as `beach2019` or `iPhone` is followed by its pieces.
    """
    words: list[str] = []
    for script, pieces in _runs(text):
        if script == "spaced" and len(pieces) > 1:
            words.append("".join(pieces)[:_LONGEST_WORD])
        words += pieces
    return " ".join(words)


def terms(text: str, *, all_words: bool) -> list[Term]:
    """Split a query into the terms to search for.

    A compound is asked for as it is and as its pieces, a run of a script without spaces as a
    phrase. Unless all words must be found, the parts of such a run are asked for, too, and the last
    word may go on, where it has three characters and nothing follows it.
    """
    found: dict[Term, None] = {}
    runs = list(_runs(text))
    is_unfinished = bool(text) and bool(_RUN.fullmatch(unicodedata.normalize("NFKC", text[-1])))
    for place, (script, pieces) in enumerate(runs):
        wanted = [Phrase(" ".join(pieces))]
        if script == "spaced":
            word = "".join(pieces)[:_LONGEST_WORD]
            if len(pieces) > 1:
                wanted.insert(0, Phrase(word))
            may_go_on = is_unfinished and not all_words and place == len(runs) - 1
            if may_go_on and len(word) >= _SHORTEST_PREFIX:
                wanted.append(Phrase(word, is_prefix=True))
        elif not all_words:
            size = _GRAM[script]
            starts = range(len(pieces) - size + 1) if len(pieces) > size else ()
            wanted += [Phrase(" ".join(pieces[start : start + size])) for start in starts]
        found[tuple(wanted[:MOST_TERMS])] = None
    return list(found)[:MOST_TERMS]


def _runs(text: str) -> Iterator[tuple[str, list[str]]]:
    """Words with their pieces, and runs of scripts without spaces with their characters."""
    if text.isascii():  # most texts, in a fraction of the time
        for word in _ASCII_WORD.findall(text):
            is_plain = word.islower() and word.isalpha()
            parts = [word] if is_plain else _PIECE.findall(word)
            yield "spaced", [part.lower()[:_LONGEST_WORD] for part in parts]
        return
    for run in _RUN.finditer(unicodedata.normalize("NFKC", text)):
        script = str(run.lastgroup)
        parts = (_PIECE if script == "spaced" else _CHARACTER).findall(run[0])
        if pieces := [piece for part in parts if (piece := _folded(part))]:
            yield script, pieces


def _folded(word: str) -> str:
    bare = _MARKS.sub("", unicodedata.normalize("NFD", word.casefold()))
    return unicodedata.normalize("NFC", bare)[:_LONGEST_WORD]


def fill(connection: sa.Connection, *, with_places: bool = True) -> None:
    """Index all files and items of a catalog that has no text index yet.

    with_places: False for a catalog of before revision 0006, which knows no places.
    """
    file_ids = connection.scalars(sa.select(FileRecord.id).order_by(FileRecord.id)).all()
    refresh_files(connection, file_ids, with_places=with_places)
    items = sa.select(ItemRecord.id, ItemRecord.text, ItemRecord.columns).where(
        sa.or_(ItemRecord.text.is_not(None), ItemRecord.columns.is_not(None))
    )
    for rows in connection.execute(items).partitions(_FILES_AT_ONCE):
        _insert(connection, ITEM_WORDS, (_of_item(*row) for row in rows))


def refresh_files(
    connection: sa.Connection, file_ids: Iterable[int], *, with_places: bool = True
) -> None:
    """Replace the documents of some files. with_places: as for `fill`."""
    place = FileRecord.place if with_places else sa.null()
    for chunk in chunks(sorted(set(file_ids)), _FILES_AT_ONCE):
        files = connection.execute(
            sa.select(
                FileRecord.id, FileRecord.path, FileRecord.text, FileRecord.camera, place
            ).where(FileRecord.id.in_(chunk))
        ).all()
        annotations = _annotations_of(connection, [file.path for file in files])
        _forget(connection, FILE_WORDS, chunk)
        _insert(
            connection,
            FILE_WORDS,
            (_of_file(*file, annotations.get(file.path, ())) for file in files),
        )


def refresh_items(
    connection: sa.Connection, items: Mapping[int, tuple[str | None, dict[str, Any] | None]]
) -> None:
    """Replace the documents of some items, given their texts and columns by id."""
    for chunk in chunks(list(items)):
        _forget(connection, ITEM_WORDS, chunk)
        _insert(connection, ITEM_WORDS, (_of_item(item_id, *items[item_id]) for item_id in chunk))


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
        if len(annotations) < _MOST_ANNOTATIONS:
            annotations.append(columns)
    return found


def _of_file(
    file_id: int,
    path: str,
    text: str | None,
    camera: str | None,
    place: str | None,
    annotations: Iterable[dict[str, Any]],
) -> tuple[Any, ...]:
    folders, name = os.path.split(path)
    words = map(_words, (_texts_in(annotations), [text or ""], [camera or "", place or ""], [name]))
    return file_id, *words, _words_of_folders(folders)


def _of_item(item_id: int, text: str | None, columns: dict[str, Any] | None) -> tuple[Any, ...]:
    return item_id, _words([text or ""]), _words(_texts_in(columns))


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from chain.from_iterable(map(_texts_in, value.values()))
    elif isinstance(value, list | tuple):
        yield from chain.from_iterable(map(_texts_in, value))


def _words(texts: Iterable[str]) -> str:
    return indexed("\n".join(texts)[:_LONGEST_TEXT])


@lru_cache(maxsize=1024)
def _words_of_folders(folders: str) -> str:
    return indexed(folders)


def _forget(connection: sa.Connection, table: sa.TableClause, ids: Sequence[int]) -> None:
    connection.execute(sa.delete(table).where(table.c.rowid.in_(ids)))


def _insert(
    connection: sa.Connection, table: sa.TableClause, documents: Iterable[tuple[Any, ...]]
) -> None:
    names = table.c.keys()
    if wanted := [dict(zip(names, d, strict=True)) for d in documents if any(d[1:])]:
        connection.execute(sa.insert(table), wanted)
