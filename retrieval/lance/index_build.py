"""Builds the index of a table's vectors, here or on the machines of a cluster, and tunes it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.encoders.base import Vectors
from retrieval.errors import LibraryError, UsageError, import_errors_as
from retrieval.indices.base import AllowedRows, Effort, Found, VectorIndex, nothing_found
from retrieval.indices.exact import nearest
from retrieval.indices.tuning import (
    TARGET_RECALL,
    TIMED_QUERIES,
    TuningQueries,
    choose_effort,
    seconds_of,
    without_sources,
)
from retrieval.lance.index_settings import (
    HAS_VECTOR,
    IVF_RQ,
    TableIndexSettings,
    choose_index,
    keep_settings,
    settings_of,
)
from retrieval.lance.location import parse
from retrieval.lance.records import vectors_of
from retrieval.lance.schema import VECTOR
from retrieval.lance.table import ROW_ID, LanceTable
from retrieval.media import Modality

METRIC = "cosine"
NAME = "vector_idx"

_SAMPLE_RATE = 64
"""Vectors that each list and each code of a product quantiser is trained with."""
_ITERATIONS = 10
"""Of k-means; with Lance's defaults (256 vectors, 50 rounds) training took twenty times as long, as
it has no fast code for half precision on most processors, and tuning measures what it costs."""
_CODES = 256
_QUERIES = 200
_BLOCK_ROWS = 50_000


@dataclass(frozen=True)
class TableIndexOptions:
    """What to build: kind and partitions None: by size; target_recall None: as before, or 0.98.

    workers: processes of a cluster that build it; 0: this process, without one.
    """

    kind: str | None = None
    partitions: int | None = None
    target_recall: float | None = None
    workers: int = 0


def build_table_index(
    table: LanceTable,
    encode: Callable[[list[str]], Vectors] | None,
    options: TableIndexOptions | None = None,
    *,
    on_progress: Callable[[str, int, int], None] = lambda *_: None,
) -> TableIndexSettings | None:
    """Build the index of a table's vectors, tune it, and keep the settings with the table.

    Searches go on meanwhile; those that follow use the new index, once they look at the newest
    version.

    Args:
        table: the table; it moves on to the version with the index.
        encode: makes vectors of texts, for tuning; None: only images ask, as in a space of vectors
            that were made elsewhere.
        options: what to build; None: by size.
        on_progress: called with the step, and what is done of how much.

    Returns:
        What was built; None where exact search is as good.

    Raises:
        UsageError: the kind cannot be built over these vectors; lance-ray is not installed.
        LibraryError: the store cannot be written.
    """
    options = options or TableIndexOptions()
    table.refresh()
    before = settings_of(table)
    rows = table.count(HAS_VECTOR)
    choice = choose_index(rows, table.space.dimension, options.kind, options.partitions)
    if choice.kind is None:
        return None
    target = options.target_recall or (before.target_recall if before else TARGET_RECALL)
    on_progress("Building the index", 0, 1)
    began = time.perf_counter()
    settings: dict[str, Any] = {
        "num_partitions": choice.partitions,
        "metric": METRIC,
        "sample_rate": max(2, min(_SAMPLE_RATE, rows // _CODES)),
        "max_iters": _ITERATIONS,
    }
    if choice.kind == IVF_RQ:
        # The default of Lance and that of the model that all workers share differ.
        settings["num_bits"] = 1
    else:
        settings["num_sub_vectors"] = choice.parts
    workers = _build(table, choice.kind, settings, options.workers)
    seconds = time.perf_counter() - began
    table.refresh()
    found = TableIndexSettings(
        choice.kind,
        choice.partitions,
        choice.parts,
        rows,
        target,
        choice.reasons,
        seconds=round(seconds, 2),
        workers=workers,
    )
    found = replace(found, efforts=_tune(table, found, encode, on_progress))
    keep_settings(table, found)
    table.refresh()
    on_progress("Building the index", 1, 1)
    return found


def _build(table: LanceTable, kind: str, settings: dict[str, Any], workers: int) -> int:
    """Build with Lance alone, or on a cluster; returns the number of processes that built it."""
    dataset = table.dataset
    try:
        if not workers:
            dataset.create_index(VECTOR, kind, name=NAME, replace=True, **settings)
            return 1
        with import_errors_as(
            UsageError("Index builds on a cluster need: pip install 'mmsearch[cluster]'")
        ):
            import lance_ray
        count = min(workers, len(dataset.get_fragments()))
        uri, store = parse(table.location)
        lance_ray.create_index(
            uri,
            VECTOR,
            kind,
            name=NAME,
            replace=True,
            num_workers=count,
            storage_options=store,
            **settings,
        )
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).partition(", /")[0].strip()[:300]
        raise LibraryError(f"The index of {table.location} was not built: {reason}") from error
    return count


class SearchedTable(VectorIndex):
    """The index of a table, as tuning asks it: rows are the ids that Lance gives them."""

    def __init__(self, table: LanceTable, partitions: int, rows: int) -> None:
        self._table = table
        self._partitions = partitions
        self._count = rows

    def __len__(self) -> int:
        return self._count

    @property
    def max_breadth(self) -> int:
        """As of `VectorIndex`: all lists."""
        return self._partitions

    def refined(self, query: Vectors, k: int, effort: Effort) -> NDArray[np.int64]:
        """Find the ids of the best k for one query, (1, d), compared exactly."""
        return self._ids(query[0], k, effort.breadth, effort.overfetch)

    def _search(
        self, queries: Vectors, k: int, allowed: AllowedRows | None, effort: Effort
    ) -> Found:
        scores, rows = nothing_found(len(queries), k)
        for place, query in enumerate(queries):
            ids = self._ids(query, k, effort.breadth, None)
            rows[place, : len(ids)] = ids
        return scores, rows

    def _ids(
        self, query: NDArray[np.float32], k: int, probes: int, refine: int | None
    ) -> NDArray[np.int64]:
        wanted: dict[str, Any] = {"column": VECTOR, "q": query, "k": k, "metric": METRIC}
        wanted["nprobes"] = probes
        if refine is not None:
            wanted["refine_factor"] = refine
        scanner = self._table.dataset.scanner(
            columns=[ROW_ID], nearest=wanted, disable_scoring_autoprojection=True
        )
        return np.asarray(scanner.to_table().column(ROW_ID).to_numpy(), np.int64)


def exact_neighbours(table: LanceTable, queries: Vectors, k: int) -> NDArray[np.int64]:
    """Find the ids of the k nearest rows of each query by comparing all, (m, k), best first.

    One pass through the table; -1 where there are fewer rows.
    """
    scores, ids = nothing_found(len(queries), k)
    for batch in table.scan([ROW_ID, VECTOR], HAS_VECTOR, batch_rows=_BLOCK_ROWS, in_order=False):
        if not batch.num_rows:
            continue
        of_rows = batch.column(ROW_ID).to_numpy().astype(np.int64)
        found_scores, found = nearest(queries, vectors_of(batch), min(k, len(of_rows)))
        scores = np.concatenate([scores, found_scores], axis=1)
        ids = np.concatenate([ids, of_rows[found]], axis=1)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores = np.take_along_axis(scores, order, axis=1)
        ids = np.take_along_axis(ids, order, axis=1)
    return ids


def _tune(
    table: LanceTable,
    found: TableIndexSettings,
    encode: Callable[[list[str]], Vectors] | None,
    on_progress: Callable[[str, int, int], None],
) -> Mapping[Modality, Effort]:
    index = SearchedTable(table, found.partitions, found.rows)
    asked = _queries(table, encode)
    efforts = {}
    for done, (modality, queries) in enumerate(asked.items()):
        on_progress("Tuning the index", done, len(asked))
        efforts[modality] = _tuned(index, table, queries, found.target_recall)
    on_progress("Tuning the index", len(asked), len(asked))
    return efforts


def _tuned(
    index: SearchedTable, table: LanceTable, queries: TuningQueries, target: float, k: int = 10
) -> Effort:
    sources = queries.source_rows
    exact = exact_neighbours(table, queries.vectors, k + (sources is not None))
    if sources is not None:
        exact = without_sources(exact, sources)

    def seconds(effort: Effort) -> float:
        timed = queries.vectors[:TIMED_QUERIES]
        return seconds_of(lambda query: index.refined(query, k, effort), timed)

    return choose_effort(index, queries.vectors, exact, target, seconds)


def _queries(
    table: LanceTable, encode: Callable[[list[str]], Vectors] | None
) -> dict[Modality, TuningQueries]:
    """Texts that people might search for, and images of the table."""
    from retrieval.indices.tuning_queries import bundled_texts

    asked = {}
    if encode is not None:
        asked[Modality.TEXT] = TuningQueries(encode(bundled_texts()[:_QUERIES]))
    images = table.count(f"modality = '{Modality.IMAGE}'") if encode is not None else 0
    kind = f"modality = '{Modality.IMAGE}'" if images else HAS_VECTOR
    sample = _sampled(table, kind)
    asked[Modality.IMAGE] = TuningQueries(
        vectors_of(sample).astype(np.float32), sample.column(ROW_ID).to_numpy().astype(np.int64)
    )
    return asked


def _sampled(table: LanceTable, predicate: str) -> Any:
    """Return some rows that pass a predicate, of the whole table, with their ids."""
    ids = table.read([ROW_ID], predicate).column(ROW_ID).to_numpy()
    chosen = np.random.default_rng(0).choice(ids, min(len(ids), _QUERIES), replace=False)
    listed = ", ".join(map(str, np.sort(chosen)))
    return table.read([ROW_ID, VECTOR], f"{ROW_ID} IN ({listed})")
