"""Full-text search: the rows whose items, or whose files, hold the words of a query."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from retrieval.catalog.filtering import condition
from retrieval.catalog.fulltext.tokenize import terms
from retrieval.catalog.schema import FileRecord, ItemRecord
from retrieval.catalog.statements import (
    CAN_BE_FOUND,
    PARAMETERS_PER_STATEMENT,
    chunks,
    has_row_in,
    row_in,
)
from retrieval.filters import Filter
from retrieval.media import Modality

_WEIGHTS = {"file_words": "4.0, 3.0, 1.0, 1.5, 0.5", "item_words": "4.0, 1.0"}
"""Of the columns: what a person wrote of a picture says more than the name of its folder."""

_FIRST_CHUNK = 500
_LARGE = 10_000
"""Documents from which on it pays to look at rare words first."""
_FEW = 0.1
"""Share of the documents that hold a rare word, at most."""


@dataclass(frozen=True, slots=True)
class _Place:
    """An item that may be found: its file and its row."""

    item_id: int
    file_id: int
    row: int


class TextSearch:
    """One query over the current items of a space and modality that pass a filter."""

    def __init__(
        self, connection: sa.Connection, space_id: str, modality: Modality, where: Filter | None
    ) -> None:
        self._connection = connection
        self._space_id = space_id
        wanted = [CAN_BE_FOUND, ItemRecord.modality == modality]
        if where is not None:
            wanted.append(condition(where))
        self._wanted = sa.and_(*wanted)

    def run(self, text: str, limit: int, *, all_words: bool) -> list[tuple[int, float]]:
        """Rows and scores, as `Snapshot.text_matches` says."""
        asked = terms(text, all_words=all_words)
        if not asked or limit < 1:
            return []
        if all_words:
            in_files = self._scores("file_words", " AND ".join(asked))
            return self._best(self._scores("item_words", _any_of(asked)), in_files, limit, asked)
        if rare := self._rare(asked):
            common = [term for term in asked if term not in rare]
            # With each term twice, so that all keep their weights.
            narrow = f"({_any_of(rare)}) AND ({_any_of([*rare, *common, *common])})"
            found = self._best(*self._both(narrow), limit)
            if len(found) == limit:
                return [(row, score / 2) for row, score in found]
        return self._best(*self._both(_any_of(asked)), limit)

    def _rare(self, asked: list[str]) -> list[str]:
        """Terms that few documents of a large index hold, where others are in many; else none.

        What holds none of them cannot be among the best, if there is enough of what does; and to
        score what holds only common words takes most of the time.
        """
        size = sum(
            self._connection.exec_driver_sql(f"SELECT count(*) FROM {table}_docsize").scalar_one()
            for table in _WEIGHTS
        )
        if len(asked) == 1 or size < _LARGE:
            return []
        count = "SELECT count(*) FROM {0} WHERE {0} MATCH ?"
        rare = [
            term
            for term in asked
            if sum(
                self._connection.exec_driver_sql(count.format(table), (term,)).scalar_one()
                for table in _WEIGHTS
            )
            < _FEW * size
        ]
        return rare if len(rare) < len(asked) else []

    def _both(self, expression: str) -> tuple[dict[int, float], dict[int, float]]:
        """Scores of items and of files."""
        return self._scores("item_words", expression), self._scores("file_words", expression)

    def _best(
        self,
        in_items: dict[int, float],
        in_files: dict[int, float],
        limit: int,
        all_of: Sequence[str] = (),
    ) -> list[tuple[int, float]]:
        """The best rows by scores of items and of files, each best first."""
        found = self._items(in_items, limit, all_of)
        scores: dict[int, float] = {}
        for place, score in found:
            total = score + in_files.get(place.file_id, 0.0)
            scores[place.row] = max(total, scores.get(place.row, 0.0))
        seen = {place.file_id for place, _ in found}
        firsts: dict[int, float] = {}
        for place in self._first_items([file_id for file_id in in_files if file_id not in seen]):
            firsts.setdefault(place.row, in_files[place.file_id])
            if len(firsts) == limit:
                break
        for row, score in firsts.items():
            scores[row] = max(score, scores.get(row, 0.0))
        return sorted(scores.items(), key=lambda found: (-found[1], found[0]))[:limit]

    def _scores(self, table: str, expression: str) -> dict[int, float]:
        """BM25 of the documents that match, by id, best first."""
        query = (
            f"SELECT rowid, -bm25({table}, {_WEIGHTS[table]}) AS score FROM {table} "
            f"WHERE {table} MATCH ? ORDER BY score DESC, rowid"
        )
        cursor = self._connection.exec_driver_sql(query, (expression,)).cursor
        return dict(cursor.fetchall()) if cursor else {}

    def _items(
        self, scores: dict[int, float], limit: int, all_of: Sequence[str]
    ) -> list[tuple[_Place, float]]:
        """The best items by their own words; more than asked for, as their files' may add to it.

        all_of: only those that hold each of some terms, themselves or in the words of their file.
        """
        wanted = list(scores)
        if not wanted:
            return []
        holders = [(self._holders("item_words", t), self._holders("file_words", t)) for t in all_of]
        found: list[tuple[_Place, float]] = []
        for chunk in _growing(wanted):
            places = {place.item_id: place for place in self._places(chunk)}
            found += [
                (place, scores[item_id])
                for item_id in chunk
                if (place := places.get(item_id))
                and all(item_id in items or place.file_id in files for items, files in holders)
            ]
            if len(found) >= max(4 * limit, _FIRST_CHUNK):
                break
        return found

    def _holders(self, table: str, term: str) -> set[int]:
        query = f"SELECT rowid FROM {table} WHERE {table} MATCH ?"
        return set(self._connection.exec_driver_sql(query, (term,)).scalars())

    def _first_items(self, file_ids: Sequence[int]) -> Iterator[_Place]:
        """The first item that may be found of each of some files, in their order."""
        first = sa.func.min(ItemRecord.id)
        for chunk in _growing(file_ids):
            query = (
                sa.select(first)
                .join(FileRecord, FileRecord.id == ItemRecord.file_id)
                .where(self._wanted, has_row_in(self._space_id), ItemRecord.file_id.in_(chunk))
                .group_by(ItemRecord.file_id)
            )
            firsts = self._connection.scalars(query).all()
            places = {place.file_id: place for place in self._places(firsts)}
            yield from (places[file_id] for file_id in chunk if file_id in places)

    def _places(self, item_ids: Sequence[int]) -> Iterator[_Place]:
        """Where those of some items lie that may be found."""
        query = (
            sa.select(ItemRecord.id, ItemRecord.file_id, row_in(self._space_id))
            .join(FileRecord, FileRecord.id == ItemRecord.file_id)
            .where(self._wanted, ItemRecord.id.in_(item_ids))
        )
        for item_id, file_id, row in self._connection.execute(query):
            if row is not None:
                yield _Place(item_id, file_id, row)


def _any_of(asked: Sequence[str]) -> str:
    return " OR ".join(asked)


def _growing(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """Few at first, as they may do, then as many as a statement takes."""
    if ids:  # a statement about nothing reads everything
        yield ids[:_FIRST_CHUNK]
    yield from chunks(ids[_FIRST_CHUNK:], PARAMETERS_PER_STATEMENT)
