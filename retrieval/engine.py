"""Query -> vector -> candidates -> refine -> rerank -> hits: the engine that joins the stages."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from retrieval.catalog import Item, Modality, Snapshot
from retrieval.encoders.base import Encoder, Space
from retrieval.encoders.registry import load_encoder
from retrieval.errors import UsageError
from retrieval.fusion.base import Reranker
from retrieval.fusion.registry import AUTO, load_reranker
from retrieval.fusion.stage import ImageReranking
from retrieval.indices.searcher import Searcher, refine
from retrieval.library import Library
from retrieval.live_rows import LiveRows
from retrieval.query import MAX_K, ImagePart, Query, TextPart

if TYPE_CHECKING:
    from PIL import Image

    from retrieval.fusion.explanation import Explanation

DEFAULT_BUDGET_MS = 2000.0

_SPARE_ROWS = 8
"""Rows beyond those wanted, for removed files may have taken the place of some."""


@dataclass(frozen=True)
class Hit:
    """An item in the answer. Scores that do not exist are None.

    similarity: cosine, -1..1; match: the reranker's logit, 0 at even odds, or, for a query of
    images alone, its likeness, -1..1; relevance: calibrated, 0..1.
    """

    rank: int
    item: Item
    similarity: float
    match: float | None = None
    relevance: float | None = None

    @property
    def path(self) -> str:
        """The file of the item."""
        return self.item.path


@dataclass(frozen=True)
class Reranking:
    """How the best candidates are scored again.

    name: `auto`, `none` or another name that `load_reranker` knows. depth: how many candidates;
    None: as many as the reranker says. budget_ms: wall time that it may take; None: all it needs.
    """

    name: str = AUTO
    depth: int | None = None
    budget_ms: float | None = DEFAULT_BUDGET_MS

    def __post_init__(self) -> None:
        if self.depth is not None and not 1 <= self.depth <= MAX_K:
            raise UsageError(f"The rerank depth must be between 1 and {MAX_K:,}, not {self.depth}.")
        if self.budget_ms is not None and not self.budget_ms >= 0:
            raise UsageError(f"The rerank budget cannot be {self.budget_ms} ms.")


@dataclass(frozen=True)
class Answer:
    """Hits, best first; the wall time of each stage in milliseconds; what the user should know.

    reranker: whose match is in the hits, if any. reranked: how many candidates it scored; they
    stand before all others.
    """

    hits: tuple[Hit, ...]
    timings_ms: dict[str, float]
    warnings: tuple[str, ...] = ()
    reranker: str | None = None
    reranked: int = 0


@dataclass
class StageClock:
    """Adds up the wall time of named stages, in milliseconds."""

    timings_ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time the block as (a part of) a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            elapsed = (time.perf_counter() - start) * 1000
            self.timings_ms[stage] = self.timings_ms.get(stage, 0.0) + elapsed


def encode_query(encoder: Encoder, query: Query) -> NDArray[np.float32]:
    """Join a query's parts into one vector, (d,) float32 of unit L2 norm.

    Raises UsageError when the weighted parts cancel out.
    """
    texts = [part for part in query.parts if isinstance(part, TextPart)]
    images = [part for part in query.parts if isinstance(part, ImagePart)]
    total = np.zeros(encoder.space.dimension, dtype=np.float32)
    if texts:
        vectors = encoder.encode_texts([part.text for part in texts])
        total += np.array([part.weight for part in texts], dtype=np.float32) @ vectors
    if images:
        pixels = np.stack([encoder.preprocess(part.image) for part in images])
        vectors = encoder.encode_images(pixels)
        total += np.array([part.weight for part in images], dtype=np.float32) @ vectors
    norm = float(np.linalg.norm(total))
    if norm < 1e-6:
        raise UsageError("The parts of the query cancel each other out: nothing is left to find.")
    return total / np.float32(norm)


class Engine:
    """Answers queries over one space of a library; new items are seen at the next query.

    One search at a time; `search` may be called from several threads. The encoder is loaded at the
    first query.
    """

    def __init__(
        self, library: Library, *, space_id: str | None = None, device: str = "auto"
    ) -> None:
        self.library = library
        self.space: Space = library.space(space_id)
        self._device = device
        self._encoder: Encoder | None = None
        self._searchers: dict[Modality, Searcher] = {}
        self._live_rows = LiveRows(library.catalog, self.space.id)
        self._rerankers: dict[str, Reranker | None] = {}
        self._lock = threading.Lock()

    @property
    def encoder(self) -> Encoder:
        """The space's own encoder; raises SpaceMismatchError if its weights have changed."""
        if self._encoder is None:
            encoder = load_encoder(self.space.encoder, device=self._device)
            self.library.require_space(encoder.space, among=self.space)
            self._encoder = encoder
        return self._encoder

    def search(self, query: Query, reranking: Reranking = Reranking()) -> Answer:
        """Find the best k items of the query's modality.

        Texts of the query are matched with images; a query of images alone is reranked by
        likeness, where the reranker knows it; one for texts is not. Raises UsageError for an
        unknown reranker.
        """
        clock = StageClock()
        with self._lock, clock("total"):
            with clock("load"):
                encoder = self.encoder
                reranker = self.reranker(reranking.name)
            if reranker and not _can_rerank(reranker, query):
                reranker = None
            with clock("encode"):
                vector = encode_query(encoder, query)
            depth = (reranking.depth or reranker.depth) if reranker else 0
            with self.library.catalog.snapshot() as snapshot:
                found = self._find(vector, query, max(query.k, depth), snapshot, clock)
            warnings = _truncations(encoder, query) + self._index_problems(query.modality)
            answer = Answer(found, clock.timings_ms, warnings)
            if reranker and found:
                with clock("rerank"):
                    stage = ImageReranking(reranker, self.library.tokens, reranking.budget_ms)
                    answer = _rerank(answer, stage, query, depth)
        hits = (replace(hit, rank=rank) for rank, hit in enumerate(answer.hits[: query.k], start=1))
        return replace(answer, hits=tuple(hits))

    def reranker(self, name: str = AUTO) -> Reranker | None:
        """A reranker for this space, loaded once; None for `none`."""
        if name not in self._rerankers:
            self._rerankers[name] = load_reranker(name, self.encoder, self._device)
        return self._rerankers[name]

    def explain(self, text: str, image: "Image.Image", reranker: str = AUTO) -> "Explanation":
        """Tell where the words of a text look in an upright RGB image, and which carry the match.

        Raises UsageError when the reranker of this space cannot say.
        """
        from retrieval.fusion.explanation import explain

        with self._lock:
            return explain(self.reranker(reranker), self.encoder, text, image)

    def _find(
        self,
        vector: NDArray[np.float32],
        query: Query,
        count: int,
        snapshot: Snapshot,
        clock: StageClock,
    ) -> tuple[Hit, ...]:
        with clock("catalog"):
            row_count = snapshot.row_count(self.space.id, query.modality)
        if row_count == 0:
            return ()
        with clock("candidates"):
            searcher = self._searcher(query.modality)
            searcher.refresh(row_count)
        live = self._live_rows.if_few(query.modality)
        is_text = any(isinstance(part, TextPart) for part in query.parts)
        wanted = count + max(_SPARE_ROWS, count // 4)
        while True:
            with clock("candidates"):
                [proposed] = searcher.candidates(
                    vector[np.newaxis], wanted, live, "text" if is_text else "image"
                )
            with clock("refine"):
                rows, scores = refine(vector, proposed[proposed >= 0], searcher.rows)
                rows, scores = rows[:wanted], scores[:wanted]
            with clock("catalog"):
                items = snapshot.items_at(self.space.id, query.modality, rows.tolist())
            found = [
                (item, float(score))
                for row, score in zip(rows.tolist(), scores, strict=True)
                for item in items.get(row, ())
            ]
            if len(found) >= count or live is not None or wanted >= row_count:
                break
            with clock("catalog"):  # rows of removed and changed files took the place of hits
                live = self._live_rows.of(query.modality)
        return tuple(
            Hit(rank, item, similarity)
            for rank, (item, similarity) in enumerate(found[:count], start=1)
        )

    def _searcher(self, modality: Modality) -> Searcher:
        if modality not in self._searchers:
            self._searchers[modality] = Searcher(
                self.library.space_directory(self.space),
                modality,
                self.library.embeddings(self.space, modality),
            )
        return self._searchers[modality]

    def _index_problems(self, modality: Modality) -> tuple[str, ...]:
        searcher = self._searchers.get(modality)
        if searcher is None or searcher.problem is None:
            return ()
        return (
            f"{searcher.problem}. It was not used: all {modality}s were compared one by one, which "
            "is slower. `mmsearch build-index` makes it anew.",
        )


def _can_rerank(reranker: Reranker, query: Query) -> bool:
    has_text = any(isinstance(part, TextPart) for part in query.parts)
    return query.modality is Modality.IMAGE and (has_text or reranker.likeness_weight > 0)


def _rerank(answer: Answer, stage: ImageReranking, query: Query, depth: int) -> Answer:
    """Put the first `depth` hits into the order of their joined scores, as far as time allows."""
    candidates = answer.hits[:depth]
    items = [hit.item for hit in candidates]
    similarity = np.array([hit.similarity for hit in candidates], np.float32)
    texts = [(part.text, part.weight) for part in query.parts if isinstance(part, TextPart)]
    images = [(part.image, part.weight) for part in query.parts if isinstance(part, ImagePart)]
    if texts:
        outcome = stage.rank(texts, items, similarity)
    else:
        outcome = stage.rank_like(images, items, similarity)
    reranked = [
        replace(candidates[place], match=match)
        for place, match in zip(outcome.order, outcome.matches, strict=True)
    ]
    done = set(outcome.order)
    rest = [hit for place, hit in enumerate(answer.hits) if place not in done]
    return replace(
        answer,
        hits=(*reranked, *rest),
        warnings=answer.warnings + outcome.warnings,
        reranker=stage.reranker.name,
        reranked=len(reranked),
    )


def _truncations(encoder: Encoder, query: Query) -> tuple[str, ...]:
    warnings = []
    for part in query.parts:
        if isinstance(part, TextPart):
            length = encoder.token_count(part.text)
            if length > encoder.context_length:
                warnings.append(
                    f"The text has {length:,} tokens, but {encoder.space.encoder} reads only "
                    f"{encoder.context_length}: its end was not searched for."
                )
    return tuple(warnings)
