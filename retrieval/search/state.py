"""One query on its way through the stages: what is known of it so far."""

from dataclasses import dataclass, field

import numpy as np

from retrieval.catalog import Item, Modality
from retrieval.errors import MMSearchError
from retrieval.filters import Filter
from retrieval.rerankers.base import Reranker, Scores
from retrieval.rerankers.stage import RerankOutcome
from retrieval.search.answer import Answer, Reranking
from retrieval.search.candidates import Candidate, Nearest, Wanted
from retrieval.search.cursor import Cursor
from retrieval.search.encode import Vector
from retrieval.search.ordering import (
    DIVERSE_POOL,
    FUSED_POOL,
    Ranked,
    by_meaning,
    by_words,
    one_of_each_file,
    relevant,
    with_words,
    without,
)
from retrieval.search.query import MAX_K, ItemPart, Mode, Query
from retrieval.search.relevance import Calibration, QueryKind
from retrieval.search.row_sets import RowSet

_MOST_CANDIDATES = 5 * MAX_K
"""More are not looked through for hits of other files, or relevant enough."""
_MORE = 4
_NOTHING = Nearest((), True)


@dataclass
class Search:
    """A query, what the stages have found for it, and why it failed, if it did.

    extent: rows that count: those that were committed at the first page. words: scores of rows by
    text search, the best first; words_are_all: whether it found no others. taken_up: candidates
    that were reranked, or that are to be, as at the first page.
    """

    query: Query
    reranking: Reranking
    error: MMSearchError | None = None
    reranker: Reranker | None = None
    digest: bytes = b""
    cursor: Cursor | None = None
    items: dict[int, Item] = field(default_factory=dict)
    vector: Vector = field(default_factory=lambda: np.empty(0, np.float32))
    background: Scores = field(default_factory=lambda: np.empty(0, np.float32))
    extent: int = 0
    allowed: RowSet | None = None
    is_live: bool = False
    mode: Mode = Mode.VECTOR
    words: dict[int, float] = field(default_factory=dict)
    words_are_all: bool = True
    nearest: Nearest = _NOTHING
    found_by_words: tuple[Candidate, ...] = ()
    outcome: RerankOutcome | None = None
    count: int = 0
    ordered: list[Ranked] = field(default_factory=list)
    is_rest_irrelevant: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def modality(self) -> Modality:
        """Of what is to be found."""
        return self.query.modality

    @property
    def kind(self) -> QueryKind:
        """Of the query: text where any part is one, else image."""
        is_passage = any(item.modality is Modality.TEXT for item in self.items.values())
        return Modality.TEXT if self.query.has_text or is_passage else Modality.IMAGE

    @property
    def given(self) -> frozenset[int]:
        """Ids of the items on the pages before."""
        return self.cursor.given if self.cursor else frozenset()

    @property
    def k(self) -> int:
        """How many hits this page has at most."""
        return min(self.query.k, MAX_K - len(self.given))

    @property
    def depth(self) -> int:
        """How many candidates are reranked, time permitting; 0 where none are."""
        return (self.reranking.depth or self.reranker.depth) if self.reranker else 0

    @property
    def to_rerank(self) -> int:
        """How many candidates are reranked now: those that were at the first page."""
        return self.cursor.taken_up if self.cursor else self.depth

    @property
    def is_to_rerank(self) -> bool:
        """Whether there are candidates that are still to be reranked."""
        can_rerank = self.reranker is not None and self.outcome is None
        return can_rerank and self.to_rerank > 0 and bool(self.nearest.candidates)

    @property
    def taken_up(self) -> int:
        """How many candidates were reranked at the first page, as far as it is known."""
        if self.outcome is not None:
            return self.outcome.taken_up
        return self.cursor.taken_up if self.cursor else 0

    @property
    def left_out(self) -> frozenset[int]:
        """Items that a query which asks for nothing but what is like them does not want."""
        if all(isinstance(part, ItemPart) for part in self.query.parts):
            return frozenset(self.query.item_ids)
        return frozenset()

    @property
    def fused_pool(self) -> int:
        """How many of the best by meaning are joined with what the words found."""
        return max(FUSED_POOL, self.depth)

    @property
    def wanted(self) -> Wanted:
        """What is to be found by meaning."""
        return Wanted(
            self.vector,
            self.kind,
            self.count,
            self.extent,
            self.allowed,
            is_live=self.is_live,
            where=self.where,
        )

    @property
    def where(self) -> Filter | None:
        """What hits must be like; None where everything passes."""
        where = self.query.where
        return None if where is None or where.is_empty else where

    def first_count(self) -> int:
        """How many candidates to begin with: one more than wanted tells whether others follow."""
        wanted = len(self.given) + len(self.left_out) + self.k + 1
        pool = self.fused_pool if self.mode is Mode.HYBRID else 0
        diverse = DIVERSE_POOL if self.query.diversity else 0
        return max(wanted, self.depth, pool, diverse)

    def order(self, calibration: Calibration) -> None:
        """Put what was found so far into the order of the hits, but for its diversity."""
        if self.mode is Mode.TEXT:
            ranked = by_words(self.found_by_words, self.words)
        else:
            ranked = by_meaning(self.nearest.candidates, self.outcome)
            if self.mode is Mode.HYBRID:
                ranked = with_words(ranked, self.found_by_words, self.words, self.fused_pool)

        def relevance(similarity: Scores, match: Scores) -> Scores:
            return calibration.relevance(similarity, self.background, match)

        ranked = relevant(without(ranked, self.left_out), relevance, self.query.min_relevance)
        self.ordered = one_of_each_file(ranked) if self.query.group_by_file else ranked
        if self.query.min_relevance and self.nearest.candidates:
            # All others are less similar than the last, and so less relevant.
            last = np.array([self.nearest.candidates[-1].similarity], np.float32)
            [chance] = relevance(last, np.full(1, np.nan, np.float32))
            self.is_rest_irrelevant = bool(chance < self.query.min_relevance)

    @property
    def is_all(self) -> bool:
        """Whether no further candidate could become a hit."""
        if self.mode is Mode.TEXT:
            return self.words_are_all
        return self.nearest.is_all or self.is_rest_irrelevant

    @property
    def needs_more(self) -> bool:
        """Whether further candidates are to be looked at for this page."""
        if self.is_all or self.count >= _MOST_CANDIDATES:
            return False
        has_enough = len(without(self.ordered, self.given)) > self.k
        has_pool = not self.query.diversity or len(self.ordered) >= DIVERSE_POOL
        return not (has_enough and has_pool)

    def ask_for_more(self) -> None:
        """Look at several times as many candidates."""
        self.count = min(_MOST_CANDIDATES, _MORE * self.count)

    def answer(self, timings_ms: dict[str, float]) -> Answer:
        """The page of hits, and the way to the next."""
        left = without(self.ordered, self.given)
        page, rest = left[: self.k], left[self.k :]
        first = len(self.given) + 1
        hits = tuple(one.hit(rank) for rank, one in enumerate(page, start=first))
        given = self.given.union(hit.item.id for hit in hits)
        cursor = None
        if page and (rest or not (self.is_all or self.count >= _MOST_CANDIDATES)):
            cursor = Cursor(self.digest, self.extent, self.mode, self.taken_up, given)
        was_reranked = self.reranker is not None and self.outcome is not None
        return Answer(
            hits,
            timings_ms,
            self.warnings,
            reranker=self.reranker.name if self.reranker and was_reranked else None,
            reranked=len(self.outcome.order) if self.outcome else 0,
            mode=self.mode,
            next_cursor=cursor.encode() if cursor and len(given) < MAX_K else None,
        )
