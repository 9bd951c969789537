"""The index of a Lance table, built here or on a cluster: build time, recall and speed.

Beside it the index that a library of the same size gets, over the same rows on this machine.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.vectors.measurement import BATCH, BATCH_WORDS, SINGLE, measure_search
from benchmarks.vectors.workload import MODALITIES, Workload
from retrieval.catalog import FileEntry, ItemEntry
from retrieval.catalog.whole import StoredItem
from retrieval.embeddings import Rows
from retrieval.encoders.base import Space, Vectors
from retrieval.indices.base import Effort, load_engine
from retrieval.indices.choice import BYTES_PER_ROW, choose
from retrieval.indices.refine import search_refined
from retrieval.indices.tuning import TuningQueries, tune
from retrieval.lance.index_build import SearchedTable, TableIndexOptions, build_table_index
from retrieval.lance.index_settings import KINDS
from retrieval.lance.records import stored_file, table_of
from retrieval.lance.table import ROW_ID, LanceTable
from retrieval.media import MediaKind, Modality

_K = 10
_ROWS_A_FRAGMENT = 12_500


@dataclass(frozen=True)
class IndexPoint:
    """Searches with the tuned effort of one modality of queries.

    recall: recall@10 of queries that it was not tuned with. queries_per_second: single queries, and
    in batches of 100, which a table answers one by one.
    """

    modality: str
    breadth: int
    overfetch: int
    recall: float
    queries_per_second: float
    batch_queries_per_second: float


@dataclass(frozen=True)
class BuiltIndex:
    """An index, and what it took. workers: processes that built it; build_s without tuning."""

    name: str
    kind: str
    workers: int
    build_s: float
    points: tuple[IndexPoint, ...]


@dataclass(frozen=True)
class TableIndexResult:
    """All indices over one workload."""

    workload: str
    rows: int
    dimension: int
    target_recall: float
    indices: tuple[BuiltIndex, ...]


def measure_table_index(
    workload: Workload,
    folder: Path,
    *,
    workers: int = 0,
    kinds: Sequence[str] = KINDS,
    target_recall: float = 0.95,
    on_step: Callable[[str], None] = lambda _: None,
) -> TableIndexResult:
    """Write a table of the rows, build each kind of index over it and one of FAISS, and search.

    Args:
        workload: rows and queries; the first half of the text queries is for tuning.
        folder: for the table.
        workers: processes of the cluster that this process is connected to; 0: none.
        kinds: of the table's index.
        target_recall: recall@10, 0 to 1, that each is tuned to.
        on_step: called with a line of text after each step.
    """
    queries, truth = workload.queries(), workload.truth()
    half = len(queries[Modality.TEXT]) // 2
    began = time.perf_counter()
    table, ids = _write(workload.rows, folder)
    on_step(f"table of {len(ids):,} rows written in {time.perf_counter() - began:.1f} s")
    row_of = {int(row_id): row for row, row_id in enumerate(ids)}
    built: list[BuiltIndex] = []
    for kind in kinds:
        made = build_table_index(
            table,
            lambda texts: queries[Modality.TEXT][: min(half, len(texts))],
            TableIndexOptions(kind, None, target_recall, workers),
        )
        assert made is not None
        on_step(f"{kind}: built in {made.seconds:.1f} s by {made.workers} processes")
        searched = SearchedTable(table, made.partitions, made.rows)

        def search(
            asked: Vectors, effort: Effort, searched: SearchedTable = searched
        ) -> NDArray[np.int64]:
            return np.array(
                [
                    [row_of[found] for found in searched.refined(query[None], _K, effort).tolist()]
                    for query in asked
                ],
                np.int64,
            )

        points = _points(search, made.efforts, queries, truth, half)
        built.append(BuiltIndex(f"Lance {kind}", kind, made.workers, made.seconds, points))
        on_step(f"{kind}: searched")
    built.append(_faiss(workload.rows, folder, queries, truth, half, target_recall))
    on_step("FAISS: built and searched")
    shape = workload.rows.shape
    return TableIndexResult(workload.name, shape[0], shape[1], target_recall, tuple(built))


def table_index_markdown(result: TableIndexResult) -> str:
    """Return the measurements as a table in Markdown."""
    single, batch = BATCH_WORDS[SINGLE], BATCH_WORDS[BATCH]
    lines = [
        f"{result.workload}, {result.rows:,} x {result.dimension}, tuned to recall@10 of "
        f"{result.target_recall:g}",
        "",
        f"| index | build s (processes) | queries | probes | candidates a hit | recall@10 | q/s "
        f"{single} | q/s {batch} |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {index.name} | {index.build_s:.1f} ({index.workers}) | {point.modality} | "
        f"{point.breadth} | {point.overfetch} | {point.recall:.3f} | "
        f"{point.queries_per_second:,.0f} | {point.batch_queries_per_second:,.0f} |"
        for index in result.indices
        for point in index.points
    ]
    return "\n".join(lines)


def _write(rows: Rows, folder: Path) -> tuple[LanceTable, NDArray[np.int64]]:
    """Write a table of images that do not exist; returns it and the id of each row."""
    space = Space("vectors:benchmark", "none", "none", rows.shape[1])
    table = LanceTable.create(f"lance:{folder / 'table'}", space)
    for begin in range(0, len(rows), _ROWS_A_FRAGMENT):
        files = (
            stored_file(
                FileEntry(f"/images/{row:09}.jpg", MediaKind.IMAGE, 1, 1, f"{row:032x}"),
                [StoredItem(ItemEntry(Modality.IMAGE, -1), rows[row])],
            )
            for row in range(begin, min(begin + _ROWS_A_FRAGMENT, len(rows)))
        )
        table.append(table_of(files, space))
    stored = table.read([ROW_ID, "path"])
    order = np.argsort(stored.column("path").to_numpy(zero_copy_only=False).astype(str))
    return table, stored.column(ROW_ID).to_numpy().astype(np.int64)[order]


def _faiss(
    rows: Rows,
    folder: Path,
    queries: dict[Modality, Vectors],
    truth: dict[Modality, NDArray[np.int64]],
    half: int,
    target_recall: float,
) -> BuiltIndex:
    kind = choose(len(rows), rows.shape[1], BYTES_PER_ROW * len(rows)).factory or ""
    engine = load_engine("faiss" if kind else "exact")
    began = time.perf_counter()
    index = engine.create(folder / "index", rows, kind)
    index.add(rows)
    seconds = time.perf_counter() - began
    chosen = np.sort(np.random.default_rng(0).choice(len(rows), half, replace=False))
    asked = {
        Modality.TEXT: TuningQueries(queries[Modality.TEXT][:half]),
        Modality.IMAGE: TuningQueries(rows[chosen].astype(np.float32), chosen.astype(np.int64)),
    }
    efforts = tune(index, rows, asked, target_recall)

    def search(asked: Vectors, effort: Effort) -> NDArray[np.int64]:
        return search_refined(index, rows, asked, _K, effort)[1]

    points = _points(search, efforts, queries, truth, half)
    return BuiltIndex("FAISS, of this machine", index.kind, 1, seconds, points)


def _points(
    search: Callable[[Vectors, Effort], NDArray[np.int64]],
    efforts: Mapping[Modality, Effort],
    queries: dict[Modality, Vectors],
    truth: dict[Modality, NDArray[np.int64]],
    half: int,
) -> tuple[IndexPoint, ...]:
    points = []
    for modality in MODALITIES:
        effort = efforts[modality]

        def search_so(asked: Vectors, effort: Effort = effort) -> NDArray[np.int64]:
            return search(asked, effort)

        measured = measure_search(
            search_so,
            queries[modality][half:],
            truth[modality][half:],
            _K,
        )
        (_, recall, single), (_, _, batch) = measured
        points.append(IndexPoint(modality, effort.breadth, effort.overfetch, recall, single, batch))
    return tuple(points)
