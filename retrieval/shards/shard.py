"""One shard: answers what the search over all shards asks of it, in values that can be sent.

Rows are named by their numbers in the whole library, items by their ids, which are the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.catalog import Item, Snapshot
from retrieval.catalog.fulltext.search import DocumentCount
from retrieval.encoders.base import Space, Tokens
from retrieval.filters import Filter
from retrieval.indices.base import AllowedRows
from retrieval.library import Library
from retrieval.media import Modality
from retrieval.rerankers.base import ImageSimilarityReranker
from retrieval.search.answer import StageTimer
from retrieval.search.candidates import TextMatches, best_text_matches, first_rows
from retrieval.search.encode import EncodedQuery, Vector
from retrieval.search.engine import Engine
from retrieval.search.facet_values import FacetQuestion, FacetValues
from retrieval.search.facets import Facets
from retrieval.search.item_order import Order, Place
from retrieval.search.query import ParsedQuery, Query, Reranking, VectorPart
from retrieval.search.relevance import SAMPLE_ROWS, hashes
from retrieval.search.rerank import RerankOutcome, image_scorer, item_tokens, rerank, text_scorer
from retrieval.shards.partition import RowNumbers

RowsOfWhole = NDArray[np.int64]

_EVERY_VALUE = 2**31

READ = frozenset(
    (
        *("cameras", "folders", "places", "days", "is_southern"),
        *("items", "items_by_date", "items_by_name", "items_of_ids", "paths_of_items"),
        *(
            "page_pictures",
            "found_pictures",
            "enrichments",
            "require_collections",
            "id_of_collection",
            "items_of_collection",
        ),
    )
)
"""Methods of a snapshot that `Shard.read` calls."""


@dataclass(frozen=True)
class ShardState:
    """What a shard holds now. version: changes with its catalog.

    row_limits: by modality, the number after that of its last row in the whole library. rows:
    number of its rows.
    """

    version: int
    row_limits: Mapping[Modality, int]
    rows: Mapping[Modality, int]
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Wanted:
    """What a query wants of a shard; fields as of a query's plan in the engine.

    vector: (d,) float32, unit. count: candidates. row_limit: in the whole library. by_meaning:
    whether the nearest to the vector are wanted. text: what words found in this shard.
    """

    vector: Vector
    count: int
    where: Filter | None
    row_limit: int
    kind: Modality
    by_meaning: bool
    text: TextMatches


@dataclass(frozen=True, eq=False)
class FoundRows:
    """Rows of a shard, best first, with the items at each. similarity: exact, (n,) float32."""

    rows: RowsOfWhole
    similarity: Vector
    items: Sequence[tuple[Item, ...]]


@dataclass(frozen=True, eq=False)
class FoundHere:
    """What a shard has for a query. exhausted: it has no others near to the vector."""

    nearest: FoundRows
    exhausted: bool
    by_text: FoundRows


@dataclass(frozen=True, eq=False)
class QueryTokens:
    """What a reranker scores items with: tokens of each part, and their weights.

    are_texts: of texts, stacked in one; else of images, one each.
    """

    tokens: Sequence[Tokens]
    weights: Sequence[float]
    are_texts: bool


class Shard:
    """A shard that is open; may be called from several threads, one call at a time is worked on."""

    def __init__(self, library: Library, engines: "Mapping[str, ShardEngine]") -> None:
        self.library = library
        self._engines = engines

    def describe(self) -> dict[str, Any]:
        """Say what the shards of a library have in common."""
        library = self.library
        with library.catalog.snapshot() as snapshot:
            sources = snapshot.sources()
        return {
            "sources": sources,
            "spaces": [library.space(space_id) for space_id in library.space_ids()],
            "default_space": library.space().id,
            "max_pixels": library.max_pixels,
            "warnings": list(library.warnings),
            "calibrations": {
                space_id: _text_of(library.path / "spaces" / space_id / "relevance.json")
                for space_id in library.space_ids()
            },
        }

    def read(self, method: str, *given: Any, **options: Any) -> Any:
        """Call a method of the catalog's snapshot that reads."""
        if method not in READ:
            raise ValueError(method)
        with self.library.catalog.snapshot() as snapshot:
            return getattr(snapshot, method)(*given, **options)

    def listed(self, method: str, options: Mapping[str, Any]) -> Any:
        """As `read`, with named arguments."""
        return self.read(method, **options)

    def which(self, item_ids: Sequence[int]) -> list[int]:
        """Return which of some items are here."""
        with self.library.catalog.snapshot() as snapshot:
            return list(snapshot.items_of_ids(item_ids))

    def ask(self, space_id: str, method: str, *given: Any, **options: Any) -> Any:
        """Call a method of the engine of a space."""
        if method not in ASKED:
            raise ValueError(method)
        return getattr(self._engines[space_id], method)(*given, **options)


class ShardEngine(Engine):
    """The engine of a space of one shard."""

    def __init__(
        self, library: Library, *, space_id: str | None = None, device: str = "auto"
    ) -> None:
        super().__init__(library, space_id=space_id, device=device)
        self._numbers = RowNumbers(library)

    def state(self) -> ShardState:
        """Say what is here now."""
        with self._lock, self._cache.snapshot() as snapshot:
            numbers = {modality: self._whole_rows(modality, snapshot) for modality in Modality}
            problems = [
                problem
                for searcher in self._searchers.values()
                for problem in (searcher.problem, searcher.damage)
                if problem
            ]
            return ShardState(
                self.library.catalog.dialect.version(),
                {modality: int(of[-1]) + 1 if len(of) else 0 for modality, of in numbers.items()},
                {modality: len(of) for modality, of in numbers.items()},
                tuple(problems),
            )

    def passing(
        self, modality: Modality, where: Filter | None, row_limit: int
    ) -> tuple[int, RowsOfWhole]:
        """Count the rows that pass a filter, and list those of the sample that do."""
        with self._lock, self._cache.snapshot() as snapshot:
            numbers = self._whole_rows(modality, snapshot)
            limit = int(np.searchsorted(numbers, row_limit))
            chosen = _sample_of(numbers[:limit])
            if where is None:
                return limit, numbers[chosen]
            allowed = self._cache.rows_matching(snapshot, modality, where)[:limit]
            return int(np.count_nonzero(allowed)), numbers[chosen[allowed[chosen]]]

    def sample(self, modality: Modality, row_limit: int) -> tuple[RowsOfWhole, NDArray[np.float16]]:
        """Choose the rows that may be in the sample of the library: their numbers and vectors."""
        with self._lock, self._cache.snapshot() as snapshot:
            searcher = self._searcher(modality, snapshot)
            numbers = self._whole_rows(modality, snapshot)
            chosen = _sample_of(numbers[: int(np.searchsorted(numbers, row_limit))])
            is_whole = searcher.are_whole(chosen)
            taken = chosen
            if is_whole.any():  # others of the sample take the places of damaged ones
                taken = np.where(is_whole, chosen, np.resize(chosen[is_whole], len(chosen)))
            return numbers[chosen], np.asarray(searcher.rows[taken])

    def document_counts(self, asked: Sequence[DocumentCount]) -> list[int]:
        """As of a snapshot."""
        with self.library.catalog.snapshot() as snapshot:
            return snapshot.document_counts(asked)

    def match_words(
        self,
        modality: Modality,
        words: str,
        where: Filter | None,
        row_limit: int,
        counts: Mapping[DocumentCount, int],
        limit: int | None,
    ) -> tuple[TextMatches, TextMatches]:
        """Search for words: what telling ones find, and, up to a limit, what BM25 does, if asked.

        Rows are those of the whole library. The relevances are by telling words, without the weight
        that the query gives them.
        """
        with self._lock, self._cache.snapshot() as snapshot:
            numbers = self._whole_rows(modality, snapshot)
            telling = snapshot.telling_matches(
                self._space_id, modality, words, where=where, counts=counts
            )
            found = [
                (whole, match)
                for match in telling
                if (whole := int(numbers[match.row])) < row_limit
            ]
            by_words = TextMatches(
                {row: match.score for row, match in found},
                {row: match.share for row, match in found},
            )
            if limit is None:
                return by_words, by_words
            matches = snapshot.text_matches(
                self._space_id, modality, words, limit=limit, where=where
            )
            scores = {
                int(numbers[row]): score for row, score in matches if numbers[row] < row_limit
            }
            return by_words, TextMatches(scores, {}, exhausted=len(matches) < limit)

    def find(self, modality: Modality, wanted: Sequence[Wanted]) -> list[FoundHere]:
        """Find the candidates of queries for one modality, by vector and by text."""
        with self._lock, self._cache.snapshot() as snapshot:
            searcher = self._searcher(modality, snapshot)
            numbers = self._whole_rows(modality, snapshot)
            plans = {
                place: self._plan_of(modality, one, numbers, snapshot)
                for place, one in enumerate(wanted)
                if one.by_meaning
            }
            nearest = self._nearest(searcher, plans, snapshot, StageTimer())
            found = []
            for place, one in enumerate(wanted):
                near, exhausted = _NOTHING, not one.by_meaning
                if place in nearest:
                    candidates, exhausted, at = nearest[place]
                    rows, first = np.unique(candidates.rows, return_index=True)
                    order = np.argsort(first, kind="stable")
                    near = FoundRows(
                        numbers[rows[order]],
                        candidates.similarity[first[order]],
                        [at[row] for row in rows[order].tolist()],
                    )
                by_text = _NOTHING
                if one.text.scores:
                    by_text = self._by_text(modality, one, numbers, snapshot)
                found.append(FoundHere(near, exhausted, by_text))
            return found

    def _by_text(
        self, modality: Modality, one: Wanted, numbers: RowsOfWhole, snapshot: Snapshot
    ) -> FoundRows:
        searcher = self._searcher(modality, snapshot)
        scores = {
            int(np.searchsorted(numbers, row)): score for row, score in one.text.scores.items()
        }
        text = TextMatches(scores, {})
        rows, similarity = best_text_matches(one.vector, text, searcher.rows, one.count)
        is_whole = searcher.are_whole(rows)
        rows, similarity = rows[is_whole], similarity[is_whole]
        at = self._cache.items_at(snapshot, modality, rows.tolist(), one.where)
        return FoundRows(numbers[rows], similarity, [at[row] for row in rows.tolist()])

    def _plan_of(
        self, modality: Modality, one: Wanted, numbers: RowsOfWhole, snapshot: Snapshot
    ) -> Any:
        """Plan a search of the nearest to a vector, among the rows below the limit."""
        query = Query((VectorPart(one.vector),), k=1, modality=modality, where=one.where)
        encoded = EncodedQuery(one.vector)
        plan = self._plan(ParsedQuery(query, query), Reranking("none"), encoded, {}, snapshot)
        limit = int(np.searchsorted(numbers, one.row_limit))
        bitmap = None if plan.allowed is None else plan.allowed.bitmap
        allowed = first_rows(bitmap, limit, len(numbers))
        return replace(
            plan,
            row_limit=limit,
            allowed=None if allowed is None else AllowedRows(allowed, plan.where),
            allowed_are_live=bitmap is not None,
            kind=one.kind,
            count=one.count,
        )

    def vectors(self, modality: Modality, rows: RowsOfWhole) -> NDArray[np.float16]:
        """Return the vectors of rows of this shard, (n, d)."""
        with self._lock, self._cache.snapshot() as snapshot:
            searcher = self._searcher(modality, snapshot)
            numbers = self._whole_rows(modality, snapshot)
            return np.asarray(searcher.rows[np.searchsorted(numbers, rows)])

    def named(self, item_ids: Sequence[int]) -> dict[int, tuple[Item, Vector]]:
        """Return those of some items that are here and current, with their unit vectors."""
        with self._lock, self._cache.snapshot() as snapshot:
            items, vectors = self._named_items(set(item_ids), snapshot)
            return {item_id: (item, vectors[item_id]) for item_id, item in items.items()}

    def tokens_of(self, item: Item, reranker: str) -> Tokens | None:
        """Return what a reranker needs of an item's picture; None if it cannot be read."""
        with self._lock:
            chosen = self.reranker(reranker)
            if chosen is None:
                return None
            return item_tokens(item, chosen, self._tokens, self._max_pixels)

    def score(
        self,
        items: Sequence[Item],
        query: QueryTokens,
        reranker: str,
        budget_ms: float | None,
    ) -> RerankOutcome:
        """Match candidates of this shard with a query, in their order, while there is time."""
        with self._lock:
            chosen = self.reranker(reranker)
            if chosen is None:
                return RerankOutcome(None)
            if query.are_texts:
                scorer = text_scorer(chosen, query.tokens[0], query.weights)
            else:
                assert isinstance(chosen, ImageSimilarityReranker)
                scorer = image_scorer(chosen, query.tokens, query.weights)
            return rerank(
                items,
                scorer,
                chosen,
                self._tokens,
                budget_ms=budget_ms,
                max_pixels=self._max_pixels,
            )

    def matches_any(self, modality: Modality, where: Filter) -> bool:
        """Return whether any item passes a filter."""
        with self._lock, self._cache.snapshot() as snapshot:
            return bool(self._cache.rows_matching(snapshot, modality, where).any())

    def count_facets(
        self, modality: Modality, where: Filter | None, item_ids: NDArray[np.int64] | None
    ) -> Facets:
        """Count the items that pass a filter, or are among some, with every value."""
        with self._selected(modality, where, item_ids) as counted:
            return counted.facets(_EVERY_VALUE)

    def list_facet_values(
        self,
        modality: Modality,
        asked: FacetQuestion,
        where: Filter | None,
        item_ids: NDArray[np.int64] | None,
    ) -> FacetValues:
        """List all values of a facet of the items that pass a filter, or are among some."""
        with self._selected(modality, where, item_ids, asked) as counted:
            return counted.values(replace(asked, limit=_EVERY_VALUE))

    def order_rank(
        self, order: Order, modality: Modality | None, where: Filter | None, place: Place | None
    ) -> tuple[int, int]:
        """Count the items up to a place in a list, and all of them."""
        with self._lists_lock, self._lists.snapshot() as snapshot:
            found = self._lists.item_order(snapshot, order, modality, where)
            return (0 if place is None else found.rank(place)), len(found.first)

    def order_skip(
        self,
        order: Order,
        modality: Modality | None,
        where: Filter | None,
        place: Place | None,
        count: int,
    ) -> Place | None:
        """Go on in a list of the items of this shard; as `Engine.skip_items`."""
        return self.skip_items(count, order=order, modality=modality, where=where, after=place)

    def _whole_rows(self, modality: Modality, snapshot: Snapshot) -> RowsOfWhole:
        count = self._cache.row_count(snapshot, modality)
        return self._numbers.of(self._space_id, modality, count)


ASKED = frozenset(
    (
        *("state", "passing", "sample", "document_counts", "match_words", "find"),
        *("vectors", "named", "tokens_of", "score", "matches_any", "count_facets"),
        *("list_facet_values", "order_rank", "order_skip"),
    )
)
"""Methods of an engine that `Shard.ask` calls."""

_NOTHING = FoundRows(np.empty(0, np.int64), np.empty(0, np.float32), [])


def _sample_of(numbers: RowsOfWhole) -> NDArray[np.int64]:
    """Choose the places of rows with the lowest hashes of their numbers, ascending."""
    if len(numbers) <= SAMPLE_ROWS:
        return np.arange(len(numbers))
    return np.sort(np.argpartition(hashes(numbers), SAMPLE_ROWS)[:SAMPLE_ROWS])


def _text_of(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.exists() else None


def spaces_of(described: Mapping[str, Any]) -> dict[str, Space]:
    """Return the spaces of a description by their ids."""
    return {space.id: space for space in described["spaces"]}
