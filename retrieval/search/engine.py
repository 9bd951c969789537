"""Query -> vector -> candidates -> refine -> rerank -> hits: the engine that joins the stages."""

import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from retrieval.catalog import Modality, Snapshot
from retrieval.encoders.base import Encoder, Space, Vectors
from retrieval.encoders.registry import load_encoder
from retrieval.errors import (
    EncoderUnavailableError,
    MMSearchError,
    NotFoundError,
    SpaceMismatchError,
    UsageError,
)
from retrieval.indices.searcher import Searcher
from retrieval.library import Library
from retrieval.machine import keep_numpy_on_one_thread
from retrieval.rerankers.base import Reranker
from retrieval.rerankers.registry import AUTO, load_reranker
from retrieval.rerankers.token_cache import TokenMemory
from retrieval.search.answer import DEFAULT_BUDGET_MS, Answer, Hit, Reranking
from retrieval.search.candidates import Candidate, nearest_items, similarities
from retrieval.search.cursor import Cursor, digest_of
from retrieval.search.encode import (
    CountedCache,
    EncodedText,
    QueryVectors,
    Vector,
    join_parts,
    truncations,
)
from retrieval.search.item_cache import ItemCache
from retrieval.search.live_rows import LiveRows
from retrieval.search.ordering import DIVERSE_POOL, FUSED_POOL, spread_out
from retrieval.search.query import ImagePart, ItemPart, Mode, Query, TextPart
from retrieval.search.relevance import Calibration, QueryKind, calibration_for
from retrieval.search.rerank import can_rerank, rerank
from retrieval.search.row_sets import RowSets, within
from retrieval.search.score_normalization import Backgrounds
from retrieval.search.state import Search
from retrieval.search.timer import StageClock

if TYPE_CHECKING:
    from PIL import Image

    from retrieval.rerankers.explanation import Explanation

__all__ = ["DEFAULT_BUDGET_MS", "Answer", "Engine", "Hit", "Reranking"]

_AS_USUAL = Reranking()


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
        self._live_rows = LiveRows(library.catalog, self.space.id)
        self._row_sets = RowSets(self.space.id)
        self._items = ItemCache(self.space.id)
        self._backgrounds = Backgrounds()
        self._tokens = TokenMemory(library.tokens)
        self._rerankers: dict[str, Reranker | None] = {}
        self._calibrations: dict[str, Calibration] = {}
        self._lock = threading.Lock()

    @property
    def encoder(self) -> Encoder:
        """The space's own encoder; raises SpaceMismatchError if its weights have changed."""
        if self._encoder is None:
            encoder = load_encoder(self.space.encoder, self._device, self.space.weights)
            self.library.require_space(encoder.space, among=self.space)
            self._encoder = encoder
        return self._encoder

    @property
    def vector_cache(self) -> CountedCache[EncodedText]:
        """Vectors of texts that were asked for lately, and how often it had them or not."""
        return self._vectors.texts

    @property
    def generations(self) -> dict[Modality, int]:
        """The number of the index that is in use, of each modality that has one and was asked."""
        found = {modality: s.generation for modality, s in list(self._searchers.items())}
        return {modality: used.number for modality, used in found.items() if used is not None}

    def search(self, query: Query, reranking: Reranking = _AS_USUAL) -> Answer:
        """Find the best k items of the query's modality.

        Texts of the query are matched with images; a query of images alone is reranked by
        image similarity, if the reranker has one; one for texts is not. Raises UsageError for an
        unknown reranker and a cursor of another query, NotFoundError for an unknown item.
        """
        [answer] = self.search_many([(query, reranking)])
        if isinstance(answer, MMSearchError):
            raise answer
        return answer

    def search_many(
        self, requests: Sequence[tuple[Query, Reranking]]
    ) -> list[Answer | MMSearchError]:
        """Answer several queries together, each as `search` does, for less than one by one.

        What is wrong with a request stands in its place, and leaves the others alone. Raises what
        concerns all: an encoder that is not the library's, a library that is damaged.
        """
        clock = StageClock()
        searches = [Search(query, reranking) for query, reranking in requests]
        with self._lock, clock("total"):
            with clock("load"):
                _ = self.encoder
                _each(searches, self._begin)
            version = self.library.catalog.version()
            with self.library.catalog.snapshot() as snapshot:
                with clock("encode"):
                    self._encode(searches, snapshot)
                with clock("catalog"):
                    _each(searches, lambda search: self._restrict(search, snapshot, version))
                self._find(_good(searches), snapshot, version, clock)
        return [search.error or search.answer(clock.timings_ms) for search in searches]

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

    def explain(self, text: str, image: "Image.Image", reranker: str = AUTO) -> "Explanation":
        """Tell where the words of a text look in an upright RGB image, and which carry the match.

        Raises UsageError when the reranker of this space cannot say.
        """
        from retrieval.rerankers.explanation import explain

        with self._lock:
            return explain(self.reranker(reranker), self.encoder, text, image)

    def _begin(self, search: Search) -> None:
        query, reranking = search.query, search.reranking
        search.reranker = self.reranker(reranking.name)
        search.digest = digest_of(query, self.space.id, reranking.name, reranking.depth)
        if query.cursor is not None:
            search.cursor = Cursor.decode(query.cursor, search.digest)

    def _encode(self, searches: Sequence[Search], snapshot: Snapshot) -> None:
        """Encode all that is new of all queries at once, and join the parts of each."""
        good = _good(searches)
        item_vectors = self._item_vectors(good, snapshot)
        parts = [part for search in good for part in search.query.parts]
        texts = self._vectors.of_texts(part.text for part in parts if isinstance(part, TextPart))
        images = [part for part in parts if isinstance(part, ImagePart)]
        by_digest = dict(
            zip((part.digest for part in images), self._vectors.of_images(images), strict=True)
        )

        def vector_of(part: TextPart | ImagePart | ItemPart) -> Vector:
            if isinstance(part, TextPart):
                return texts[part.text].vector
            if isinstance(part, ImagePart):
                return by_digest[part.digest]
            return item_vectors[part.item_id]

        def join(search: Search) -> None:
            parts = search.query.parts
            search.vector = join_parts([part.weight for part in parts], [*map(vector_of, parts)])
            search.warnings = truncations(self.encoder, search.query, texts)

        _each(good, join)

    def _item_vectors(self, searches: Sequence[Search], snapshot: Snapshot) -> dict[int, Vector]:
        """Vectors of the items that queries name, as they are stored; the queries get the items."""
        wanted = {item_id for search in searches for item_id in search.query.item_ids}
        if not wanted:
            return {}
        places = snapshot.item_rows(self.space.id, sorted(wanted))
        items = {item_id: snapshot.item(item_id) for item_id in places}

        def look_up(search: Search) -> None:
            for item_id in search.query.item_ids:
                item = items.get(item_id)
                if item is None:
                    raise NotFoundError(
                        f"There is no item {item_id} to compare with: its file was removed or "
                        "changed, or it never was."
                    )
                search.items[item_id] = item

        _each(searches, look_up)
        vectors = {}
        for item_id, (modality, row) in places.items():
            searcher = self._searcher(modality, snapshot.row_count(self.space.id, modality))
            vector = searcher.rows[row].astype(np.float32)
            vectors[item_id] = vector / np.linalg.norm(vector)
        return vectors

    def _restrict(self, search: Search, snapshot: Snapshot, version: int) -> None:
        """Say which rows may be found, how, and whether the reranker looks at the best of them."""
        modality = search.modality
        row_count = snapshot.row_count(self.space.id, modality)
        search.extent = min(search.cursor.extent, row_count) if search.cursor else row_count
        allowed = None
        if search.where is not None:
            allowed = self._row_sets.matching(snapshot, version, modality, search.where)
            search.is_live = True
        elif (live := self._live_rows.if_few(modality)) is not None:
            allowed, search.is_live = live, True
        search.allowed = within(allowed, search.extent, row_count)
        self._find_words(search, snapshot)
        if search.reranker and not can_rerank(search.reranker, search):
            search.reranker = None
        search.count = search.first_count()

    def _find_words(self, search: Search, snapshot: Snapshot, limit: int = FUSED_POOL) -> None:
        """Decide how hits are found, and find by words what is to be."""
        query = search.query
        mode = search.cursor.mode if search.cursor else query.mode
        if mode is Mode.VECTOR or not query.words:
            search.mode = Mode.VECTOR
            return
        # `auto` began with files that hold all words, and goes on with those.
        matches = snapshot.text_matches(
            self.space.id,
            search.modality,
            query.words,
            limit=limit,
            where=search.where,
            all_words=query.mode is Mode.AUTO,
        )
        search.words = {row: score for row, score in matches if row < search.extent}
        search.words_are_all = len(matches) < limit
        search.mode = mode
        if mode is Mode.AUTO:
            search.mode = Mode.HYBRID if search.words else Mode.VECTOR

    def _find(
        self, searches: Sequence[Search], snapshot: Snapshot, version: int, clock: StageClock
    ) -> None:
        """Look for candidates and put them in order until each page is full, or nothing is left."""
        pending = searches
        while pending:
            for modality in Modality:
                if alike := [search for search in pending if search.modality is modality]:
                    self._find_alike(modality, alike, snapshot, version, clock)
            if unranked := [s for s in pending if s.is_to_rerank]:
                with clock("rerank"):
                    rerank(unranked, self._vectors, self._tokens)
            with clock("order"):
                for search in pending:
                    search.order(self._calibration(search.kind))
            pending = [search for search in pending if search.needs_more]
            for search in pending:
                search.ask_for_more()
                if search.mode is Mode.TEXT:
                    self._find_words(search, snapshot, search.count)
        with clock("order"):
            for search in searches:
                search.warnings += self._index_problems(search.modality)
                if search.query.diversity and search.ordered:
                    pool = [one.candidate.row for one in search.ordered[:DIVERSE_POOL]]
                    rows = self._searchers[search.modality].rows[pool].astype(np.float32)
                    search.ordered = spread_out(search.ordered, rows, search.query.diversity)

    def _find_alike(
        self,
        modality: Modality,
        searches: Sequence[Search],
        snapshot: Snapshot,
        version: int,
        clock: StageClock,
    ) -> None:
        """Find the candidates of queries for one modality."""
        row_count = snapshot.row_count(self.space.id, modality)
        if row_count == 0:
            return
        with clock("candidates"):
            searcher = self._searcher(modality, row_count)
        items_at = partial(self._items.items_at, snapshot, version, modality)
        by_vector = [search for search in searches if search.mode is not Mode.TEXT]
        found = nearest_items(
            searcher,
            [search.wanted for search in by_vector],
            items_at,
            lambda: self._live_rows.of(modality),
            clock,
        )
        for search, nearest in zip(by_vector, found, strict=True):
            search.nearest = nearest
        for search in (one for one in searches if one.words):
            with clock("catalog"):
                items = items_at(search.where, [*search.words])
            with clock("refine"):
                exact = similarities(search.vector, [*search.words], searcher)
            search.found_by_words = tuple(
                Candidate(item, row, exact[row]) for row in search.words for item in items[row]
            )
        with clock("order"):
            for extent in {search.extent for search in searches}:
                alike = [search for search in searches if search.extent == extent]
                vectors = np.stack([search.vector for search in alike])
                compared = self._backgrounds.similarities(vectors, modality, searcher.rows[:extent])
                for search, background in zip(alike, compared, strict=True):
                    search.background = background

    def _searcher(self, modality: Modality, row_count: int) -> Searcher:
        """The searcher of a modality, over at least so many rows."""
        if modality not in self._searchers:
            self._searchers[modality] = Searcher(
                self.library.space_directory(self.space),
                modality,
                self.library.embeddings(self.space, modality),
                self._device,
            )
        searcher = self._searchers[modality]
        searcher.refresh(row_count)
        return searcher

    def _calibration(self, kind: QueryKind) -> Calibration:
        if kind not in self._calibrations:
            own = self.library.space_directory(self.space)
            self._calibrations[kind] = calibration_for(self.space, kind, own)
        return self._calibrations[kind]

    def _index_problems(self, modality: Modality) -> tuple[str, ...]:
        searcher = self._searchers.get(modality)
        if searcher is None:
            return ()
        if searcher.device_problem is not None:
            return (searcher.device_problem,)
        if searcher.problem is None:
            return ()
        return (
            f"{searcher.problem}. It was not used: all {modality}s were compared one by one, which "
            "is slower. `mmsearch build-index` makes it anew.",
        )


def _good(searches: Iterable[Search]) -> list[Search]:
    return [search for search in searches if search.error is None]


def _each(searches: Iterable[Search], step: Callable[[Search], None]) -> None:
    """Take a step with each query that is good so far; one that fails remembers why."""
    for search in _good(searches):
        try:
            step(search)
        except (UsageError, NotFoundError, EncoderUnavailableError, SpaceMismatchError) as error:
            search.error = error


def _stack(vectors: Sequence[Vector], dimension: int) -> Vectors:
    return np.stack(vectors) if vectors else np.empty((0, dimension), np.float32)
