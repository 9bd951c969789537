"""How well an encoder and an index find what a dataset calls relevant, as users would search."""

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
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
from retrieval.embeddings import Rows
from retrieval.encoders.base import Encoder, Space
from retrieval.indices import faiss_version
from retrieval.indices.base import VectorEngine, VectorIndex
from retrieval.indices.choice import choose
from retrieval.indices.exact import ExactIndex
from retrieval.indices.faiss.ivf import FactoryIndex
from retrieval.indices.refine import refine
from retrieval.rerankers.base import Reranker, join
from retrieval.search.timer import StageClock

FLAT = "flat"
AUTO = "auto"
RERANKED_DIRECTIONS = ("t2i", "i2t")
"""A reranker scores a text with an image; the other directions have no such pair."""

_QUERIES_PER_BLOCK = 256

_Candidates = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Rows of the corpus, (c,), best first, and their scores, (c,)."""


@dataclass(frozen=True)
class Setup:
    """What is measured beside the encoder.

    index: `flat`, `auto` or a FAISS factory string; nprobe: inverted lists visited a query.
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
    and negative whole numbers below it, which say the order and nothing else.
    """

    query_id: str
    item_ids: tuple[str, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class DirectionResult:
    """One direction, measured. `groups`: for each judged query, what it must be resampled with.

    reranked: how many items of each list a reranker scored; 0 where none did.
    """

    direction: str
    judgments: Judgments
    groups: tuple[str, ...]
    items: int
    index: str
    milliseconds: dict[str, float]
    truncated_texts: int
    reranked: int = 0


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

    `reranker` orders the first items of each list by the join of similarity and match, between
    texts and images only; the items below keep their order. `on_ranked(direction, list)` is given
    each query's ranked list, `on_progress(what, done, total)` the state of the encoding. Raises
    UsageError for a direction that the dataset does not define and for an index that cannot be
    built over it.
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
    clock = StageClock()
    with clock("embed"):
        rows = _embed(items, direction[2], encoder, cache)
        vectors = _embed(queries, direction[0], encoder, cache)
    with clock("build"):
        index = build_index(setup, rows)
    ranking = _Ranking(list(items), setup.depth)
    stage, reranked = None, 0
    if reranker is not None and direction in RERANKED_DIRECTIONS:
        reranked = min(setup.rerank_depth or reranker.depth, len(items))
        stage = _RerankStage(reranker, reranked, cache.tokens(reranker), queries, items, ranking)
    searcher = _Searcher(index, rows, ranking, setup, direction in {"i2i", "t2t"}, reranked)
    query_ids = list(queries)

    def blocks() -> Iterator[NDArray[np.float32]]:
        for begin in range(0, len(query_ids), _QUERIES_PER_BLOCK):
            chosen = query_ids[begin : begin + _QUERIES_PER_BLOCK]
            with clock("search"):
                found = searcher.find(
                    chosen, vectors[begin : begin + len(chosen)].astype(np.float32)
                )
            if stage is not None:
                with clock("tokens"):
                    stage.add_tokens(chosen, found, partial(on_progress, "image tokens"))
                with clock("rerank"):
                    found = [stage.rerank(*pair) for pair in zip(chosen, found, strict=True)]
            scores, lists = ranking.cut(chosen, found)
            for ranked in lists:
                on_ranked(direction, ranked)
            yield scores

    judgments = judge_scores(qrels, query_ids, list(items), blocks())
    texts = [text for text in (*queries.values(), *items.values()) if isinstance(text, str)]
    return DirectionResult(
        direction=direction,
        judgments=judgments,
        groups=_groups(dataset, direction, judgments),
        items=len(items),
        index=index.kind if isinstance(index, FactoryIndex) else FLAT,
        milliseconds=clock.timings_ms,
        truncated_texts=sum(encoder.token_count(text) > encoder.context_length for text in texts),
        reranked=reranked,
    )


class _Ranking:
    """Lists over one corpus: how long they are, and how equal scores are ordered in them."""

    def __init__(self, item_ids: Sequence[str], depth: int | None) -> None:
        self.item_ids = item_ids
        self.depth = min(depth or len(item_ids), len(item_ids))
        self.place_of = {item: place for place, item in enumerate(item_ids)}
        by_id = sorted(range(len(item_ids)), key=item_ids.__getitem__, reverse=True)
        self._tie_places = np.empty(len(item_ids), dtype=np.int64)
        self._tie_places[by_id] = np.arange(len(item_ids))

    def sort(self, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> _Candidates:
        """Best first, equal scores in the order that the metrics rank them.

        So a cut list agrees with a whole one: the same caption often describes several photos.
        """
        order = np.lexsort((self._tie_places[rows], -scores))
        return rows[order], scores[order]

    def cut(
        self, query_ids: Sequence[str], found: Sequence[_Candidates]
    ) -> tuple[NDArray[np.float32], list[RankedList]]:
        """Scores of all items, (b, n) float32, -inf where not found, and the same as lists."""
        matrix = np.full((len(found), len(self.item_ids)), -np.inf, np.float32)
        lists = []
        for place, (query_id, (rows, scores)) in enumerate(zip(query_ids, found, strict=True)):
            kept, kept_scores = rows[: self.depth], scores[: self.depth]
            matrix[place, kept] = kept_scores
            lists.append(
                RankedList(
                    query_id,
                    tuple(self.item_ids[row] for row in kept),
                    tuple(kept_scores.tolist()),
                )
            )
        return matrix, lists


class _Searcher:
    """The engine's stages over one corpus: candidates, then exact re-scoring."""

    def __init__(
        self,
        index: VectorIndex,
        rows: Rows,
        ranking: _Ranking,
        setup: Setup,
        excludes_itself: bool,
        at_least: int,
    ) -> None:
        self._index = index
        self._rows = rows
        self._ranking = ranking
        self._setup = setup
        self._excludes_itself = excludes_itself
        self._wanted = max(ranking.depth, at_least)

    def find(self, query_ids: Sequence[str], vectors: NDArray[np.float32]) -> list[_Candidates]:
        """The best items of each query, as many as the list or the reranker needs."""
        wanted = self._wanted + self._excludes_itself
        fetch = wanted * (self._setup.overfetch if self._setup.refine else 1)
        proposed_scores, proposed = self._index.search(vectors, min(len(self._rows), fetch))
        candidates = []
        for place, (query_id, vector) in enumerate(zip(query_ids, vectors, strict=True)):
            found = proposed[place] >= 0
            rows, similarities = proposed[place][found], proposed_scores[place][found]
            if self._setup.refine:
                rows, similarities = self._ranking.sort(*refine(vector, rows, self._rows))
            if self._excludes_itself and query_id in self._ranking.place_of:
                others = rows != self._ranking.place_of[query_id]
                rows, similarities = rows[others], similarities[others]
            candidates.append((rows[: self._wanted], similarities[: self._wanted]))
        return candidates


class _RerankStage:
    """Orders the first items of lists by the join of similarity and match."""

    def __init__(
        self,
        reranker: Reranker,
        depth: int,
        tokens: TokenStore,
        queries: dict[str, str] | dict[str, Path],
        items: dict[str, str] | dict[str, Path],
        ranking: _Ranking,
    ) -> None:
        self._reranker = reranker
        self._depth = depth
        self._tokens = tokens
        self._queries = queries
        self._items: list[str | Path] = list(items.values())
        self._ranking = ranking

    def add_tokens(
        self,
        query_ids: Sequence[str],
        found: Sequence[_Candidates],
        on_progress: Callable[[int, int], None],
    ) -> None:
        """Compute the tokens that `rerank` needs for these lists and that are not there yet."""
        rows = np.unique(np.concatenate([rows[: self._depth] for rows, _ in found]))
        things = [self._queries[query] for query in query_ids]
        things += [self._items[row] for row in rows]
        self._tokens.add_images([t for t in things if isinstance(t, Path)], on_progress)
        self._tokens.add_texts([t for t in things if isinstance(t, str)])

    def rerank(self, query_id: str, found: _Candidates) -> _Candidates:
        """Score the first items of a list anew; the others keep their order below them.

        The scores of the others become whole numbers below the lowest joined score. Subtracting a
        constant would keep them closer to similarities, but single precision could then make equal
        what differed, and equal scores are ordered by id.
        """
        rows, similarities = found
        best, rest = slice(self._depth), slice(self._depth, None)
        if not len(rows):
            return found
        match, trust = self._match(
            self._queries[query_id], [self._items[row] for row in rows[best]]
        )
        joined = join(similarities[best], match, trust * self._reranker.match_weight)
        best_rows, joined = self._ranking.sort(rows[best], joined)
        _, ranks = np.unique(-similarities[rest], return_inverse=True)
        below = np.floor(min(joined[-1], np.float32(0))) - 1 - ranks
        scores = np.concatenate([joined, below.astype(np.float32)])
        return np.concatenate([best_rows, rows[rest]]), scores

    def _match(
        self, query: str | Path, things: Sequence[str | Path]
    ) -> tuple[NDArray[np.float32], float]:
        """Logits of one query with c items of the other modality, (c,) float32, and the trust."""
        if isinstance(query, str):
            text = self._tokens.text_tokens([query])
            images = self._tokens.image_tokens(cast("Sequence[Path]", things))
            return self._reranker.match(text, images)[0], float(self._reranker.text_trust(text)[0])
        image = self._tokens.image_tokens([query])
        texts = self._tokens.text_tokens(cast("Sequence[str]", things))
        match = self._reranker.match(texts, image)[:, 0]
        return match, float(self._reranker.image_trust(image)[0])


def build_index(setup: Setup, rows: Rows) -> VectorEngine:
    """Make the index that a setup names over all rows, (n, d) float16."""
    factory: str | None = setup.index
    if factory == AUTO:
        factory = choose(len(rows), rows.shape[1], sys.maxsize).factory
    index: VectorEngine
    if factory is None or factory == FLAT:
        index = ExactIndex(rows.shape[1])
    else:
        index = FactoryIndex(factory, rows, nprobe=setup.nprobe, seed=setup.seed)
    index.add(rows)
    return index


def describe_dataset(dataset: RetrievalDataset) -> dict[str, Any]:
    """What a result says of its dataset; the fingerprint tells two datasets apart."""
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
    """Versions and machine, as far as they can change a figure."""
    return {
        "mmsearch": version("mmsearch"),
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "torch": version("torch"),
        "open_clip": version("open-clip-torch"),
        "faiss": faiss_version(),
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
    """The captions of one photo are no independent sample: they are resampled together."""
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
