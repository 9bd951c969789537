"""Search a table for words, with the scores that a catalog gives (`catalog.fulltext.search`).

The full-text index names the rows that may hold a word; the words of a row are split again as the
catalog does, by file and by item, and counted here. A word that more rows hold than are read is
counted by its rows; the mean length of documents is that of a sample of the table.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import log
from typing import Any, TypeVar

import cachetools

from retrieval.catalog.fulltext.index import MOST_ANNOTATIONS, Folders, words_of_file, words_of_item
from retrieval.catalog.fulltext.search import Place, TextSearch
from retrieval.catalog.fulltext.words import Phrase, Term, terms
from retrieval.catalog.records import WordMatch
from retrieval.catalog.schema import FILE_WORDS, WEIGHTS, chunks
from retrieval.filters import Filter
from retrieval.lance.predicates import all_of, literal, one_of
from retrieval.lance.records import item_id_of, row_id_of, said_in
from retrieval.lance.snapshot import IS_READ, LanceSnapshot, path_of, rows_in
from retrieval.lance.table import ROW_ID
from retrieval.media import Modality

_MOST_READ = 20_000
"""Rows of a word that are read; the telling ones of a query are in fewer."""
_MOST_KNOWN = 50_000
_MOST_PHRASES = 100
"""Phrases whose rows are remembered, up to 0.7 MB each."""
_AT_ONCE = 5_000
_SAMPLE = 2_000
_K1, _B = 1.2, 0.75
"""Of BM25, as SQLite has them."""
_LEAST_IDF = 1e-6

_Score = TypeVar("_Score", float, tuple[float, float])

_COLUMNS = (
    *("path", "path_bytes", "file_key", "described", "camera", "place", "said", "text", "columns"),
    ROW_ID,
)


def text_matches(
    snapshot: LanceSnapshot, modality: Modality, text: str, limit: int, where: Filter | None
) -> list[tuple[int, float]]:
    """Find the rows of items that hold words of a text, and their scores, best first."""
    asked = terms(text)
    if not asked or limit < 1:
        return []
    search = _search(snapshot, modality, where)
    found = search.with_copies(dict(search.best(asked, limit)))
    return sorted(found.items(), key=lambda one: (-one[1], one[0]))


def telling_matches(
    snapshot: LanceSnapshot, modality: Modality, text: str, where: Filter | None
) -> list[WordMatch]:
    """Find the rows of items that hold telling words of a text, in no order."""
    asked = terms(text)
    if not asked:
        return []
    search = _search(snapshot, modality, where)
    found = search.with_copies({one.row: (one.share, one.score) for one in search.telling(asked)})
    return [WordMatch(row, score, share) for row, (share, score) in found.items()]


@dataclass(frozen=True, slots=True)
class _Document:
    """What a row holds: the words of its file and its own, by the columns of a catalog's index."""

    row: int
    file_key: str
    of_file: tuple[str, ...]
    of_item: tuple[str, ...]


class _Table:
    """The documents of a version of a table, read when they are asked for."""

    def __init__(self, snapshot: LanceSnapshot) -> None:
        self._snapshot = snapshot
        self._known: cachetools.LRUCache[int, _Document] = cachetools.LRUCache(_MOST_KNOWN)
        self._rows: cachetools.LRUCache[Phrase, tuple[int, ...]] = cachetools.LRUCache(
            _MOST_PHRASES
        )
        self._file_ids: dict[str, int] = {}
        self._file_keys: list[str] = []
        self._folders = Folders(snapshot.sources())

    def file_id(self, file_key: str) -> int:
        """Number a file, in the order in which files are met."""
        if (known := self._file_ids.get(file_key)) is None:
            self._file_keys.append(file_key)
            known = self._file_ids[file_key] = len(self._file_keys)
        return known

    def key_of(self, file_id: int) -> str:
        """Return the key of a file by its number."""
        return self._file_keys[file_id - 1]

    @cached_property
    def sizes(self) -> tuple[int, int]:
        """Numbers of files and of items that have words."""
        [files] = self._snapshot.query("SELECT count(DISTINCT file_key) AS n", IS_READ)
        has_words = "(text IS NOT NULL AND text <> '') OR columns IS NOT NULL"
        return int(files["n"]), self._snapshot.table.count(has_words)

    @cached_property
    def mean_lengths(self) -> tuple[float, float]:
        """Mean number of words of files, and of items that have any, by a sample."""
        first = self._snapshot.query(
            f"SELECT min({ROW_ID}) AS first",
            IS_READ,
            f"GROUP BY file_key ORDER BY first LIMIT {_SAMPLE}",
        )
        files = [
            sum(len(column.split()) for column in one.of_file)
            for one in self.read([int(row["first"]) for row in first])
        ]
        has_words = "(text IS NOT NULL AND text <> '') OR columns IS NOT NULL"
        rows = self._snapshot.query(
            f"SELECT {ROW_ID}", has_words, f"ORDER BY {ROW_ID} LIMIT {_SAMPLE}"
        )
        items = [
            sum(len(column.split()) for column in one.of_item)
            for one in self.read([int(row[ROW_ID]) for row in rows])
        ]
        return tuple(sum(found) / len(found) if found else 1.0 for found in (files, items))  # type: ignore[return-value]

    def read(self, rows: Sequence[int]) -> list[_Document]:
        """Return the documents of those of some rows that there are, in their order.

        After compaction the index of the words still names rows that were deleted before
        (https://github.com/lance-format/lance/issues/6262).
        """
        found = {row: self._known[row] for row in rows if row in self._known}
        for chunk in chunks([row for row in rows if row not in found], _AT_ONCE):
            for one in self._snapshot.table.read(_COLUMNS, rows_in(chunk)).to_pylist():
                row = one[ROW_ID]
                found[row] = self._known[row] = self._document(one)
        return [found[row] for row in rows if row in found]

    def _document(self, row: dict[str, Any]) -> _Document:
        said = [columns for _, columns in said_in(row["said"])][:MOST_ANNOTATIONS]
        of_file = words_of_file(
            path_of(row), row["described"], row["camera"], row["place"], said, self._folders
        )
        columns = json.loads(row["columns"]) if row["columns"] else None
        of_item = words_of_item(row["text"], columns)
        return _Document(row[ROW_ID], row["file_key"], of_file, of_item)

    def rows_with(self, phrase: Phrase) -> tuple[int, ...]:
        """Return rows that may hold a phrase, ascending: all, or `_MOST_READ` of more."""
        if (found := self._rows.get(phrase)) is None:
            found = self._rows[phrase] = tuple(sorted(self._find(phrase)))
        return found

    def _find(self, phrase: Phrase) -> Iterator[int]:
        from lance.query import FullTextOperator, MatchQuery

        options: dict[str, Any]
        *whole, last = phrase.words.split()
        if phrase.is_prefix:
            words = [f"contains(words, {literal(word)})" for word in (*whole, last)]
            options = {"filter": all_of(["words IS NOT NULL", *words])}
        else:
            query = MatchQuery(phrase.words, "words", operator=FullTextOperator.AND)
            options = {"full_text_query": query, "disable_scoring_autoprojection": True}
        table = self._snapshot.table
        with table.errors():
            scanner = table.dataset.scanner(columns=[ROW_ID], limit=_MOST_READ, **options)
            for batch in scanner.to_batches():
                yield from batch.column(ROW_ID).to_pylist()


class _LanceTextSearch(TextSearch):
    """The search of a catalog, whose questions a table answers.

    Documents of files are named by numbers that they are given, those of items by their ids.
    """

    def __init__(
        self, snapshot: LanceSnapshot, table: _Table, modality: Modality, where: Filter | None
    ) -> None:
        values = {
            "_snapshot": snapshot,
            "_table": table,
            "_passing": snapshot.predicate(where, modality),
        }
        for name, value in values.items():  # a search of a database is frozen, and so is this one
            object.__setattr__(self, name, value)

    _snapshot: LanceSnapshot
    _table: _Table
    _passing: str

    def with_copies(self, found: Mapping[int, _Score]) -> dict[int, _Score]:
        """Let the copies of what was found have the best score of any of them.

        They have one vector, and in a library of a directory one row.
        """
        columns = (ROW_ID, "content_hash", "part")
        best: dict[tuple[str, str], Any] = {}
        for chunk in chunks(list(found), _AT_ONCE):
            for one in self._snapshot.table.read(columns, rows_in(chunk)).to_pylist():
                key = (one["content_hash"], one["part"])
                best[key] = max(found[one[ROW_ID]], best.get(key, found[one[ROW_ID]]))
        scores: dict[int, _Score] = {}
        for contents in chunks(sorted({content for content, _ in best}), _AT_ONCE):
            passing = all_of([self._passing, one_of("content_hash", contents)])
            for one in self._snapshot.table.read(columns, passing).to_pylist():
                if (key := (one["content_hash"], one["part"])) in best:
                    scores[one[ROW_ID]] = best[key]
        return scores

    def _count(
        self,
        table: Any,
        all_of: Sequence[Sequence[Phrase]] = (),
        most: int | None = None,
    ) -> int:
        if not all_of:
            return self._table.sizes[0 if table is FILE_WORDS else 1]
        rows = self._rows_with_all(all_of)
        if len(rows) >= _MOST_READ:  # counted as they come, which is all that there are
            count = len(rows) if table is FILE_WORDS else 0
        else:
            count = len(self._documents(table, rows, all_of))
        return count if most is None else min(count, most)

    def _masks(
        self,
        table: Any,
        words: Sequence[Any],
        wanted: Sequence[Sequence[Sequence[Phrase]]],
    ) -> dict[int, int]:
        documents: set[int] = set()
        for together in wanted:
            documents |= self._documents(table, self._rows_with_all(together), together).keys()
        masks: dict[int, int] = {}
        for place, word in enumerate(words):
            rows = self._rows_with_all([word.phrases])
            for document in self._documents(table, rows, [word.phrases]).keys() & documents:
                masks[document] = masks.get(document, 0) | (1 << place)
        return masks

    def _scores(
        self, table: Any, terms: Sequence[Term], *, any_of: Sequence[Term] = ()
    ) -> dict[int, float]:
        phrases = [phrase for term in terms for phrase in term.phrases]
        size = self._table.sizes[0 if table is FILE_WORDS else 1]
        mean = self._table.mean_lengths[0 if table is FILE_WORDS else 1]
        scores: dict[int, float] = {}
        for phrase in phrases:
            held = self._documents(table, self._table.rows_with(phrase), [[phrase]])
            idf = max(log((size - len(held) + 0.5) / (len(held) + 0.5)) if held else 0, _LEAST_IDF)
            for document, columns in held.items():
                length = sum(len(column.split()) for column in columns)
                weights = WEIGHTS[table.name]
                often = sum(
                    weight * _times(phrase, column)
                    for weight, column in zip(weights, columns, strict=True)
                )
                norm = _K1 * (1 - _B + _B * length / mean)
                part = idf * often * (_K1 + 1) / (often + norm)
                scores[document] = scores.get(document, 0.0) + part
        return dict(sorted(scores.items(), key=lambda found: (-found[1], found[0])))

    def _rows_with_all(self, all_of: Sequence[Sequence[Phrase]]) -> list[int]:
        found: set[int] | None = None
        for phrases in all_of:
            rows = {row for phrase in phrases for row in self._table.rows_with(phrase)}
            # A file may hold one word, and an item of it another one.
            found = rows if found is None else found & rows
        return sorted(found or ())

    def _documents(
        self, table: Any, rows: Sequence[int], all_of: Sequence[Sequence[Phrase]]
    ) -> dict[int, tuple[str, ...]]:
        """Return those of some rows' documents that hold one phrase of each, with their columns."""
        found: dict[int, tuple[str, ...]] = {}
        for one in self._table.read(rows):
            is_file = table is FILE_WORDS
            columns = one.of_file if is_file else one.of_item
            if all(any(_times(p, c) for p in phrases for c in columns) for phrases in all_of):
                number = self._table.file_id(one.file_key) if is_file else item_id_of(one.row)
                found[number] = columns
        return found

    def _first_items(self, file_ids: Sequence[int]) -> Iterator[Place]:
        for chunk in chunks(file_ids, _AT_ONCE):
            keys = {self._table.key_of(file_id): file_id for file_id in chunk}
            of_files = f"file_key IN ({', '.join(map(literal, keys))})"
            rows = self._snapshot.query(
                f"SELECT file_key, min({ROW_ID}) AS first",
                all_of([self._passing, of_files]),
                "GROUP BY file_key",
            )
            firsts = {keys[row["file_key"]]: int(row["first"]) for row in rows}
            for file_id in chunk:
                if (row := firsts.get(file_id)) is not None:
                    yield Place(item_id_of(row), file_id, row)

    def _places(self, item_ids: Sequence[int]) -> Iterator[Place]:
        wanted = rows_in(row_id_of(item_id) for item_id in item_ids)
        passing = all_of([self._passing, wanted])
        for row in self._snapshot.table.read(("file_key", ROW_ID), passing).to_pylist():
            file_id = self._table.file_id(row["file_key"])
            yield Place(item_id_of(row[ROW_ID]), file_id, row[ROW_ID])


def _search(snapshot: LanceSnapshot, modality: Modality, where: Filter | None) -> _LanceTextSearch:
    table = snapshot.once("words", lambda: _Table(snapshot))
    return _LanceTextSearch(snapshot, table, modality, where)


def _times(phrase: Phrase, column: str) -> int:
    """Count how often a phrase stands in the words of a column."""
    if phrase.is_prefix:
        return f" {column}".count(f" {phrase.words}")
    return f" {column} ".replace(" ", "  ").count(f" {phrase.words.replace(' ', '  ')} ")
