"""The engine: query -> filters, vector -> candidates -> refine -> rerank -> order -> hits."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import date
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retrieval.catalog import Item, Snapshot
from retrieval.catalog.facets import ColumnFacet, FileFacets
from retrieval.catalog.records import is_in
from retrieval.encoders.base import Encoder, Space, Tokens, Vectors
from retrieval.encoders.languages import Languages, language_name, languages_of
from retrieval.encoders.registry import load_encoder
from retrieval.errors import (
    EncoderUnavailableError,
    MMSearchError,
    NotFoundError,
    SpaceMismatchError,
    UsageError,
)
from retrieval.filters import Filter
from retrieval.indices.base import AllowedRows
from retrieval.indices.refine import refine
from retrieval.indices.searcher import Searcher
from retrieval.library import Library
from retrieval.machine import keep_numpy_on_one_thread
from retrieval.media import Modality
from retrieval.rerankers.base import Reranker
from retrieval.rerankers.registry import AUTO, load_reranker
from retrieval.rerankers.token_cache import TokenMemory
from retrieval.search.answer import Answer, StageTimer, make_hits
from retrieval.search.cache import CatalogCache
from retrieval.search.candidates import (
    NO_TEXT_MATCHES,
    Candidates,
    TextMatches,
    at_rows,
    best_text_matches,
    first_rows,
    propose,
    with_spare,
    with_words,
)
from retrieval.search.cursor import Cursor, digest_of
from retrieval.search.cut import AUTO as AUTO_CUT
from retrieval.search.cut import CUT_POOL, Cut, Outlook
from retrieval.search.encode import (
    MODALITIES,
    CountedCache,
    EncodedQuery,
    EncodedText,
    QueryVectors,
    Vector,
    encode,
)
from retrieval.search.facet_values import (
    FacetQuestion,
    FacetValues,
    list_values,
)
from retrieval.search.facets import DEFAULT_VALUES, Facets, count_facets
from retrieval.search.item_order import Order, Place
from retrieval.search.ordering import (
    DIVERSE_POOL,
    Groups,
    calibrate,
    collapse_by_file,
    diversify,
    exclude,
    join_lexical,
    places_in_order,
    rank_by_text,
    rank_by_vector,
)
from retrieval.search.query import (
    MAX_K,
    ImagePart,
    ItemPart,
    Mode,
    ParsedQuery,
    Query,
    Reranking,
    Sort,
    TextPart,
    UnderstoodPart,
)
from retrieval.search.query_language import unknown_language
from retrieval.search.relevance import (
    AnyCalibration,
    Curve,
    QueryKind,
    calibration_for,
    sample_rows,
)
from retrieval.search.rerank import (
    RerankOutcome,
    Scorer,
    can_rerank,
    has_tokens,
    image_scorer,
    item_tokens,
    keep_tokens,
    read_pixels,
    rerank,
    stack_tokens,
    text_scorer,
)
from retrieval.search.vocabulary import Known

if TYPE_CHECKING:
    from PIL import Image

    from retrieval.rerankers.explanation import Explanation

_DEFAULT_RERANKING = Reranking()
_OF_ONE_QUERY = (UsageError, NotFoundError, EncoderUnavailableError, SpaceMismatchError)
"""Errors that concern one query, and leave those that are answered with it alone."""

_MAX_CANDIDATES = 5 * MAX_K
"""More are not looked through for hits of other files, or relevant enough."""
_WIDEN = 4
_FIRST_BY_TEXT = 200
"""Rows that a search by words alone begins with."""
_NO_CANDIDATES = Candidates.none()
_UNSURE = "Nothing here is likely to be what was asked for: these hits are only the nearest."
_UNREADABLE = (
    "The hits were not reranked: the file of the item to compare with is gone, changed or "
    "unreadable. `mmsearch index` brings the library up to date; if its folder was moved, "
    "`mmsearch relocate OLD NEW` does."
)


@dataclass(frozen=True, eq=False)
class QueryPlan:
    """A query against the library as it is: which rows may be hits, and how they are found.

    digest: of the query as it was asked, for its cursors. understood: words of it that became
    filters. items: those that the query names, by id. where: None where everything passes.
    row_limit: rows that were committed at the first page. allowed: which of them may be found;
    None: all. allowed_are_live: whether those are known to hold current items. seen_ids: items on
    the pages before. excluded_ids: items that a query which asks only for what is like them does
    not want. k: hits of this page at most. rerank_count: candidates to rerank. count: candidates to
    look at. length, unwanted: as of `EncodedQuery`. is_plain: whether the query is of what
    relevance was learned on: texts or pictures alone, for pictures. unknown_language: that of the
    query, if the encoder does not know it.
    """

    query: Query
    digest: bytes
    understood: tuple[UnderstoodPart, ...]
    reranking: Reranking
    reranker: Reranker | None
    cursor: Cursor | None
    vector: Vector
    warnings: tuple[str, ...]
    items: Mapping[int, Item]
    kind: QueryKind
    where: Filter | None
    row_limit: int
    allowed: AllowedRows | None
    allowed_are_live: bool
    mode: Mode
    text: TextMatches
    seen_ids: frozenset[int]
    excluded_ids: frozenset[int]
    k: int
    rerank_count: int
    count: int
    length: float
    unwanted: Vector | None
    is_plain: bool
    unknown_language: str | None

    @property
    def total(self) -> int:
        """Return the number of rows that may be hits, for all that is known."""
        return self.row_limit if self.allowed is None else self.allowed.count


class Counted(NamedTuple):
    """The items that facets count, each with its file, and what is known of files.

    is_partial: whether a query has more hits. left_out: values of a column that were not read.
    """

    file_ids: NDArray[np.int64]
    item_ids: NDArray[np.int64]
    files: FileFacets
    columns: Mapping[str, ColumnFacet]
    collections: ColumnFacet
    is_partial: bool
    left_out: int

    def facets(self, limit: int) -> Facets:
        """Count each value. limit: Maximum number of values of each facet."""
        return count_facets(
            self.file_ids,
            self.item_ids,
            self.files,
            self.columns,
            self.collections,
            limit=limit,
            is_partial=self.is_partial,
        )

    def values(self, asked: FacetQuestion) -> FacetValues:
        """List the values of one facet."""
        found = list_values(
            asked, self.file_ids, self.item_ids, self.files, self.columns, self.collections
        )
        left_out = found.left_out + self.left_out
        return replace(found, left_out=left_out, is_partial=self.is_partial)


class FoundItems(NamedTuple):
    """What there is for a query: items near to its vector, and those of its words.

    exhausted: there are no others near to it. items: by id, those of all candidates.
    """

    nearest: Candidates
    exhausted: bool
    by_text: Candidates
    items: dict[int, Item]


class _Relevance(NamedTuple):
    """How relevant items are to a query, by their similarities, and where its hits end."""

    curve: Curve
    cut: Cut


class _Ordering(NamedTuple):
    """Candidates in the order of the hits, but for diversity.

    groups: as `Hit.group`, by id. exhausted: no others could become hits. is_full: they are enough
    for the page, or all that there are. kept: how many items are relevant enough, as far as known.
    """

    candidates: Candidates
    groups: Groups
    exhausted: bool
    is_full: bool
    kept: float


class Engine:
    """Answers queries over one space of a library; new items are seen at the next query.

    One call at a time is worked on; `search` and the others may be called from several threads.
    The encoder is loaded at the first query.
    """

    def __init__(
        self, library: Library, *, space_id: str | None = None, device: str = "auto"
    ) -> None:
        keep_numpy_on_one_thread()
        self.library = library
        self.space: Space = library.space(space_id)
        self._device = device
        self._encoder: Encoder | None = None
        self._vectors = QueryVectors(lambda: self.encoder)
        self._searchers: dict[Modality, Searcher] = {}
        self._space_id = self.space.id  # a digest that takes a while
        self._cache = CatalogCache(library.catalog, self._space_id)
        # With a lock of its own: a list does not wait for a search.
        self._lists = CatalogCache(library.catalog, self._space_id)
        self._lists_lock = threading.Lock()
        self._tokens = TokenMemory(library.tokens)
        self._rerankers: dict[str, Reranker | None] = {}
        own_calibrations = library.space_directory(self.space)
        self._calibration = cache(partial(calibration_for, self.space, own=own_calibrations))
        self._lock = threading.Lock()

    @property
    def encoder(self) -> Encoder:
        """Load the encoder of the space; raises SpaceMismatchError if its weights changed."""
        if self._encoder is None:
            encoder = load_encoder(self.space.encoder, self._device, self.space.weights)
            self.library.require_space(encoder.space, among=self.space)
            self._encoder = encoder
        return self._encoder

    @property
    def vector_cache(self) -> CountedCache[EncodedText]:
        """Return the cache of vectors of recent query texts, with its hits and misses."""
        return self._vectors.texts

    @property
    def generations(self) -> dict[Modality, int]:
        """Return the number of the index in use, by modality, of those that have one."""
        found = {modality: s.generation for modality, s in list(self._searchers.items())}
        return {modality: used.number for modality, used in found.items() if used is not None}

    def search(self, query: Query, reranking: Reranking = _DEFAULT_RERANKING) -> Answer:
        """Find the best k items of the query's modality.

        Texts of the query are matched with images; a query of images alone is reranked by image
        similarity, if the reranker has one; one for texts is not. Raises UsageError for an
        unknown reranker and a cursor of another query, NotFoundError for an unknown item.
        """
        [answer] = self.search_many([(query, reranking)])
        if isinstance(answer, MMSearchError):
            raise answer
        return answer

    def search_many(
        self, requests: Sequence[tuple[Query | ParsedQuery, Reranking]]
    ) -> list[Answer | MMSearchError]:
        """Answer several queries together, each as `search` does, for less than one by one.

        A `ParsedQuery` is searched for as it was parsed. The answers are in the order of the
        requests. What is wrong with one request stands in the place of its answer, and leaves the
        others alone. Raises what concerns all: an encoder that is not the library's, a library that
        is damaged.
        """
        timer = StageTimer()
        answers: dict[int, Answer | MMSearchError] = {}
        plans: dict[int, QueryPlan] = {}
        with self._lock, timer("total"):
            with timer("load"):
                encoder = self.encoder
                for _, reranking in requests:
                    with suppress(*_OF_ONE_QUERY):  # told where the query is planned
                        self.reranker(reranking.name)
            with self._cache.snapshot() as snapshot:
                with timer("parse"):
                    parsed = [
                        self._parse(query, [query.modality], snapshot)
                        if isinstance(query, Query)
                        else query
                        for query, _ in requests
                    ]
                with timer("encode"):
                    queries = [one.query for one in parsed]
                    parts = [part for query in queries for part in query.parts]
                    named = {part.item_id for part in parts if isinstance(part, ItemPart)}
                    items, vectors = self._named_items(named, snapshot) if named else ({}, {})
                    encoded = encode(queries, self._vectors, encoder, vectors)
                with timer("catalog"):
                    for place, (_, reranking) in enumerate(requests):
                        try:
                            plans[place] = self._plan(
                                parsed[place], reranking, encoded[place], items, snapshot
                            )
                        except _OF_ONE_QUERY as error:
                            answers[place] = error
                answers |= self._answer(plans, snapshot, timer)
        return [answers[place] for place in range(len(requests))]

    def facets(
        self,
        query: Query | None = None,
        *,
        where: Filter | None = None,
        modality: Modality = Modality.IMAGE,
        limit: int = DEFAULT_VALUES,
    ) -> Facets:
        """Count the items of each year, month, folder, camera, kind and column value.

        Args:
            query: Count its hits: those above `min_relevance`, or by words alone, without
                reranking, MAX_K at most. Where it cuts nothing, all that pass its filter are hits.
            where: Without a query: the filter that items must pass.
            modality: Without a query: modality of the items.
            limit: Maximum number of values of each facet.

        Raises:
            As `search`.
        """
        with self._selected(*self._to_count(query, where, modality)) as counted:
            return counted.facets(limit)

    def facet_values(
        self,
        asked: FacetQuestion,
        query: Query | None = None,
        *,
        where: Filter | None = None,
        modality: Modality = Modality.IMAGE,
    ) -> FacetValues:
        """List the values of one facet, level by level or by a part of their names.

        Args:
            asked: The values.
            query: As of `facets`.
            where: As of `facets`.
            modality: As of `facets`.

        Raises:
            As `search`.
        """
        with self._selected(*self._to_count(query, where, modality), asked) as counted:
            return counted.values(asked)

    def _to_count(
        self, query: Query | None, where: Filter | None, modality: Modality
    ) -> tuple[Modality, Filter | None, NDArray[np.int64] | None]:
        """Say what facets count: items of a modality that pass a filter, or the hits of a query."""
        if query is None:
            return modality, where, None
        if query.least or query.mode is Mode.TEXT:
            all_hits = replace(query, k=MAX_K, cursor=None, group_by_file=False, diversity=0.0)
            hits = self.search(all_hits, Reranking("none")).hits
            ids = np.array([hit.item.id for hit in hits], np.int64)
            return query.modality, query.where, ids
        return query.modality, self.parse(query, (query.modality,)).query.where, None

    @contextmanager
    def _selected(
        self,
        modality: Modality,
        where: Filter | None,
        item_ids: NDArray[np.int64] | None,
        asked: FacetQuestion | None = None,
    ) -> Iterator[Counted]:
        """Find the items that facets count, while the engine is locked.

        item_ids: only these are counted, whatever the filter. asked: values that are wanted, which
        may be of a column that is no facet.
        """
        column, part = (asked.column, asked.contains) if asked else (None, "")
        with self._lock, self._cache.snapshot() as snapshot:
            snapshot.require_collections(where)
            table = self._cache.item_table(snapshot, modality)
            files, columns, collections = self._cache.facets(snapshot)
            left_out = 0
            if column is not None and column not in columns:
                facet, left_out = snapshot.column_facet(column, part)
                columns = {column: facet}
            of_items = [collections, *columns.values()]
            if item_ids is not None or any(len(each.of_items) for each in of_items):
                of_table = self._cache.item_ids(snapshot, modality)
            else:
                of_table = np.zeros_like(table.file_ids)  # nothing is looked up by them
            if item_ids is None:
                counted = self._cache.items_matching(snapshot, modality, where)
            else:
                counted = is_in(of_table, item_ids)
            yield Counted(
                table.file_ids[counted],
                of_table[counted],
                files,
                columns,
                collections,
                is_partial=item_ids is not None and len(item_ids) == MAX_K,
                left_out=left_out,
            )

    def skip_items(
        self,
        count: int,
        *,
        order: Order,
        modality: Modality | None = None,
        where: Filter | None = None,
        after: Place | None = None,
    ) -> Place | None:
        """Find where a list of items goes on after a number of them; past the end, the last item.

        Args:
            count: Number of items to skip.
            order: Order of the list.
            modality: Modality of the items; None for all.
            where: Filter that the items must pass.
            after: Where to begin; None: at the first item.

        Returns:
            The item that the list goes on behind; None: it begins with the first one.
        """
        with self._lists_lock, self._lists.snapshot() as snapshot:
            return self._lists.item_order(snapshot, order, modality, where).skip(count, after)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Encode n texts, (n, d) float32 of unit L2 norm."""
        with self._lock:
            found = self._vectors.of_texts(texts)
            return _stack([found[text].vector for text in texts], self.space.dimension)

    def encode_images(self, images: "Sequence[Image.Image]") -> Vectors:
        """Encode n upright RGB images, (n, d) float32 of unit L2 norm."""
        with self._lock:
            vectors = self._vectors.of_images([ImagePart(image) for image in images])
            return _stack(vectors, self.space.dimension)

    def reranker(self, name: str = AUTO) -> Reranker | None:
        """A reranker for this space, loaded once; None for `none`."""
        if name not in self._rerankers:
            self._rerankers[name] = load_reranker(name, self.encoder, self._device)
        return self._rerankers[name]

    def prepare_tokens(self, item: Item, reranker: str = AUTO) -> "Callable[[], bool] | None":
        """Read the image of an item for a reranker, ahead of the searches that need its tokens.

        Safe beside other calls, once the reranker is loaded. Returns what makes and keeps the
        tokens, and tells whether that was possible; None if there is nothing to make.
        """
        chosen = self.reranker(reranker)
        if chosen is None or has_tokens(item, chosen, self._tokens):
            return None
        pixels = read_pixels(item, chosen, self.library.max_pixels)

        def make() -> bool:
            if pixels is None:
                return False
            with self._lock:
                return bool(keep_tokens([item], [pixels], chosen, self._tokens))

        return make

    def explain(self, text: str, image: "Image.Image", reranker: str = AUTO) -> "Explanation":
        """Tell where the words of a text look in an upright RGB image, and which carry the match.

        Raises UsageError when the reranker of this space cannot say.
        """
        from retrieval.rerankers.explanation import explain

        with self._lock:
            return explain(self.reranker(reranker), self.encoder, text, image)

    def _named_items(
        self, wanted: set[int], snapshot: Snapshot
    ) -> tuple[dict[int, Item], dict[int, Vector]]:
        """Find those of some items that are current, and their unit vectors, by id."""
        items: dict[int, Item] = {}
        vectors: dict[int, Vector] = {}
        places = snapshot.item_rows(self._space_id, sorted(wanted))
        for item_id, (modality, row) in places.items():
            if (item := snapshot.item(item_id)) is not None:
                searcher = self._searcher(modality, snapshot)
                if not searcher.are_whole(np.array([row]))[0]:
                    continue
                items[item_id] = item
                [vector] = self._vectors_at(modality, np.array([row]))
                vectors[item_id] = vector / np.linalg.norm(vector)
        return items, vectors

    def parse(self, query: Query, modalities: Sequence[Modality]) -> ParsedQuery:
        """Turn words of a query into filters that items of some modality pass."""
        with self._lock, self._cache.snapshot() as snapshot:
            return self._parse(query, modalities, snapshot)

    def _parse(
        self, query: Query, modalities: Sequence[Modality], snapshot: Snapshot
    ) -> ParsedQuery:
        """Turn words of a query into filters, if it asks for that."""
        if not query.parse:
            return ParsedQuery(query, query)
        from retrieval.search.parse import parse_query  # its lists of words take a while

        def matches(where: Filter) -> bool:
            return any(self._has_any(modality, where, snapshot) for modality in modalities)

        return parse_query(query, self._cache.words(snapshot), matches, date.today())

    def _has_any(self, modality: Modality, where: Filter, snapshot: Snapshot) -> bool:
        """Return whether some item passes a filter."""
        return bool(self._cache.rows_matching(snapshot, modality, where).any())

    def _plan(
        self,
        parsed: ParsedQuery,
        reranking: Reranking,
        encoded: EncodedQuery | MMSearchError,
        items: Mapping[int, Item],
        snapshot: Snapshot,
    ) -> QueryPlan:
        """Decide which rows may be hits, how they are found, and whether they are reranked."""
        query = parsed.query
        digest = digest_of(parsed.asked, self._space_id, reranking.name, reranking.depth)
        cursor = None if query.cursor is None else Cursor.decode(query.cursor, digest)
        reranker = self.reranker(reranking.name)
        if isinstance(encoded, MMSearchError):
            raise encoded
        where = None if query.where is None or query.where.is_empty else query.where
        snapshot.require_collections(where)
        row_limit, allowed, allowed_are_live = self._allowed(
            query.modality, where, cursor, snapshot
        )
        item_parts = [part for part in query.parts if isinstance(part, ItemPart)]
        named = {part.item_id: items[part.item_id] for part in item_parts}
        kind = _query_kind(query, named)
        mode, text = cursor.mode if cursor else query.mode, NO_TEXT_MATCHES
        if mode is not Mode.VECTOR:
            text = self._match_text(query, mode, where, row_limit, _FIRST_BY_TEXT, snapshot)
            if mode is Mode.AUTO:
                mode = Mode.HYBRID if text.scores else Mode.VECTOR
        if reranker and not can_rerank(reranker, query, mode, kind):
            reranker = None
        depth = (reranking.depth or reranker.depth) if reranker else 0
        seen_ids = cursor.seen_ids if cursor else frozenset()
        excluded_ids = frozenset(named if len(item_parts) == len(query.parts) else ())
        k = min(query.k, MAX_K - len(seen_ids))
        return QueryPlan(
            query,
            digest,
            parsed.understood,
            reranking,
            reranker,
            cursor,
            encoded.vector,
            (*parsed.warnings, *encoded.warnings),
            named,
            kind,
            where,
            row_limit,
            allowed,
            allowed_are_live,
            mode,
            text,
            seen_ids,
            excluded_ids,
            k,
            rerank_count=cursor.reranked_count if cursor and reranker else depth,
            count=max(
                # One more than wanted tells whether others follow.
                len(seen_ids) + len(excluded_ids) + k + 1,
                depth,
                DIVERSE_POOL if query.diversity else 0,
                CUT_POOL if query.least == AUTO_CUT else 0,
            ),
            length=encoded.length,
            unwanted=encoded.unwanted,
            is_plain=_is_plain(query, named),
            unknown_language=None if mode is Mode.TEXT else self._unknown_language(query.words),
        )

    def _allowed(
        self, modality: Modality, where: Filter | None, cursor: Cursor | None, snapshot: Snapshot
    ) -> tuple[int, AllowedRows | None, bool]:
        """Say which rows may be found: their limit, those allowed, whether these are live.

        cursor: of the page before, whose limit holds.
        """
        row_count = self._cache.row_count(snapshot, modality)
        row_limit = min(cursor.row_limit, row_count) if cursor else row_count
        if where is None:
            live = self._cache.live_rows_if_few(modality)
        else:
            live = self._cache.rows_matching(snapshot, modality, where)
        allowed = first_rows(live, row_limit, row_count) if cursor else live
        is_known = live is not None
        return row_limit, None if allowed is None else AllowedRows(allowed, where), is_known

    @property
    def languages(self) -> Languages | None:
        """Return what is declared of the languages that the encoder knows; None if nothing is."""
        return languages_of(self.space.encoder, self.space.weights)

    def _unknown_language(self, words: str) -> str | None:
        """Name the language of words if the encoder does not know it; None if it may."""
        languages = self.languages if words else None
        unknown = languages and unknown_language(words, languages)
        if unknown and self._calibration(Modality.TEXT, pictures=True).known(words) is Known.ALL:
            return None
        return unknown or None

    def _language_warning(self, unknown: str) -> str:
        languages = self.languages
        assert languages is not None
        known = ", ".join(sorted(map(language_name, languages.known)))
        return (
            f"The query seems to be in {unknown}, but {self.space.encoder} knows {known} only: "
            "what it finds by meaning may have nothing to do with the query. `mmsearch encoders "
            "--language CODE` lists encoders that know other languages."
        )

    def _match_text(
        self,
        query: Query,
        mode: Mode,
        where: Filter | None,
        row_limit: int,
        limit: int,
        snapshot: Snapshot,
    ) -> TextMatches:
        """Search for the words of a query. limit: of the rows found by words alone."""
        if not (words := query.words):
            return NO_TEXT_MATCHES
        telling = [
            match
            for match in snapshot.telling_matches(
                self._space_id, query.modality, words, where=where
            )
            if match.row < row_limit
        ]
        # What else the query asks for, the words do not answer.
        weight = query.weight_of_words
        relevance = {match.row: weight * match.share for match in telling}
        if mode is not Mode.TEXT:
            return TextMatches({match.row: match.score for match in telling}, relevance)
        matches = snapshot.text_matches(
            self._space_id, query.modality, words, limit=limit, where=where
        )
        scores = {row: score for row, score in matches if row < row_limit}
        return TextMatches(scores, relevance, exhausted=len(matches) < limit)

    def _answer(
        self, plans: Mapping[int, QueryPlan], snapshot: Snapshot, timer: StageTimer
    ) -> dict[int, Answer]:
        """Find, rerank and order candidates until each page is full, or nothing is left."""
        answers: dict[int, Answer] = {}
        relevance: dict[int, _Relevance] = {}
        reranked: dict[int, RerankOutcome] = {}
        pending = dict(plans)
        while pending:
            found: dict[int, FoundItems] = {}
            for modality in Modality:
                if alike := {p: x for p, x in pending.items() if x.query.modality is modality}:
                    found |= self._find(modality, alike, snapshot, timer)
            with timer("order"):
                new = {place: x for place, x in pending.items() if place not in relevance}
                relevance |= self._judge(new, found)
            if first := {
                place: plan
                for place, plan in pending.items()
                if plan.rerank_count and place not in reranked and len(found[place].nearest)
            }:
                with timer("rerank"):
                    reranked |= self._rerank(first, found)
            with timer("order"):
                for place, plan in pending.items():
                    ordering = self._order(
                        plan, found[place], relevance[place], reranked.get(place)
                    )
                    if ordering.is_full:
                        answers[place] = self._page(
                            plan,
                            found[place],
                            relevance[place].cut,
                            ordering,
                            reranked.get(place),
                            timer,
                        )
            pending = {
                place: self._widen(plan, snapshot)
                for place, plan in pending.items()
                if place not in answers
            }
        return answers

    def _find(
        self,
        modality: Modality,
        plans: Mapping[int, QueryPlan],
        snapshot: Snapshot,
        timer: StageTimer,
    ) -> dict[int, FoundItems]:
        """Find the candidates of queries for one modality, by vector and by text."""
        with timer("candidates"):
            searcher = self._searcher(modality, snapshot)
        nearest = self._nearest(
            searcher,
            {place: plan for place, plan in plans.items() if plan.mode is not Mode.TEXT},
            snapshot,
            timer,
        )
        found = {}
        for place, plan in plans.items():
            candidates, exhausted, at = nearest.get(
                place, (_NO_CANDIDATES, plan.mode is not Mode.TEXT, {})
            )
            by_text = _NO_CANDIDATES
            if plan.text.scores:
                with timer("refine"):
                    rows, similarity = self._best_by_text(plan, searcher)
                with timer("catalog"):
                    at = at | self._cache.items_at(snapshot, modality, rows.tolist(), plan.where)
                by_text = with_words(at_rows(rows, similarity, at), plan.text)
            items = {item.id: item for at_row in at.values() for item in at_row}
            found[place] = FoundItems(candidates, exhausted, by_text, items)
        return found

    def _best_by_text(
        self, plan: QueryPlan, searcher: Searcher
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the best rows that the words of a query find, and their similarities."""
        rows, similarity = best_text_matches(plan.vector, plan.text, searcher.rows, plan.count)
        is_whole = searcher.are_whole(rows)
        return rows[is_whole], similarity[is_whole]

    def _judge(
        self, plans: Mapping[int, QueryPlan], found: Mapping[int, FoundItems]
    ) -> dict[int, _Relevance]:
        """Say how relevant items are to each query, by a sample of the library."""
        alike: dict[tuple[Modality, int], list[int]] = {}
        for place, plan in plans.items():
            alike.setdefault((plan.query.modality, plan.row_limit), []).append(place)
        relevance = {}
        for (modality, limit), places in alike.items():
            sample = self._sample(modality, limit)
            cohorts = np.stack([plans[place].vector for place in places]) @ sample.T
            for place, cohort in zip(places, cohorts, strict=True):
                plan = plans[place]
                calibration = self._calibration(plan.kind, pictures=plan.is_plain)
                usual = 0.0 if plan.unwanted is None else np.median(sample @ plan.unwanted)
                curve = _curve(plan, cohort, calibration, np.float32(usual))
                passes = self._sample_passes(plan)
                outlook = _outlook(plan, found[place], cohort, curve, passes)
                relevance[place] = _Relevance(curve, _cut(plan, outlook, calibration))
        return relevance

    def _sample(self, modality: Modality, row_limit: int) -> NDArray[np.float32]:
        """Return the vectors of a sample of the first rows, (m, d)."""
        searcher = self._searchers[modality]
        return self._cache.sample(modality, searcher.rows[:row_limit], searcher.are_whole)

    def _sample_passes(self, plan: QueryPlan) -> NDArray[np.bool_] | None:
        """Return which of the sample pass the filter of a query, (m,); None: all."""
        if plan.allowed is None:
            return None
        return plan.allowed.bitmap[_sample_rows(plan.row_limit)]

    def _nearest(
        self,
        searcher: Searcher,
        plans: Mapping[int, QueryPlan],
        snapshot: Snapshot,
        timer: StageTimer,
    ) -> dict[int, tuple[Candidates, bool, dict[int, tuple[Item, ...]]]]:
        """Find the items nearest to each vector, whether there are no others, and items by row.

        One call of the index for queries that are searched alike, one of the catalog for those with
        the same filter.
        """
        if not plans:
            return {}
        with timer("candidates"):
            proposed = propose(
                searcher,
                [plan.vector for plan in plans.values()],
                [plan.count for plan in plans.values()],
                [plan.allowed for plan in plans.values()],
                [plan.kind for plan in plans.values()],
            )
        with timer("refine"):
            scored = {
                place: refine(plan.vector, rows, searcher.rows, with_spare(plan.count))
                for (place, plan), rows in zip(plans.items(), proposed, strict=True)
            }
        modality = next(iter(plans.values())).query.modality
        with timer("catalog"):
            wanted: dict[Filter | None, set[int]] = {}
            for place, (rows, _) in scored.items():
                wanted.setdefault(plans[place].where, set()).update(rows.tolist())
            at = {
                where: self._cache.items_at(snapshot, modality, sorted(rows), where)
                for where, rows in wanted.items()
            }
        found = {}
        repeated = {}
        for place, (rows, similarity) in scored.items():
            plan = plans[place]
            candidates = at_rows(rows, similarity, at[plan.where])
            left = len(candidates) - plan.count
            scored_all = with_spare(plan.count) >= (
                plan.row_limit if plan.allowed is None else plan.allowed.count
            )
            if left < 0 and not scored_all and not plan.allowed_are_live:
                # Removed files have taken the place of what is wanted.
                with timer("catalog"):
                    live = self._cache.live_rows(snapshot, modality)[: plan.row_limit]
                repeated[place] = replace(plan, allowed=AllowedRows(live), allowed_are_live=True)
            else:
                exhausted = left < 0 or (left == 0 and scored_all)
                found[place] = candidates.take(slice(plan.count)), exhausted, at[plan.where]
        return found | self._nearest(searcher, repeated, snapshot, timer)

    def _rerank(
        self, plans: Mapping[int, QueryPlan], found: Mapping[int, FoundItems]
    ) -> dict[int, RerankOutcome]:
        """Match the best candidates with their queries, within the time that it may take.

        The time counts for all together: it is what each of them waits for.
        """
        reranked = {}
        for reranker in {id(p.reranker): p.reranker for p in plans.values() if p.reranker}.values():
            alike = {p: plan for p, plan in plans.items() if plan.reranker is reranker}
            texts = [part.text for plan in alike.values() for part in plan.query.text_parts]
            text_tokens = self._vectors.text_tokens(reranker, texts)
            since = None
            for place, plan in alike.items():
                scorer = self._scorer(plan, reranker, text_tokens)
                if scorer is None:
                    reranked[place] = RerankOutcome(None, warnings=(_UNREADABLE,))
                    continue
                first = found[place].nearest.ids[: plan.rerank_count].tolist()
                reranked[place] = rerank(
                    [found[place].items[item_id] for item_id in first],
                    scorer,
                    reranker,
                    self._tokens,
                    # Later pages rerank what the first one had the time for.
                    budget_ms=None if plan.cursor else plan.reranking.budget_ms,
                    since=since,
                    max_pixels=self._max_pixels,
                )
                since = since or time.monotonic()
        return reranked

    def _max_pixels(self) -> int | None:
        return self.library.max_pixels

    def _scorer(
        self, plan: QueryPlan, reranker: Reranker, text_tokens: Mapping[str, Tokens]
    ) -> Scorer | None:
        """Make the scorer of a query's images; None if the picture of one of its items is gone."""
        if texts := plan.query.text_parts:
            tokens = stack_tokens([text_tokens[part.text].values[0] for part in texts])
            return text_scorer(reranker, tokens, [part.weight for part in texts])
        images = [
            self._vectors.image_tokens(reranker, part)
            if isinstance(part, ImagePart)
            else item_tokens(plan.items[part.item_id], reranker, self._tokens, self._max_pixels)
            for part in plan.query.parts
            if isinstance(part, ImagePart | ItemPart)
        ]
        known = [tokens for tokens in images if tokens is not None]
        if len(known) < len(images):
            return None
        return image_scorer(reranker, known, [part.weight for part in plan.query.parts])

    def _order(
        self,
        plan: QueryPlan,
        found: FoundItems,
        relevance: _Relevance,
        reranked: RerankOutcome | None,
    ) -> _Ordering:
        """Put what was found so far into the order of the hits, but for its diversity."""
        query, (curve, cut) = plan.query, relevance
        if plan.mode is Mode.TEXT:
            ranked, exhausted = rank_by_text(found.by_text), plan.text.exhausted
        else:
            ranked, exhausted = found.nearest, found.exhausted
            if reranked is not None:
                ranked = rank_by_vector(ranked, reranked.match, reranked.weight)
            if plan.mode is Mode.HYBRID:
                ranked = join_lexical(with_words(ranked, plan.text), found.by_text)
            if cut.least and len(found.nearest) and len(plan.text.scores) <= plan.count:
                # All others are less similar than the last, and so less relevant; and all that the
                # words find are among the candidates.
                [last] = curve(found.nearest.similarity[-1:])
                exhausted = exhausted or bool(last < cut.least)
        ranked = exclude(ranked, plan.excluded_ids)
        ranked = calibrate(ranked, curve, cut.least, is_hybrid=plan.mode is Mode.HYBRID)
        kept = float(len(ranked)) if exhausted else cut.kept
        groups: Groups = {}
        if query.group_by_file:
            files = [found.items[item_id].path for item_id in ranked.ids.tolist()]
            ranked, groups = collapse_by_file(ranked, files)
        exhausted = exhausted or plan.count >= _MAX_CANDIDATES
        if query.sort is not Sort.RELEVANCE:
            items = [found.items[item_id] for item_id in ranked.ids.tolist()]
            ranked = ranked.take(places_in_order(items, query.sort))
            # One that is still to be found may be newer than all others.
            return _Ordering(ranked, groups, exhausted, exhausted, kept)
        has_enough = len(exclude(ranked, plan.seen_ids, groups)) > plan.k
        has_pool = not query.diversity or len(ranked) >= DIVERSE_POOL
        is_full = exhausted or (has_enough and has_pool)
        return _Ordering(ranked, groups, exhausted, is_full, kept)

    def _page(
        self,
        plan: QueryPlan,
        found: FoundItems,
        cut: Cut,
        ordering: _Ordering,
        reranked: RerankOutcome | None,
        timer: StageTimer,
    ) -> Answer:
        """Cut the page of hits, and make the cursor of the next."""
        ordered, groups, exhausted, _, kept = ordering
        query = plan.query
        if query.diversity and len(ordered):
            pool = self._vectors_at(query.modality, ordered.rows[:DIVERSE_POOL])
            ordered = diversify(ordered, pool, query.diversity)
        left = exclude(ordered, plan.seen_ids, groups)
        page = left.take(slice(plan.k))
        hits = make_hits(page, found.items, groups, first_rank=len(plan.seen_ids) + 1)
        seen_ids = plan.seen_ids.union(page.ids.tolist())
        match = None if reranked is None else reranked.match
        technical = (
            *self.library.warnings,
            *(reranked.warnings if reranked else ()),
            *self._troubles(query.modality),
        )
        next_cursor = None
        if len(page) and (len(left) > len(page) or not exhausted) and len(seen_ids) < MAX_K:
            before = plan.cursor.reranked_count if plan.cursor else 0
            count = before if match is None else len(match)
            next_cursor = Cursor(
                plan.digest,
                plan.row_limit,
                plan.mode,
                count,
                seen_ids,
                # Rounded: the last digits depend on which queries were answered together.
                float(f"{cut.least:.4g}"),
                float(f"{cut.expected:.4g}"),
            ).encode()
        return Answer(
            hits,
            timer.timings_ms,
            (
                *plan.warnings,
                *technical,
                *self._doubts(plan, is_unsure=cut.is_unsure and len(page) > 0),
            ),
            reranker=plan.reranker.name if plan.reranker and match is not None else None,
            reranked=0 if match is None else int(np.count_nonzero(~np.isnan(match))),
            mode=plan.mode,
            next_cursor=next_cursor,
            understood=plan.understood,
            expected=None if plan.mode is Mode.TEXT else cut.expected,
            left_out=max(0, round(plan.total - kept)) if cut.least else 0,
            unknown_language=plan.unknown_language,
            technical=technical,
        )

    def _vectors_at(self, modality: Modality, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors of n rows that were found, (n, d)."""
        vectors: NDArray[np.float32] = self._searchers[modality].rows[rows].astype(np.float32)
        return vectors

    def _troubles(self, modality: Modality) -> tuple[str, ...]:
        """Say what was wrong with the search of a modality, for the user."""
        searcher = self._searchers[modality]
        return tuple(text for text in (searcher.problem, searcher.damage) if text)

    def _doubts(self, plan: QueryPlan, *, is_unsure: bool) -> tuple[str, ...]:
        """Warn that hits are likely wrong: by the query's language, else without a reason."""
        if plan.unknown_language:
            return (self._language_warning(plan.unknown_language),)
        return (_UNSURE,) if is_unsure else ()

    def _widen(self, plan: QueryPlan, snapshot: Snapshot) -> QueryPlan:
        """Fetch several times as many candidates."""
        count, text = min(_MAX_CANDIDATES, _WIDEN * plan.count), plan.text
        if plan.mode is Mode.TEXT:
            text = self._match_text(
                plan.query, plan.mode, plan.where, plan.row_limit, count, snapshot
            )
        return replace(plan, count=count, text=text)

    def _searcher(self, modality: Modality, snapshot: Snapshot) -> Searcher:
        """Return the searcher of a modality, over at least the rows that are committed."""
        if modality not in self._searchers:
            self._searchers[modality] = Searcher(
                self.library.space_directory(self.space),
                modality,
                self.library.embeddings(self.space, modality),
                self._device,
            )
        searcher = self._searchers[modality]
        row_count = self._cache.row_count(snapshot, modality)
        if row_count < len(searcher.rows):  # the space was removed, and perhaps added again
            self._forget_rows(modality)
            return self._searcher(modality, snapshot)
        searcher.refresh(row_count, self._cache.checksum_count(snapshot, modality))
        return searcher

    def _forget_rows(self, modality: Modality) -> None:
        del self._searchers[modality]
        self._cache.forget_samples()


_sample_rows = lru_cache(8)(sample_rows)
_ROUNDING = 1e-5
"""Of similarities that are computed one by one or many at once."""


def _curve(
    plan: QueryPlan, cohort: Vector, calibration: AnyCalibration, usual: np.float32
) -> Curve:
    """Return the curve of a query's relevances over its similarities.

    usual: what its unwanted parts take off from most items, which is no reason to doubt these.
    """
    length = np.float32(plan.length)
    curve = calibration.curve(length * cohort + usual, plan.query.words)
    return lambda similarity: curve(length * similarity + usual)


def _outlook(
    plan: QueryPlan,
    found: FoundItems,
    cohort: Vector,
    curve: Curve,
    passes: NDArray[np.bool_] | None,
) -> Outlook:
    """Say how relevant the nearest are, and by a sample of the library all others.

    passes: which of the sample pass the filter of the query; None: all.
    """
    pool = found.nearest.similarity[:CUT_POOL]
    # Clearly below: the last of the nearest is in the sample, too, with another rounding.
    others = cohort < pool[-1] - _ROUNDING if len(pool) else np.ones(len(cohort), np.bool_)
    if passes is not None:
        others &= passes
    is_all = found.exhausted and len(pool) and len(pool) == len(found.nearest)
    return Outlook.of(curve(pool), curve(cohort[others]), 0 if is_all else plan.total - len(pool))


def _cut(plan: QueryPlan, outlook: Outlook, calibration: AnyCalibration) -> Cut:
    """Decide from which relevance hits of a query are shown."""
    least = plan.query.least
    if plan.cursor:
        if least == AUTO_CUT:
            least = plan.cursor.least
        return replace(outlook.at(least), expected=plan.cursor.expected)
    if least != AUTO_CUT:
        return outlook.at(least)
    return outlook.best(known=calibration.known(plan.query.words))


def _query_kind(query: Query, named: Mapping[int, Item]) -> QueryKind:
    """Say what a query is of: of text if any part of it is, else of sound if any is."""
    found = {MODALITIES[type(part)] for part in query.parts if type(part) in MODALITIES}
    found.update(item.modality for item in named.values())
    kinds = Modality.TEXT, Modality.AUDIO
    return next((kind for kind in kinds if kind in found), Modality.IMAGE)


def _is_plain(query: Query, named: Mapping[int, Item]) -> bool:
    """Return whether a query is of texts or of pictures alone, and for pictures."""
    unlike = [part for part in query.parts if part.weight < 0]
    if query.modality is not Modality.IMAGE or not all(isinstance(p, TextPart) for p in unlike):
        return False
    wanted = [part for part in query.parts if part.weight > 0]
    if any(item.modality is not Modality.IMAGE for item in named.values()):
        return False
    return len({isinstance(part, TextPart) for part in wanted}) == 1


def _stack(vectors: Sequence[Vector], dimension: int) -> Vectors:
    return np.stack(vectors) if vectors else np.empty((0, dimension), np.float32)
