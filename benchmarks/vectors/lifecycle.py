"""A library's index through its life: recall, filters, rows that come and rows that go.

All searches go through the `Searcher`, with the settings that a build finds by itself.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.vectors.filtered_search import FilterRecall, filter_recall
from benchmarks.vectors.measurement import count_hits
from benchmarks.vectors.synthetic_vectors import PROFILES, SyntheticVectors
from benchmarks.vectors.workload import MODALITIES, synthetic_workload
from retrieval.embeddings import EmbeddingsFile, Rows
from retrieval.encoders.base import Vectors
from retrieval.errors import MMSearchError
from retrieval.indices.build import BuildOptions, build, is_build_due
from retrieval.indices.choice import BYTES_PER_ROW
from retrieval.indices.exact import nearest
from retrieval.indices.generations import Generation, load_latest
from retrieval.indices.refine import refine_all
from retrieval.indices.searcher import Searcher
from retrieval.indices.tuning import TARGET_RECALL, TuningQueries
from retrieval.media import Modality
from retrieval.search.candidates import with_spare

K = 10

_WRITE_ROWS = 65_536
_TUNING_QUERIES = 500
_BATCH = 100


@dataclass(frozen=True)
class QueryRecall:
    """Mean recall@10 of one modality's queries against exact search, and a single query's time."""

    modality: str
    recall: float
    median_ms: float


@dataclass(frozen=True)
class Addition:
    """Rows that came. found: share of them whose first hit is the row itself, or an equal one.

    refresh_ms: until they could be found. needs_build: whether they call for a build.
    """

    rows: int
    refresh_ms: float
    needs_build: bool
    found: float
    recalls: tuple[QueryRecall, ...]


@dataclass(frozen=True)
class Removal:
    """Rows that went, as the engine leaves them out: dropped from a list with spare ones.

    unchanged: share of lists whose remaining hits are the same, in the same order, and stand
    first. filled: share that still have 10 hits; the engine searches again for the others.
    """

    rows: int
    unchanged: float
    filled: float
    recalls: tuple[QueryRecall, ...]


@dataclass(frozen=True)
class Masking:
    """The same rows kept out by a bitmap, as filters are, and as where most rows are dead.

    More lists are visited then, so that lists may change for the better. no_worse: share of lists
    in which each place has at least the score that the remaining hits had there.
    """

    unchanged: float
    no_worse: float
    recalls: tuple[QueryRecall, ...]


@dataclass(frozen=True)
class IndexInUse:
    """What was measured. built: the index, its settings and their recall; build_s: None if kept."""

    workload: str
    rows: int
    dimension: int
    built: Generation
    build_s: float | None
    recalls: tuple[QueryRecall, ...]
    filters: tuple[FilterRecall, ...]
    addition: Addition
    removal: Removal
    masking: Masking


def measure_index(
    cache: Path,
    rows: int,
    *,
    profile: str = "clip",
    dimension: int = 512,
    queries: int = 500,
    filter_queries: int = 20,
    added: int = 10_000,
    removed: int = 100_000,
    target_recall: float = TARGET_RECALL,
    folder: Path,
    seed: int = 0,
    device: str = "cpu",
    on_step: Callable[[str], None] = lambda _: None,
) -> IndexInUse:
    """Build an index over synthetic rows as a library does, and measure all of the above.

    Args:
        cache: folder of synthetic workloads.
        rows: number of rows to build over.
        profile: of the synthetic vectors, a key of `PROFILES`.
        dimension: of the vectors.
        queries: number of queries per modality.
        filter_queries: number of queries per modality and filter.
        added: number of rows to add after the build.
        removed: number of rows to remove then.
        target_recall: recall@10 to tune for, 0 to 1.
        folder: for the embeddings and the index; an index of an earlier run there is reused.
        seed: of the vectors and of training.
        device: where to train and search, as torch names it.
        on_step: called with a line of text before each step.

    Raises:
        MMSearchError: so few rows get no index.
    """
    workload = synthetic_workload(
        cache, profile, rows, dimension=dimension, queries=queries, seed=seed
    )
    vectors = SyntheticVectors(PROFILES[profile], dimension=dimension, seed=seed)
    file = _embeddings(folder, workload.rows)
    stored = file.rows(rows)
    began = time.perf_counter()
    built = build(
        folder,
        "image",
        stored,
        lambda: _tuning_queries(vectors, stored, queries, seed),
        memory_bytes=BYTES_PER_ROW * rows,
        options=BuildOptions(
            target_recall=None if target_recall == TARGET_RECALL else target_recall
        ),
        device=device,
        on_progress=lambda what, done, _: on_step(what) if done == 0 else None,
    )
    build_s = time.perf_counter() - began if built else None
    loaded = load_latest(folder, "image", stored)
    if loaded is None:
        raise MMSearchError(f"{rows:,} rows get no index: they are searched exactly.")
    searcher = Searcher(folder, "image", file, device)
    searcher.refresh(rows)
    asked = workload.queries()
    truth = {kind: found[:, :K] for kind, found in workload.truth().items()}
    on_step("Recall")
    recalls = _recalls(searcher, asked, truth)
    filters: list[FilterRecall] = []
    for kind, some in asked.items():
        on_step(f"Filters, {kind} queries")
        filters += filter_recall(searcher, some[:filter_queries], kind, k=K, seed=seed)
    on_step(f"Adding {added:,} rows")
    new = vectors.images(queries + added, held_out=True)[queries:].astype(np.float16)
    file.write(new, rows)
    addition = _addition(searcher, new, asked, truth)
    on_step(f"Removing {removed:,} rows")
    live = np.ones(len(searcher.rows), dtype=np.bool_)
    live[np.random.default_rng(seed).choice(len(live), min(removed, len(live) - 1), False)] = False
    removal, masking = _removal(searcher, asked, live)
    return IndexInUse(
        workload=workload.name,
        rows=rows,
        dimension=dimension,
        built=loaded[0],
        build_s=build_s,
        recalls=recalls,
        filters=tuple(filters),
        addition=addition,
        removal=removal,
        masking=masking,
    )


def _embeddings(folder: Path, rows: Rows) -> EmbeddingsFile:
    """Write the rows as a library's, unless an earlier run has."""
    file = EmbeddingsFile(folder / "image.f16", rows.shape[1])
    if not file.path.exists() or file.path.stat().st_size < rows.nbytes:
        for first in range(0, len(rows), _WRITE_ROWS):
            file.write(rows[first : first + _WRITE_ROWS], first)
    return file


def _tuning_queries(
    vectors: SyntheticVectors, rows: Rows, measured: int, seed: int
) -> dict[Modality, TuningQueries]:
    """Make tuning queries as a library's: other texts than measured, images of the rows."""
    texts = vectors.texts(measured + _TUNING_QUERIES)[measured:]
    count = min(_TUNING_QUERIES, len(rows))
    chosen = np.sort(np.random.default_rng(seed).choice(len(rows), count, replace=False))
    images = TuningQueries(rows[chosen].astype(np.float32), source_rows=chosen.astype(np.int64))
    return {Modality.TEXT: TuningQueries(texts), Modality.IMAGE: images}


def _recalls(
    searcher: Searcher,
    queries: dict[Modality, Vectors],
    truth: dict[Modality, NDArray[np.int64]],
    allowed: NDArray[np.bool_] | None = None,
) -> tuple[QueryRecall, ...]:
    measured = []
    for kind in MODALITIES:
        found, milliseconds = _one_by_one(searcher, queries[kind], kind, allowed)
        recall = count_hits(found, truth[kind]) / truth[kind].size
        measured.append(QueryRecall(kind, recall, milliseconds))
    return tuple(measured)


def _one_by_one(
    searcher: Searcher, queries: Vectors, kind: Modality, allowed: NDArray[np.bool_] | None
) -> tuple[NDArray[np.int64], float]:
    found, milliseconds = _timed(
        lambda query: searcher.search(query[np.newaxis], K, allowed, kind)[1][0], queries
    )
    return np.stack(found), milliseconds


def _timed(
    search: Callable[[NDArray[np.float32]], NDArray[np.int64]], queries: Vectors
) -> tuple[list[NDArray[np.int64]], float]:
    """Search for each query by itself; returns the rows, and the median time in milliseconds."""
    found, seconds = [], []
    for query in queries:
        began = time.perf_counter()
        found.append(search(query))
        seconds.append(time.perf_counter() - began)
    return found, 1000 * float(np.median(seconds))


def _addition(
    searcher: Searcher,
    new: Rows,
    asked: dict[Modality, Vectors],
    truth: dict[Modality, NDArray[np.int64]],
) -> Addition:
    before = len(searcher.rows)
    generation = searcher.generation
    began = time.perf_counter()
    searcher.refresh(before + len(new))
    refresh_ms = 1000 * (time.perf_counter() - began)
    found = 0
    for first in range(0, len(new), _BATCH):
        wanted = new[first : first + _BATCH].astype(np.float32)
        _, best = searcher.search(wanted, 1, query_modality=Modality.IMAGE)
        own = np.arange(before + first, before + first + len(wanted))
        found += int(np.count_nonzero(best[:, 0] == own))
    rows = searcher.rows
    merged = {}
    for kind, queries in asked.items():
        _, theirs = nearest(queries, rows[before:], min(K, len(new)))
        both = np.hstack([truth[kind], theirs + before])
        merged[kind] = refine_all(queries, both, K, rows)[1]
    return Addition(
        rows=len(new),
        refresh_ms=refresh_ms,
        needs_build=is_build_due(len(rows), generation),
        found=found / len(new),
        recalls=_recalls(searcher, asked, merged),
    )


def _removal(
    searcher: Searcher, asked: dict[Modality, Vectors], live: NDArray[np.bool_]
) -> tuple[Removal, Masking]:
    rows = searcher.rows
    among = np.flatnonzero(live)
    dropped_recalls, masked_recalls = [], []
    unchanged, filled, masked_unchanged, no_worse = [], [], [], []
    for kind, queries in asked.items():
        truth = nearest(queries, rows, K, among)[1]
        before = [_as_the_engine(searcher, kind, np.ones_like(live), query) for query in queries]
        lists, dropped_ms = _timed(partial(_as_the_engine, searcher, kind, live), queries)
        masked, masked_ms = _one_by_one(searcher, queries, kind, live)
        hits, masked_hits = 0, 0
        for query, old, kept, filtered, right in zip(
            queries, before, lists, masked, truth, strict=True
        ):
            remaining = old[live[old]]
            unchanged.append(kept[: len(remaining)].tolist() == remaining.tolist())
            filled.append(len(kept) == K)
            masked_unchanged.append(filtered[: len(remaining)].tolist() == remaining.tolist())
            scores, old_scores = (
                rows[some].astype(np.float32) @ query for some in (filtered, remaining)
            )
            no_worse.append(bool((scores[: len(remaining)] >= old_scores - 1e-6).all()))
            hits += len(np.intersect1d(kept, right))
            masked_hits += len(np.intersect1d(filtered, right))
        dropped_recalls.append(QueryRecall(kind, hits / truth.size, dropped_ms))
        masked_recalls.append(QueryRecall(kind, masked_hits / truth.size, masked_ms))
    removal = Removal(
        rows=int(np.count_nonzero(~live)),
        unchanged=float(np.mean(unchanged)),
        filled=float(np.mean(filled)),
        recalls=tuple(dropped_recalls),
    )
    masking = Masking(
        unchanged=float(np.mean(masked_unchanged)),
        no_worse=float(np.mean(no_worse)),
        recalls=tuple(masked_recalls),
    )
    return removal, masking


def _as_the_engine(
    searcher: Searcher, kind: Modality, live: NDArray[np.bool_], query: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Select the live ones of the best rows and the spare ones, as the engine does."""
    [best] = searcher.search(query[np.newaxis], with_spare(K), None, kind)[1]
    remaining: NDArray[np.int64] = best[(best >= 0) & live[best]]
    return remaining[:K]


def index_markdown(result: IndexInUse) -> str:
    """Format the measurements as Markdown."""
    built = result.built
    took = (
        "kept from an earlier run" if result.build_s is None else f"built in {result.build_s:.0f} s"
    )
    lines = [
        f"{result.workload}: {result.rows:,} x {result.dimension}; {built.kind}, {took}, "
        f"{built.size / built.rows:.1f} bytes a row, target recall {built.tuning.target_recall:g}",
        "",
        "| queries | state | recall@10 | a single query, ms |",
        "| --- | --- | ---: | ---: |",
    ]
    states = {
        "as built": result.recalls,
        f"{result.addition.rows:,} rows added": result.addition.recalls,
        f"{result.removal.rows:,} rows removed": result.removal.recalls,
        "the same rows masked": result.masking.recalls,
    }
    lines += [
        f"| {one.modality} | {state} | {one.recall:.4f} | {one.median_ms:.2f} |"
        for state, recalls in states.items()
        for one in recalls
    ]
    lines += [
        "",
        "| rows that pass | filter and query | queries | recall@10 | worst | ms |",
        "| ---: | --- | --- | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {one.selectivity:.2%} | {one.correlation} | {one.query_modality} | {one.recall:.3f} | "
        f"{one.worst:.2f} | {one.median_ms:.2f} |"
        for one in result.filters
    ]
    addition, removal, masking = result.addition, result.removal, result.masking
    verb = "call" if addition.needs_build else "call for no build; they"
    lines += [
        "",
        f"- {addition.rows:,} rows added {verb}"
        + (" for a build; they" if addition.needs_build else "")
        + f" could be found after {addition.refresh_ms:.1f} ms; {addition.found:.2%} find "
        "themselves first.",
        f"- {removal.rows:,} rows removed: in {removal.unchanged:.2%} of the lists the other hits "
        f"are the same in the same order, and {removal.filled:.2%} still have {K}.",
        f"- The same rows masked, as by a filter: {masking.unchanged:.2%} of the lists are the "
        f"same, {masking.no_worse:.2%} are as good or better.",
    ]
    return "\n".join(lines) + "\n"
