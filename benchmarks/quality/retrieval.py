"""How well an encoder and an index find what a dataset calls relevant, as users would search."""

import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from benchmarks.datasets import RetrievalDataset
from benchmarks.metrics import Judgments, judge_scores
from benchmarks.quality.embedding_cache import EmbeddingCache
from benchmarks.quality.token_store import TokenStore
from retrieval.embeddings import EmbeddingsFile, Rows
from retrieval.encoders.base import Encoder, Space
from retrieval.indices.base import Effort
from retrieval.indices.build import build
from retrieval.indices.faiss.ivf import FactoryIndex
from retrieval.indices.refine import refine, search_refined
from retrieval.indices.searcher import Searcher
from retrieval.indices.tuning import TuningQueries
from retrieval.indices.tuning_queries import encoded_texts
from retrieval.media import Modality
from retrieval.rerankers.base import Reranker
from retrieval.search.answer import StageTimer
from retrieval.search.candidates import Candidates, propose
from retrieval.search.ordering import exclude, rank_by_vector
from retrieval.search.rerank import image_text_scorer, text_scorer

FOUND_KEPT = 3
"""First items of each ranked list that a result holds."""

FLAT = "flat"
AUTO = "auto"
RERANKED_DIRECTIONS = ("t2i", "i2t")
"""A reranker scores a text with an image; the other directions have no such pair."""

_QUERIES_PER_BLOCK = 256
_TUNING_QUERIES = 500
"""As many as a library's index is tuned with."""


@dataclass(frozen=True)
class Setup:
    """What is measured beside the encoder.

    index: `flat` (exact, as small libraries are searched), `auto` (built and tuned as for a library
    of this size) or a FAISS factory string;
    nprobe: inverted lists visited a query, not by `auto`.
    refine: score `overfetch * depth` candidates exactly and keep the best. depth: length of the
    ranked lists; None: all items. directions: `t2i`, `i2t`, `i2i`, `t2t`.
    rerank: the reranker's name as it was asked for; rerank_depth: how many items of each list it
    scores; None: as many as the reranker says.
    """

    index: str = FLAT
    nprobe: int = 16
    refine: bool = True
    overfetch: int = 10
    depth: int | None = None
    directions: tuple[str, ...] = ("t2i", "i2t")
    seed: int = 0
    rerank: str = "none"
    rerank_depth: int | None = None


@dataclass(frozen=True)
class RerankerDescription:
    """The reranker of a result: `depth` is how many items of each list it scored, at most."""

    name: str
    identity: str
    match_weight: float
    depth: int


@dataclass(frozen=True)
class RankedList:
    """The items found for one query, best first, with their scores.

    Scores are similarities. In a reranked list they are joined scores down to the reranker's depth
    and negative whole numbers below it, which say the order and nothing else. Where two are equal,
    the later one is given the next smaller number.
    """

    query_id: str
    item_ids: tuple[str, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class DirectionResult:
    """One direction, measured. `groups`: for each judged query, what it must be resampled with.

    reranked: how many items of each list a reranker scored; 0 where none did. found: for each
    judged query, the ids of its first items; empty in results that were written without.
    """

    direction: str
    judgments: Judgments
    groups: tuple[str, ...]
    items: int
    index: str
    milliseconds: dict[str, float]
    truncated_texts: int
    reranked: int = 0
    found: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, eq=False)
class QualityResult:
    """Everything that was measured, and everything that produced it.

    `measured` is the dataset without the images that could not be read. `reranker` is what scored
    the best items of the directions that have `reranked` above 0.
    """

    measured: RetrievalDataset
    dataset: dict[str, Any]
    space: Space
    setup: Setup
    directions: dict[str, DirectionResult]
    environment: dict[str, Any] = field(default_factory=dict)
    reranker: RerankerDescription | None = None


def measure_quality(
    dataset: RetrievalDataset,
    encoder: Encoder,
    setup: Setup,
    cache: EmbeddingCache,
    *,
    reranker: Reranker | None = None,
    on_ranked: Callable[[str, RankedList], None] = lambda *_: None,
    on_progress: Callable[[str, int, int], None] = lambda *_: None,
) -> QualityResult:
    """Rank a dataset's items for its queries with the engine's own stages, and judge the ranks.

    Args:
        dataset: images, texts and their relevance.
        encoder: the encoder to measure.
        setup: directions, index, depth and reranking.
        cache: vectors of earlier runs.
        reranker: orders the first items of each list by the join of similarity and match, between
            texts and images only; the items below keep their order.
        on_ranked: called with the direction and each query's ranked list.
        on_progress: called with what is encoded, and how many are done of how many.

    Raises:
        UsageError: the dataset does not define a direction, or the index cannot be built over it.
    """
    if any("i" in direction for direction in setup.directions):
        embedded = cache.embed_images(
            encoder, list(dataset.images.values()), partial(on_progress, "images")
        )
        ids = list(dataset.images)
        dataset = dataset.without_images(
            {ids[place]: reason for place, reason in embedded.unreadable.items()}
        )
    results = {
        direction: _measure_direction(
            dataset, direction, encoder, setup, cache, reranker, on_ranked, on_progress
        )
        for direction in setup.directions
    }
    return QualityResult(
        measured=dataset,
        dataset=describe_dataset(dataset),
        space=encoder.space,
        setup=setup,
        directions=results,
        environment=describe_environment(),
        reranker=None
        if reranker is None
        else RerankerDescription(
            reranker.name,
            reranker.identity,
            reranker.match_weight,
            setup.rerank_depth or reranker.depth,
        ),
    )


def _measure_direction(
    dataset: RetrievalDataset,
    direction: str,
    encoder: Encoder,
    setup: Setup,
    cache: EmbeddingCache,
    reranker: Reranker | None,
    on_ranked: Callable[[str, RankedList], None],
    on_progress: Callable[[str, int, int], None],
) -> DirectionResult:
    qrels = dataset.qrels(direction)
    queries, items = dataset.queries(direction), dataset.items(direction)
    query_ids, item_ids = list(queries), list(items)
    place_of = {item: place for place, item in enumerate(item_ids)}
    depth = min(setup.depth or len(items), len(items))
    timer = StageTimer()
    with timer("embed"):
        rows = _embed(items, direction[2], encoder, cache)
        vectors = _embed(queries, direction[0], encoder, cache)
    stage, reranked = None, 0
    first_items: dict[str, tuple[str, ...]] = {}
    if reranker is not None and direction in RERANKED_DIRECTIONS:
        reranked = min(setup.rerank_depth or reranker.depth, len(items))
        stage = _RerankedPairs(reranker, cache.tokens(reranker), [*items.values()])
    wanted = max(depth, reranked)

    def blocks(index: _MeasuredIndex) -> Iterator[NDArray[np.float32]]:
        for begin in range(0, len(query_ids), _QUERIES_PER_BLOCK):
            chosen = query_ids[begin : begin + _QUERIES_PER_BLOCK]
            block = vectors[begin : begin + len(chosen)].astype(np.float32)
            with timer("search"):
                found = index.find(block, wanted + (direction in {"i2i", "t2t"}))
                if direction in {"i2i", "t2t"}:
                    found = [
                        exclude(candidates, {place_of.get(query, -1)})
                        for query, candidates in zip(chosen, found, strict=True)
                    ]
                found = [candidates.take(slice(wanted)) for candidates in found]
            if stage is not None:
                asked = [queries[query] for query in chosen]
                with timer("tokens"):
                    stage.add_tokens(asked, found, reranked, partial(on_progress, "image tokens"))
                with timer("rerank"):
                    found = [
                        stage.rerank(query, candidates, reranked)
                        for query, candidates in zip(asked, found, strict=True)
                    ]
            order = np.full((len(chosen), len(item_ids)), -np.inf, np.float32)
            for place, (query, candidates) in enumerate(zip(chosen, found, strict=True)):
                kept = candidates.take(slice(depth))
                # Judged by their places alone: the engine's order decides where scores are equal.
                order[place, kept.ids] = -np.arange(len(kept), dtype=np.float32)
                scores = _descending(kept.score, reranked)
                ids = tuple(item_ids[item] for item in kept.ids)
                first_items[query] = ids[:FOUND_KEPT]
                on_ranked(direction, RankedList(query, ids, tuple(scores.tolist())))
            yield order

    with ExitStack() as stack:
        with timer("build"):
            index = stack.enter_context(_measured_index(setup, rows, direction, vectors, encoder))
        judgments = judge_scores(qrels, query_ids, item_ids, blocks(index))
        description = index.description
    texts = [text for text in (*queries.values(), *items.values()) if isinstance(text, str)]
    return DirectionResult(
        direction=direction,
        judgments=judgments,
        groups=_groups(dataset, direction, judgments),
        items=len(items),
        index=description,
        milliseconds=timer.timings_ms,
        truncated_texts=sum(encoder.token_count(text) > encoder.context_length for text in texts),
        reranked=reranked,
        found=tuple(first_items[query] for query in judgments.query_ids),
    )


def _descending(scores: NDArray[np.float64], reranked: int) -> NDArray[np.float64]:
    """Scores that say the order: each below the one before it, by as little as possible.

    Those below the reranker's depth become negative whole numbers: similarities could be above
    joined scores.
    """
    scores = scores.copy()
    if 0 < reranked < len(scores):
        lowest = np.floor(min(scores[reranked - 1], 0))
        scores[reranked:] = lowest - 1 - np.arange(len(scores) - reranked)
    # They have single precision: between two that differ, there is room for all equal ones.
    for place in np.flatnonzero(np.diff(scores) >= 0) + 1:
        scores[place] = np.nextafter(scores[place - 1], -np.inf)
    return scores


@dataclass(frozen=True)
class _MeasuredIndex:
    """An index over a corpus: a library's own, or one that was named.

    effort: of a named one; None: it is not refined, and the scores are its own estimates.
    """

    index: Searcher | FactoryIndex
    rows: Rows
    query_kind: Modality
    description: str
    effort: Effort | None = None

    def find(self, vectors: NDArray[np.float32], count: int) -> list[Candidates]:
        """Find the best items of each query, `count` of them or more."""
        if isinstance(self.index, Searcher):
            q = len(vectors)
            kinds = [self.query_kind] * q
            proposed = propose(self.index, list(vectors), [count] * q, [None] * q, kinds)
            scored = [
                refine(vector, rows, self.rows)
                for vector, rows in zip(vectors, proposed, strict=True)
            ]
        else:
            if self.effort is None:
                found = self.index.search(vectors, count)
            else:
                found = search_refined(self.index, self.rows, vectors, count, self.effort)
            scored = [
                (rows[rows >= 0], scores[rows >= 0]) for scores, rows in zip(*found, strict=True)
            ]
        return [Candidates.of(rows, rows, similarity) for rows, similarity in scored]


@contextmanager
def _measured_index(
    setup: Setup, rows: Rows, direction: str, queries: Rows, encoder: Encoder
) -> Iterator[_MeasuredIndex]:
    """Make the index that a setup names over all rows, (n, d) float16.

    `auto` is the index of a library with as many rows, built and tuned as there; `flat` is such a
    library without an index.
    """
    query_kind = Modality.TEXT if direction.startswith("t") else Modality.IMAGE
    if setup.index not in {AUTO, FLAT}:
        index = FactoryIndex(setup.index, rows, nprobe=setup.nprobe, seed=setup.seed)
        index.add(rows)
        effort = Effort(setup.nprobe, setup.overfetch) if setup.refine else None
        yield _MeasuredIndex(index, rows, query_kind, setup.index, effort)
        return

    def tuning_queries() -> Mapping[Modality, TuningQueries]:
        if query_kind is Modality.TEXT:
            texts = encoded_texts(
                folder, rows.shape[1], lambda batch: encoder.encode(Modality.TEXT, batch)
            )
            return {query_kind: TuningQueries(texts[:_TUNING_QUERIES])}
        size = min(len(queries), _TUNING_QUERIES)
        chosen = np.sort(
            np.random.default_rng(setup.seed).choice(len(queries), size, replace=False)
        )
        own_rows = chosen if direction == "i2i" else None
        return {query_kind: TuningQueries(queries[chosen].astype(np.float32), own_rows)}

    with tempfile.TemporaryDirectory(prefix="mmsearch-bench-") as name:
        folder = Path(name)
        modality = Modality.IMAGE if direction.endswith("i") else Modality.TEXT
        embeddings = EmbeddingsFile(folder / f"{modality}.f16", rows.shape[1])
        embeddings.write(rows, 0)
        if setup.index == AUTO:
            build(
                folder,
                modality,
                embeddings.rows(len(rows)),
                tuning_queries,
                memory_bytes=sys.maxsize,  # so that figures are the same on every machine
            )
        searcher = Searcher(folder, modality, embeddings)
        searcher.refresh(len(rows))
        generation = searcher.generation
        description = generation.kind if generation else FLAT
        yield _MeasuredIndex(searcher, searcher.rows, query_kind, description)


class _RerankedPairs:
    """Scores pairs of a text and an image, whichever of them is the query."""

    def __init__(self, reranker: Reranker, tokens: TokenStore, items: Sequence[str | Path]) -> None:
        self._reranker = reranker
        self._tokens = tokens
        self._items = items

    def add_tokens(
        self,
        queries: Sequence[str | Path],
        found: Sequence[Candidates],
        depth: int,
        on_progress: Callable[[int, int], None],
    ) -> None:
        """Compute the tokens that `rerank` needs for these queries and that are not there yet."""
        rows = np.unique(np.concatenate([candidates.rows[:depth] for candidates in found]))
        things = [*queries, *(self._items[row] for row in rows)]
        self._tokens.add_images([t for t in things if isinstance(t, Path)], on_progress)
        self._tokens.add_texts([t for t in things if isinstance(t, str)])

    def rerank(self, query: str | Path, found: Candidates, depth: int) -> Candidates:
        """Order the first items of a list by the join of similarity and match."""
        if not len(found):
            return found
        things = [self._items[row] for row in found.rows[:depth]]
        if isinstance(query, str):
            scorer = text_scorer(self._reranker, self._tokens.text_tokens([query]), [1.0])
            tokens = self._tokens.image_tokens(cast("Sequence[Path]", things))
        else:
            scorer = image_text_scorer(self._reranker, self._tokens.image_tokens([query]))
            tokens = self._tokens.text_tokens(cast("Sequence[str]", things))
        return rank_by_vector(found, scorer.score(tokens), scorer.weight)


def describe_dataset(dataset: RetrievalDataset) -> dict[str, Any]:
    """Describe the dataset of a result; the fingerprint identifies it."""
    return {
        "name": dataset.name,
        "specification": dataset.specification,
        "split": dataset.split,
        "language": dataset.language,
        "images": len(dataset.images),
        "texts": len(dataset.texts),
        "fingerprint": dataset.fingerprint(),
        "problems": dataset.problem_counts,
    }


def describe_environment() -> dict[str, Any]:
    """Describe versions and machine, as far as they can change a figure."""
    return {
        "mmsearch": version("mmsearch"),
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "torch": version("torch"),
        "open_clip": version("open-clip-torch"),
        "faiss": FactoryIndex.version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _embed(
    things: dict[str, str] | dict[str, Path], kind: str, encoder: Encoder, cache: EmbeddingCache
) -> Rows:
    values = list(things.values())
    if kind == "i":
        return cache.embed_images(encoder, cast("list[Path]", values)).rows
    return cache.embed_texts(encoder, cast("list[str]", values)).rows


def _groups(dataset: RetrievalDataset, direction: str, judgments: Judgments) -> tuple[str, ...]:
    """Group the captions of each photo: they are no independent sample."""
    if not direction.startswith("t") or dataset.relevance:
        return judgments.query_ids
    image_of = dict(dataset.captions)
    return tuple(image_of.get(query, query) for query in judgments.query_ids)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor()
