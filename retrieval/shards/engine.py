"""The engine over all shards: each finds and scores its own, and one merges exactly.

It is the engine of one library whose rows are looked up elsewhere: it encodes, weighs words by the
counts of all shards, calibrates with the sample of all rows, joins, cuts, pages. So its answers are
those of one library, in the same order, and its cursors mean the same.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import cachetools
import numpy as np
from numpy.typing import NDArray

from retrieval.catalog import Item, Snapshot
from retrieval.catalog.fulltext.counting import count_documents
from retrieval.catalog.fulltext.search import DocumentCount
from retrieval.encoders.base import Tokens
from retrieval.errors import MMSearchError
from retrieval.filters import Filter
from retrieval.indices.searcher import Searcher
from retrieval.media import Modality
from retrieval.rerankers.base import Reranker
from retrieval.search.answer import StageTimer
from retrieval.search.candidates import (
    NO_TEXT_MATCHES,
    Candidates,
    TextMatches,
    at_rows,
    with_words,
)
from retrieval.search.encode import EncodedQuery, Vector
from retrieval.search.engine import Engine, FoundItems, QueryPlan
from retrieval.search.facet_values import FacetQuestion, FacetValues
from retrieval.search.facets import DEFAULT_VALUES, Facets
from retrieval.search.item_order import ItemOrder, Order, Place
from retrieval.search.joint import JointEngine
from retrieval.search.query import ImagePart, ItemPart, Mode, ParsedQuery, Query, Reranking
from retrieval.search.rerank import RerankOutcome, stack_tokens, warnings_of
from retrieval.shards.callers import SpaceOfShards
from retrieval.shards.library import ShardedLibrary, ShardedSnapshot
from retrieval.shards.merging import best_first, merge_facets, merge_values
from retrieval.shards.rows import AllowedAnywhere, MatchingRows, RemoteRows, Sample
from retrieval.shards.shard import FoundHere, QueryTokens, ShardState, Wanted

_OWNERS = 200_000
_SAMPLES = 8
_COUNTS = 1000
_UNREADABLE = (
    "The hits were not reranked: the file of the item to compare with is gone, changed or "
    "unreadable."
)


class ShardedJointEngine(JointEngine):
    """Answers queries over one or several spaces of a library in shards."""

    def _make_engine(self, space_id: str) -> Engine:
        assert isinstance(self.library, ShardedLibrary)
        return ShardedEngine(self.library, space_id=space_id, device=self._device)


class ShardedEngine(Engine):
    """Answers queries over one space of all shards."""

    def __init__(
        self, library: ShardedLibrary, *, space_id: str | None = None, device: str = "auto"
    ) -> None:
        super().__init__(library, space_id=space_id, device=device)
        self._shards = SpaceOfShards(library.shards, self._space_id)
        self._cache: Any = _ShardedCache(self._shards, library)

    def skip_items(
        self,
        count: int,
        *,
        order: Order,
        modality: Modality | None = None,
        where: Filter | None = None,
        after: Place | None = None,
    ) -> Place | None:
        """As `Engine.skip_items`, step by step: no shard goes past what all together may skip."""
        given = order, modality, where
        nothing = np.empty(0, np.int64)
        keys = ItemOrder.of(order, nothing, nothing, nothing.astype(np.bool_))
        with self._lists_lock:
            place, left = after, count
            before = sum(rank for rank, _ in self._shards.all("order_rank", *given, place))
            while left:
                step = max(1, left // len(self._shards))
                proposed: list[Place | None] = self._shards.all("order_skip", *given, place, step)
                further = [
                    one
                    for one in proposed
                    if one is not None and (place is None or keys.precedes(place, one))
                ]
                if not further:
                    break
                place = min(further, key=keys.key)
                ranks = self._shards.all("order_rank", *given, place)
                now = sum(rank for rank, _ in ranks)
                left, before = left - (now - before), now
            return place

    def facets(
        self,
        query: Query | None = None,
        *,
        where: Filter | None = None,
        modality: Modality = Modality.IMAGE,
        limit: int = DEFAULT_VALUES,
    ) -> Facets:
        """As `Engine.facets`."""
        counted = self._to_count(query, where, modality)
        with self._lock:
            parts = self._shards.all("count_facets", *counted)
        return merge_facets(parts, limit)

    def facet_values(
        self,
        asked: FacetQuestion,
        query: Query | None = None,
        *,
        where: Filter | None = None,
        modality: Modality = Modality.IMAGE,
    ) -> FacetValues:
        """As `Engine.facet_values`."""
        modality, where, item_ids = self._to_count(query, where, modality)
        with self._lock:
            parts = self._shards.all("list_facet_values", modality, asked, where, item_ids)
        return merge_values(asked, parts)

    def _named_items(
        self, wanted: set[int], snapshot: Snapshot
    ) -> tuple[dict[int, Item], dict[int, Vector]]:
        items: dict[int, Item] = {}
        vectors: dict[int, Vector] = {}
        for found in self._shards.all("named", sorted(wanted)):
            for item_id, (item, vector) in found.items():
                items[item_id], vectors[item_id] = item, vector
        return items, vectors

    def _plan(
        self,
        parsed: ParsedQuery,
        reranking: Reranking,
        encoded: EncodedQuery | MMSearchError,
        items: Mapping[int, Item],
        snapshot: Snapshot,
    ) -> QueryPlan:
        plan = super()._plan(parsed, reranking, encoded, items, snapshot)
        modality, where, limit = plan.query.modality, plan.where, plan.row_limit
        count, passing = self._cache.passing(modality, where, limit)
        sample = self._cache.sample_of(modality, limit)
        return replace(plan, allowed=AllowedAnywhere(where, count, passing, sample))

    def _match_text(
        self,
        query: Query,
        mode: Mode,
        where: Filter | None,
        row_limit: int,
        limit: int,
        snapshot: Snapshot,
    ) -> TextMatches:
        if not (words := query.words):
            return NO_TEXT_MATCHES
        counts = self._cache.word_counts(words)
        parts: list[tuple[TextMatches, TextMatches]] = self._shards.all(
            "match_words",
            *(query.modality, words, where, row_limit, counts),
            limit if mode is Mode.TEXT else None,
        )
        weight = query.weight_of_words
        scores: dict[int, float] = {}
        relevance: dict[int, float] = {}
        for shard, (telling, found) in enumerate(parts):
            relevance |= {row: weight * share for row, share in telling.relevance.items()}
            scores |= found.scores
            self._cache.owners.update(dict.fromkeys([*found.scores, *telling.scores], shard))
        if mode is not Mode.TEXT:
            return TextMatches(scores, relevance)
        ranked = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))
        least = ranked[limit - 1][1] if len(ranked) > limit else 0.0
        return TextMatches(
            {row: score for row, score in ranked if score >= least},
            relevance,
            exhausted=len(ranked) <= limit and all(found.exhausted for _, found in parts),
        )

    def _find(
        self,
        modality: Modality,
        plans: Mapping[int, QueryPlan],
        snapshot: Snapshot,
        timer: StageTimer,
    ) -> dict[int, FoundItems]:
        self._searcher(modality, snapshot)
        asked: dict[int, tuple[Any, ...]] = {}
        for shard in range(len(self._shards)):
            wanted = [
                Wanted(
                    plan.vector,
                    plan.count,
                    plan.where,
                    plan.row_limit,
                    plan.kind,
                    plan.mode is not Mode.TEXT,
                    self._cache.of_shard(plan.text, shard),
                )
                for plan in plans.values()
            ]
            asked[shard] = modality, wanted
        with timer("candidates"):
            parts: list[list[FoundHere]] = self._shards.some("find", asked)
        found = {}
        with timer("order"):
            for number, (place, plan) in enumerate(plans.items()):
                found[place] = self._merged(plan, [part[number] for part in parts])
        return found

    def _merged(self, plan: QueryPlan, parts: Sequence[FoundHere]) -> FoundItems:
        """Join what the shards found for a query."""
        for shard, part in enumerate(parts):
            here = [*part.nearest.rows.tolist(), *part.by_text.rows.tolist()]
            self._cache.owners.update(dict.fromkeys(here, shard))
        rows, similarity, at = best_first([part.nearest for part in parts])
        candidates = at_rows(rows, similarity, at)
        exhausted = all(part.exhausted for part in parts) and len(candidates) <= plan.count
        by_text = Candidates.none()
        if plan.text.scores:
            rows, similarity, items = best_first(
                [part.by_text for part in parts], plan.text.scores, plan.count
            )
            by_text = with_words(at_rows(rows, similarity, items), plan.text)
            at = at | items
        return FoundItems(
            candidates.take(slice(plan.count)),
            exhausted,
            by_text,
            {item.id: item for at_row in at.values() for item in at_row},
        )

    def _rerank(
        self, plans: Mapping[int, QueryPlan], found: Mapping[int, FoundItems]
    ) -> dict[int, RerankOutcome]:
        """Match the best candidates of all shards with their queries, each where its file is."""
        reranked = {}
        since = None
        for place, plan in plans.items():
            budget = None if plan.cursor else plan.reranking.budget_ms
            if budget is not None and since is not None:
                budget = max(0.0, budget - 1000 * (time.monotonic() - since))
            since = since or time.monotonic()
            reranked[place] = self._rerank_one(plan, found[place], budget)
        return reranked

    def _rerank_one(
        self, plan: QueryPlan, found: FoundItems, budget_ms: float | None
    ) -> RerankOutcome:
        query = self._query_tokens(plan, plan.reranker)
        if query is None:
            return RerankOutcome(None, warnings=(_UNREADABLE,))
        first = found.nearest.ids[: plan.rerank_count].tolist()
        rows = found.nearest.rows[: plan.rerank_count].tolist()
        owners = np.array([self._cache.owners[row] for row in rows], np.int64)
        name = plan.reranking.name
        asked = {}
        for shard in np.unique(owners).tolist():
            items = [found.items[first[place]] for place in np.flatnonzero(owners == shard)]
            asked[shard] = items, query, name, budget_ms
        parts: list[RerankOutcome] = self._shards.some("score", asked)
        match = np.full(len(first), np.nan, np.float32)
        taken_up = len(first)
        weight = 0.0
        for shard, part in zip(asked, parts, strict=True):
            places = np.flatnonzero(owners == shard)
            scored = np.empty(0, np.float32) if part.match is None else part.match
            match[places[: len(scored)]] = scored
            weight = part.weight
            if len(scored) < len(places):  # as far as all of them had the time
                taken_up = min(taken_up, int(places[len(scored)]))
        budget_s = np.inf if budget_ms is None else budget_ms / 1000
        return RerankOutcome(match[:taken_up], weight, warnings_of(match, taken_up, budget_s))

    def _query_tokens(self, plan: QueryPlan, reranker: Reranker | None) -> QueryTokens | None:
        """Make what a reranker needs of a query; None if the picture of an item of it is gone."""
        if reranker is None:
            return None
        if texts := plan.query.text_parts:
            made = self._vectors.text_tokens(reranker, [part.text for part in texts])
            stacked = stack_tokens([made[part.text].values[0] for part in texts])
            return QueryTokens([stacked], [part.weight for part in texts], are_texts=True)
        images: list[Tokens] = []
        for part in plan.query.parts:
            if isinstance(part, ImagePart):
                images.append(self._vectors.image_tokens(reranker, part))
            elif isinstance(part, ItemPart):
                item = plan.items[part.item_id]
                told = self._shards.all("tokens_of", item, plan.reranking.name)
                known = [tokens for tokens in told if tokens is not None]
                if not known:
                    return None
                images.append(known[0])
        return QueryTokens(images, [part.weight for part in plan.query.parts], are_texts=False)

    def _searcher(self, modality: Modality, snapshot: Snapshot) -> Searcher:
        limit = self._cache.row_count(snapshot, modality)
        rows = RemoteRows(self._shards, modality, limit, self.space.dimension, self._cache.owners)
        problems = dict.fromkeys(
            problem for state in self._cache.states for problem in state.problems
        )
        searcher = cast("Searcher", _ShardedSearcher(rows, " ".join(problems) or None))
        self._searchers[modality] = searcher
        return searcher


class _ShardedSearcher:
    """What the engine asks of a searcher, of all shards. problem: for the user."""

    damage = None
    generation = None

    def __init__(self, rows: RemoteRows, problem: str | None) -> None:
        self.rows = rows
        self.problem = problem

    def are_whole(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return True for all: the shards have left out what is damaged."""
        return np.ones(len(rows), np.bool_)


class _ShardedCache:
    """What is remembered of the shards between queries, until one of them changes.

    owners: the shard of each row that was found lately.
    """

    def __init__(self, shards: SpaceOfShards, library: ShardedLibrary) -> None:
        self._shards = shards
        self._catalog = library.catalog
        self.states: Sequence[ShardState] = ()
        self.owners: dict[int, int] = {}
        self._samples: cachetools.LRUCache[Any, Sample] = cachetools.LRUCache(_SAMPLES)
        self._passing: cachetools.LRUCache[Any, tuple[int, NDArray[np.int64]]]
        self._passing = cachetools.LRUCache(_COUNTS)
        self._counts: cachetools.LRUCache[str, Mapping[DocumentCount, int]]
        self._counts = cachetools.LRUCache(_COUNTS)
        self._words: dict[str, Any] = {}

    @contextmanager
    def snapshot(self) -> Iterator[ShardedSnapshot]:
        """Look at the shards as they are now; drops what is remembered of earlier ones."""
        states = self._shards.all("state")
        if len(self.owners) > _OWNERS:
            self.owners.clear()
        if [one.version for one in states] != [one.version for one in self.states]:
            for kept in (self.owners, self._samples, self._passing, self._counts, self._words):
                kept.clear()
        self.states = states
        with self._catalog.snapshot() as snapshot:
            yield snapshot

    def row_count(self, snapshot: Any, modality: Modality) -> int:
        """Return the number after that of the last row of all."""
        return max((state.row_limits[modality] for state in self.states), default=0)

    def rows_matching(self, snapshot: Any, modality: Modality, where: Filter) -> MatchingRows:
        """Stand for the rows that pass a filter."""
        return MatchingRows(lambda: any(self._shards.all("matches_any", modality, where)))

    def live_rows_if_few(self, modality: Modality) -> None:
        """Return None: each shard knows its own."""

    def passing(
        self, modality: Modality, where: Filter | None, row_limit: int
    ) -> tuple[int, NDArray[np.int64]]:
        """Count the rows that pass a filter, and list those of the sample that do."""
        key = modality, where, row_limit
        if (known := self._passing.get(key)) is None:
            parts = self._shards.all("passing", *key)
            numbers = np.concatenate([passing for _, passing in parts])
            known = self._passing[key] = sum(count for count, _ in parts), numbers
        return known

    def sample_of(self, modality: Modality, row_limit: int) -> Sample:
        """Return the sample of the rows below a limit."""
        key = modality, row_limit
        if (known := self._samples.get(key)) is None:
            known = self._samples[key] = Sample.of(self._shards, modality, row_limit)
        return known

    def sample(self, modality: Modality, rows: RemoteRows, *_: Any) -> NDArray[np.float32]:
        """Return the vectors of the sample, (m, d)."""
        return self.sample_of(modality, len(rows)).vectors

    def word_counts(self, words: str) -> Mapping[DocumentCount, int]:
        """Count the documents of all shards that hold the words of a query."""
        if (known := self._counts.get(words)) is None:

            def count(asked: Sequence[DocumentCount]) -> list[int]:
                told = self._shards.all("document_counts", asked)
                sums = [sum(counts) for counts in zip(*told, strict=True)]
                return [
                    total if most is None else min(total, most)
                    for total, (_, _, most) in zip(sums, asked, strict=True)
                ]

            known = self._counts[words] = count_documents(words, count)
        return known

    def of_shard(self, text: TextMatches, shard: int) -> TextMatches:
        """Return what words found in one shard."""
        own = {row: score for row, score in text.scores.items() if self.owners[row] == shard}
        return TextMatches(own, {})

    def words(self, snapshot: ShardedSnapshot) -> Any:
        """Words of the library that a query may mean as filters."""
        from retrieval.search.library_words import LibraryWords

        return LibraryWords(snapshot, self._words)
