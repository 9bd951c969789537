"""Full-text search: find the rows whose items, or whose files, hold the words of a query."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import accumulate
from math import log

import sqlalchemy as sa

from retrieval.catalog.dialects.base import Condition, Dialect
from retrieval.catalog.filtering import shown
from retrieval.catalog.fulltext.words import Phrase, Term
from retrieval.catalog.records import WordMatch
from retrieval.catalog.schema import (
    CAN_BE_FOUND,
    FILE_WORDS,
    ITEM_WORDS,
    FileRecord,
    ItemRecord,
    chunks,
    raw_rows,
    row_in,
)
from retrieval.filters import Filter
from retrieval.media import Modality

_TABLES = (ITEM_WORDS, FILE_WORDS)
_All = Sequence[Sequence[Phrase]]
"""A document must hold one phrase of each."""

DocumentCount = tuple[str, tuple[tuple[Phrase, ...], ...], int | None]
"""What is counted: documents of a table that hold a phrase of each, and up to how many."""

_ROWS = 2**31
"""More than a library has rows."""
_FIRST_CHUNK = 500
_LARGE = 10_000
"""Documents from which on it pays to look at rare words first."""
_FEW = 0.1
"""Maximum share of the documents that hold a rare word."""
_MOST_TIES = 5_000
"""Rows beyond those wanted that have the score of the last, so that their similarity decides."""
_MANY = 5_000
"""Documents that the telling words of a query may be in, all together."""
_UNKNOWN = 0.5
"""What a word that no document holds counts of its weight."""
_PREFIX_TRUST = 0.4
"""What a word counts that only begins as the query's last one, which may not be finished."""


@dataclass(frozen=True, slots=True)
class Place:
    """An item that may be found: its file and its row."""

    item_id: int
    file_id: int
    row: int


@dataclass(frozen=True, slots=True)
class _Word:
    """A term of a query: what stands for it, its weight, its rarity and the documents with it."""

    phrases: tuple[Phrase, ...]
    weight: float
    rarity: float
    count: int


@dataclass(frozen=True, eq=False)
class TextSearch:
    """A search of the current items of a space and modality that pass a filter.

    _counts: how many documents there are, of a library that this catalog holds a part of; None: it
    is the whole.
    """

    _connection: sa.Connection
    _dialect: Dialect
    _space_id: str
    _modality: Modality
    _where: Filter | None
    _counts: Mapping[DocumentCount, int] | None = None

    @cached_property
    def _wanted(self) -> Condition:
        """Say which items may be found; joined files and items outside."""
        passing = shown(self._where, self._dialect)
        return sa.and_(CAN_BE_FOUND, ItemRecord.modality == self._modality, passing)

    def best(
        self, terms: Sequence[Term], limit: int, *, any_of: Sequence[Term] = ()
    ) -> list[tuple[int, float]]:
        """Return the best rows that hold any term, and their scores, with the ties of the last.

        any_of: only items that hold one of these, which are among the terms.
        """
        in_items = self._scores(ITEM_WORDS, terms, any_of=any_of)
        in_files = self._scores(FILE_WORDS, terms, any_of=any_of)
        if not in_items and not in_files:
            return []
        found = self._items(in_items, limit)
        scores: dict[int, float] = {}
        for place, score in found:
            total = score + in_files.get(place.file_id, 0.0)
            scores[place.row] = max(total, scores.get(place.row, 0.0))
        seen = {place.file_id for place, _ in found}
        firsts: dict[int, float] = {}
        last = 0.0
        for place in self._first_items([file_id for file_id in in_files if file_id not in seen]):
            score = in_files[place.file_id]
            if len(firsts) >= limit + _MOST_TIES or score < last:
                break
            firsts.setdefault(place.row, score)
            if len(firsts) == limit:
                last = score
        for row, score in firsts.items():
            scores[row] = max(score, scores.get(row, 0.0))
        ranked = sorted(scores.items(), key=lambda found: (-found[1], found[0]))
        least = ranked[limit - 1][1] if len(ranked) > limit else 0.0
        return [(row, score) for row, score in ranked if score >= least]

    def telling(self, terms: Sequence[Term]) -> list[WordMatch]:
        """Find every row that holds words which tell it apart from most others.

        A word weighs ln((N + 1) / n), where n of N documents hold it (inverse document frequency,
        Sparck Jones 1972), and nothing where half of them do; its rarity falls from 1, where one
        holds it, to 0 there. What no document holds counts half: the query may say it in passing.

        Looked at is what holds one of the rarest words, which few hold, or all of the others at
        once, where few do.
        """
        known = self._known(terms)
        whole = sum(word.weight for word in known)
        held = sorted(
            (word for word in known if word.count and word.rarity), key=lambda word: word.count
        )
        counts = list(accumulate(word.count for word in held))
        rare = held[: bisect_right(counts, _MANY)]
        common = held[len(rare) :]
        if not held:
            return []
        wanted = [[word.phrases] for word in rare]
        if len(common) > 1:
            together = [word.phrases for word in common]
            most = _MANY - (counts[len(rare) - 1] if rare else 0)
            if sum(self._count(table, together, most + 1) for table in _TABLES) <= most:
                wanted.append(together)
        if not wanted:
            return []
        in_files = self._masks(FILE_WORDS, held, wanted)
        in_items = self._masks(ITEM_WORDS, held, wanted)

        @cache
        def said(mask: int) -> tuple[float, float]:
            words = [word for place, word in enumerate(held) if mask & (1 << place)]
            return (
                sum(word.weight * word.rarity for word in words) / whole,
                sum(word.weight for word in words),
            )

        found: dict[int, tuple[float, float]] = {}
        seen = set()
        for chunk in chunks(list(in_items)):
            for place in self._places(chunk):
                seen.add(place.file_id)
                mask = in_items[place.item_id] | in_files.get(place.file_id, 0)
                found[place.row] = max(said(mask), found.get(place.row, (0.0, 0.0)))
        for place in self._first_items([file_id for file_id in in_files if file_id not in seen]):
            found[place.row] = max(said(in_files[place.file_id]), found.get(place.row, (0.0, 0.0)))
        return [WordMatch(row, score, share) for row, (share, score) in found.items()]

    def _known(self, terms: Sequence[Term]) -> list[_Word]:
        """Count who holds each term that is no function word, or each if there is no other."""
        files, items = self._count(FILE_WORDS), self._count(ITEM_WORDS)
        wanted = [term for term in terms if term.weight] or [Term(t.phrases) for t in terms]
        known = []
        for term in wanted:
            exact = tuple(phrase for phrase in term.phrases if not phrase.is_prefix)
            phrases, trust = exact, 1.0
            in_files, in_items = self._holders(phrases, files, items)
            if not in_files + in_items and len(exact) < len(term.phrases):
                phrases, trust = tuple(p for p in term.phrases if p.is_prefix), _PREFIX_TRUST
                in_files, in_items = self._holders(phrases, files, items)
            count = in_files + in_items
            rarity = min(_rarity(in_files, files), _rarity(count, files + items))
            weight = term.weight * log((files + items + 1) / max(count, 0.5))
            if not count:
                weight *= _UNKNOWN
            known.append(_Word(phrases, weight if rarity else 0.0, rarity * trust, count))
        return known

    def _holders(self, phrases: tuple[Phrase, ...], files: int, items: int) -> tuple[int, int]:
        """Count the files and items that hold a phrase, up to where it tells nothing."""
        return (
            self._count(FILE_WORDS, [phrases], files // 2 + 2),
            self._count(ITEM_WORDS, [phrases], items // 2 + 2) if items else 0,
        )

    def _masks(
        self, table: sa.TableClause, words: Sequence[_Word], wanted: Sequence[_All]
    ) -> dict[int, int]:
        """Say which words each document holds that is wanted, as bits, by its id."""
        masks: dict[int, int] = {}
        for place, word in enumerate(words):
            query = self._dialect.documents_with(table, word.phrases, wanted)
            for (document,) in raw_rows(self._connection, query):
                masks[document] = masks.get(document, 0) | (1 << place)
        return masks

    def rare(self, terms: Sequence[Term]) -> list[Term]:
        """Return the terms that few documents of a large index hold, if others are in many.

        What holds none of them cannot be among the best, if there is enough of what does; and to
        score what holds only common words takes most of the time.
        """
        if len(terms) == 1:
            return []
        size = sum(self._count(table) for table in _TABLES)
        if size < _LARGE:
            return []
        rare = [
            term
            for term in terms
            if sum(self._count(table, [term.phrases]) for table in _TABLES) < _FEW * size
        ]
        return rare if len(rare) < len(terms) else []

    def _count(self, table: sa.TableClause, all_of: _All = (), most: int | None = None) -> int:
        if self._counts is not None:
            return self._counts[table.name, tuple(map(tuple, all_of)), most]
        return int(self._connection.scalar(self._dialect.document_count(table, all_of, most)))

    def _scores(
        self,
        table: sa.TableClause,
        terms: Sequence[Term],
        *,
        any_of: Sequence[Term] = (),
    ) -> dict[int, float]:
        """Return the scores of the documents that match, by id, best first."""
        query = self._dialect.text_scores(table, terms, any_of=any_of)
        return dict(raw_rows(self._connection, query))

    def _items(self, scores: dict[int, float], limit: int) -> list[tuple[Place, float]]:
        """Return the best items by their own words; more than `limit`, as files' words may add."""
        found: list[tuple[Place, float]] = []
        for chunk in _growing(list(scores)):
            places = {place.item_id: place for place in self._places(chunk)}
            found += [(places[item], scores[item]) for item in chunk if item in places]
            if len(found) >= max(4 * limit, _FIRST_CHUNK):
                break
        return found

    def _first_items(self, file_ids: Sequence[int]) -> Iterator[Place]:
        """Yield the first item that may be found of each of some files, in their order."""
        # The row of the least id goes through `min` in its low bits, which spares a second query.
        first = sa.func.min(ItemRecord.id * _ROWS + row_in(self._space_id))
        for chunk in _growing(file_ids):
            query = (
                sa.select(ItemRecord.file_id, first)
                .join(FileRecord, FileRecord.id == ItemRecord.file_id)
                .where(self._wanted, ItemRecord.file_id.in_(chunk))
                .group_by(ItemRecord.file_id)
            )
            firsts = dict(raw_rows(self._connection, query))
            for file_id in chunk:
                if (both := firsts.get(file_id)) is not None:
                    item_id, row = divmod(both, _ROWS)
                    yield Place(item_id, file_id, row)

    def _places(self, item_ids: Sequence[int]) -> Iterator[Place]:
        """Yield the files and rows of those of some items that may be found."""
        query = (
            sa.select(ItemRecord.id, ItemRecord.file_id, row_in(self._space_id))
            .join(FileRecord, FileRecord.id == ItemRecord.file_id)
            .where(self._wanted, ItemRecord.id.in_(item_ids))
        )
        for item_id, file_id, row in raw_rows(self._connection, query):
            if row is not None:
                yield Place(item_id, file_id, row)


def _growing(ids: Sequence[int]) -> Iterator[Sequence[int]]:
    """Cut ids into few at first, which may suffice, then as many as a statement takes."""
    if ids:  # a statement about nothing reads everything
        yield ids[:_FIRST_CHUNK]
    yield from chunks(ids[_FIRST_CHUNK:])


def _rarity(count: int, size: int) -> float:
    """Return 1 for what at most one of `size` documents holds, falling to 0 for half of them."""
    return max(0.0, 1 - 2 * max(count - 1, 0) / size) if size else 1.0
