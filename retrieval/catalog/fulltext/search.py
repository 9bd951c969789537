"""Full-text search: find the rows whose items, or whose files, hold the words of a query."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import sqlalchemy as sa

from retrieval.catalog.dialects.base import Condition, Dialect
from retrieval.catalog.filtering import condition
from retrieval.catalog.fulltext.index import FILE_WORDS, ITEM_WORDS, Term
from retrieval.catalog.schema import CAN_BE_FOUND, FileRecord, ItemRecord, chunks, row_in
from retrieval.filters import Filter
from retrieval.media import Modality

_FIRST_CHUNK = 500
_LARGE = 10_000
"""Documents from which on it pays to look at rare words first."""
_FEW = 0.1
"""Maximum share of the documents that hold a rare word."""


@dataclass(frozen=True, slots=True)
class _Place:
    """An item that may be found: its file and its row."""

    item_id: int
    file_id: int
    row: int


@dataclass(frozen=True, eq=False)
class TextSearch:
    """A search of the current items of a space and modality that pass a filter."""

    _connection: sa.Connection
    _dialect: Dialect
    _space_id: str
    _modality: Modality
    _where: Filter | None

    @cached_property
    def _wanted(self) -> Condition:
        """Say which items may be found; joined files and items outside."""
        passing = condition(self._where, self._dialect)
        return sa.and_(CAN_BE_FOUND, ItemRecord.modality == self._modality, passing)

    def best(
        self,
        terms: Sequence[Term],
        limit: int,
        *,
        match_all: bool = False,
        any_of: Sequence[Term] = (),
    ) -> list[tuple[int, float]]:
        """Return the best rows and their scores.

        match_all, any_of: only items that hold all terms, or one of these, themselves or in their
        file's words, instead of any term.
        """
        in_items = self._scores(ITEM_WORDS, terms, any_of=any_of)
        in_files = self._scores(FILE_WORDS, terms, match_all=match_all, any_of=any_of)
        if not in_items and not in_files:
            return []
        found = self._items(in_items, limit, terms if match_all else ())
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

    def rare(self, terms: Sequence[Term]) -> list[Term]:
        """Return the terms that few documents of a large index hold, if others are in many.

        What holds none of them cannot be among the best, if there is enough of what does; and to
        score what holds only common words takes most of the time.
        """
        if len(terms) == 1:
            return []
        tables = (ITEM_WORDS, FILE_WORDS)
        size = sum(self._count(table) for table in tables)
        if size < _LARGE:
            return []
        rare = [
            term
            for term in terms
            if sum(self._count(table, term) for table in tables) < _FEW * size
        ]
        return rare if len(rare) < len(terms) else []

    def _count(self, table: sa.TableClause, term: Term | None = None) -> int:
        return int(self._connection.scalar(self._dialect.document_count(table, term)))

    def _scores(
        self,
        table: sa.TableClause,
        terms: Sequence[Term],
        *,
        match_all: bool = False,
        any_of: Sequence[Term] = (),
    ) -> dict[int, float]:
        """Return the scores of the documents that match, by id, best first."""
        query = self._dialect.text_scores(table, terms, match_all=match_all, any_of=any_of)
        cursor = self._connection.execute(query).cursor  # SQLAlchemy's own rows take twice as long
        return dict(cursor.fetchall()) if cursor else {}

    def _items(
        self, scores: dict[int, float], limit: int, all_of: Sequence[Term]
    ) -> list[tuple[_Place, float]]:
        """Return the best items by their own words; more than `limit`, as files' words may add.

        all_of: only those that hold each of some terms, themselves or in the words of their file.
        """
        wanted = list(scores)
        if not wanted:
            return []
        holders = [(self._holders(ITEM_WORDS, t), self._holders(FILE_WORDS, t)) for t in all_of]
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

    def _holders(self, table: sa.TableClause, term: Term) -> set[int]:
        return set(self._connection.scalars(self._dialect.documents_with(table, term)))

    def _first_items(self, file_ids: Sequence[int]) -> Iterator[_Place]:
        """Yield the first item that may be found of each of some files, in their order."""
        first = sa.func.min(ItemRecord.id)
        for chunk in _growing(file_ids):
            query = (
                sa.select(first)
                .join(FileRecord, FileRecord.id == ItemRecord.file_id)
                .where(
                    self._wanted,
                    row_in(self._space_id).is_not(None),
                    ItemRecord.file_id.in_(chunk),
                )
                .group_by(ItemRecord.file_id)
            )
            firsts = self._connection.scalars(query).all()
            places = {place.file_id: place for place in self._places(firsts)}
            yield from (places[file_id] for file_id in chunk if file_id in places)

    def _places(self, item_ids: Sequence[int]) -> Iterator[_Place]:
        """Yield the files and rows of those of some items that may be found."""
        query = (
            sa.select(ItemRecord.id, ItemRecord.file_id, row_in(self._space_id))
            .join(FileRecord, FileRecord.id == ItemRecord.file_id)
            .where(self._wanted, ItemRecord.id.in_(item_ids))
        )
        for item_id, file_id, row in self._connection.execute(query):
            if row is not None:
                yield _Place(item_id, file_id, row)


def _growing(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """Cut ids into few at first, which may suffice, then as many as a statement takes."""
    if ids:  # a statement about nothing reads everything
        yield ids[:_FIRST_CHUNK]
    yield from chunks(ids[_FIRST_CHUNK:])
