"""How well an encoder and an index find what a dataset calls relevant, as users would search."""

import os
import platform
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
from benchmarks.embedding_cache import EmbeddingCache
from benchmarks.metrics import Judgments, judge_scores
from retrieval.embeddings import Rows
from retrieval.encoders.base import Encoder, Space
from retrieval.engine import StageClock, refine
from retrieval.indices import faiss_version
from retrieval.indices.base import Index
from retrieval.indices.factory import FactoryIndex
from retrieval.indices.flat import FlatIndex

FLAT = "flat"
AUTO = "auto"
EXACT_UP_TO_ROWS = 50_000
"""`auto` searches exactly up to this many rows of a modality, as the engine does."""

_QUERIES_PER_BLOCK = 256


@dataclass(frozen=True)
class Setup:
    """What is measured beside the encoder.

    index: `flat`, `auto` or a FAISS factory string; nprobe: inverted lists visited a query.
    refine: score `overfetch * depth` candidates exactly and keep the best. depth: length of the
    ranked lists; None: all items. directions: `t2i`, `i2t`, `i2i`, `t2t`.
    """

    index: str = FLAT
    nprobe: int = 16
    refine: bool = True
    overfetch: int = 10
    depth: int | None = None
    directions: tuple[str, ...] = ("t2i", "i2t")
    seed: int = 0


@dataclass(frozen=True)
class RankedList:
    """The items found for one query, best first, with their scores."""

    query_id: str
    item_ids: tuple[str, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class DirectionResult:
    """One direction, measured. `groups`: for each judged query, what it must be resampled with."""

    direction: str
    judgments: Judgments
    groups: tuple[str, ...]
    items: int
    index: str
    milliseconds: dict[str, float]
    truncated_texts: int


@dataclass(frozen=True, eq=False)
class QualityResult:
    """Everything that was measured, and everything that produced it.

    `measured` is the dataset without the images that could not be read.
    """

    measured: RetrievalDataset
    dataset: dict[str, Any]
    space: Space
    setup: Setup
    directions: dict[str, DirectionResult]
    environment: dict[str, Any] = field(default_factory=dict)


def measure_quality(
    dataset: RetrievalDataset,
    encoder: Encoder,
    setup: Setup,
    cache: EmbeddingCache,
    *,
    on_ranked: Callable[[str, RankedList], None] = lambda *_: None,
    on_progress: Callable[[str, int, int], None] = lambda *_: None,
) -> QualityResult:
    """Rank a dataset's items for its queries with the engine's own stages, and judge the ranks.

    `on_ranked(direction, list)` is given each query's ranked list, `on_progress(what, done, total)`
    the state of the encoding. Raises UsageError for a direction that the dataset does not define
    and for an index that cannot be built over it.
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
        direction: _measure_direction(dataset, direction, encoder, setup, cache, on_ranked)
        for direction in setup.directions
    }
    return QualityResult(
        measured=dataset,
        dataset=describe_dataset(dataset),
        space=encoder.space,
        setup=setup,
        directions=results,
        environment=describe_environment(),
    )


def _measure_direction(
    dataset: RetrievalDataset,
    direction: str,
    encoder: Encoder,
    setup: Setup,
    cache: EmbeddingCache,
    on_ranked: Callable[[str, RankedList], None],
) -> DirectionResult:
    qrels = dataset.qrels(direction)
    queries, items = dataset.queries(direction), dataset.items(direction)
    clock = StageClock()
    with clock("embed"):
        rows = _embed(items, direction[2], encoder, cache)
        vectors = _embed(queries, direction[0], encoder, cache)
    with clock("build"):
        index = build_index(setup, rows)
    searcher = _Searcher(index, rows, list(items), setup, direction in {"i2i", "t2t"})
    query_ids = list(queries)

    def blocks() -> Iterator[NDArray[np.float32]]:
        for begin in range(0, len(query_ids), _QUERIES_PER_BLOCK):
            chosen = slice(begin, begin + _QUERIES_PER_BLOCK)
            with clock("search"):
                scores, lists = searcher.rank(query_ids[chosen], vectors[chosen].astype(np.float32))
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
        index=index.factory if isinstance(index, FactoryIndex) else FLAT,
        milliseconds=clock.timings_ms,
        truncated_texts=sum(encoder.token_count(text) > encoder.context_length for text in texts),
    )


class _Searcher:
    """The engine's stages over one corpus: candidates, then exact re-scoring."""

    def __init__(
        self,
        index: Index,
        rows: Rows,
        item_ids: Sequence[str],
        setup: Setup,
        excludes_itself: bool,
    ) -> None:
        self._index = index
        self._rows = rows
        self._item_ids = item_ids
        self._place_of = {item: place for place, item in enumerate(item_ids)}
        by_id = sorted(range(len(item_ids)), key=item_ids.__getitem__, reverse=True)
        self._tie_places = np.empty(len(item_ids), dtype=np.int64)
        self._tie_places[by_id] = np.arange(len(item_ids))
        self._setup = setup
        self._excludes_itself = excludes_itself
        self._depth = min(setup.depth or len(item_ids), len(item_ids))

    def rank(
        self, query_ids: Sequence[str], vectors: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], list[RankedList]]:
        """Scores of all items, (b, n) float32, -inf where not found, and the same as lists."""
        wanted = self._depth + self._excludes_itself
        fetch = wanted * (self._setup.overfetch if self._setup.refine else 1)
        fetch = min(len(self._item_ids), fetch)
        proposed_scores, proposed = self._index.search(vectors, fetch)
        scores = np.full((len(vectors), len(self._item_ids)), -np.inf, np.float32)
        lists = []
        for place, (query_id, vector) in enumerate(zip(query_ids, vectors, strict=True)):
            found = proposed[place] >= 0
            rows, similarities = proposed[place][found], proposed_scores[place][found]
            if self._setup.refine:
                rows, similarities = refine(vector, rows, self._rows)
                # Equal scores in the order that the metrics rank them, so that a cut list agrees
                # with a whole one: the same caption often describes several photos.
                order = np.lexsort((self._tie_places[rows], -similarities))
                rows, similarities = rows[order], similarities[order]
            if self._excludes_itself and query_id in self._place_of:
                others = rows != self._place_of[query_id]
                rows, similarities = rows[others], similarities[others]
            rows, similarities = rows[: self._depth], similarities[: self._depth]
            scores[place, rows] = similarities
            lists.append(
                RankedList(
                    query_id,
                    tuple(self._item_ids[row] for row in rows),
                    tuple(similarities.tolist()),
                )
            )
        return scores, lists


def build_index(setup: Setup, rows: Rows) -> Index:
    """Make the index that a setup names over all rows, (n, d) float16."""
    if setup.index == FLAT or (setup.index == AUTO and len(rows) <= EXACT_UP_TO_ROWS):
        index: Index = FlatIndex(rows.shape[1])
    else:
        factory = setup.index
        if factory == AUTO:
            lists = 2 ** round(np.log2(4 * np.sqrt(len(rows))))
            factory = f"IVF{lists},PQ{rows.shape[1] // 8}"
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
