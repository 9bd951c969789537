"""`mmsearch bench table-index`: the index of a Lance table, built here or on a cluster."""

import contextlib
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from api.cli.bench.options import DimensionOption, QueriesOption, SyntheticRowsOption
from api.cli.options import (
    CacheOption,
    ClusterOption,
    JsonOption,
    SeedOption,
    cache_directory,
    complain,
    print_result,
)


def table_index(
    rows: SyntheticRowsOption = 100_000,
    dimension: DimensionOption = 512,
    queries: QueriesOption = 500,
    target_recall: Annotated[
        float,
        typer.Option("--target-recall", min=0.1, max=0.9999, help="Target recall at 10."),
    ] = 0.95,
    cluster: ClusterOption = None,
    cache_folder: CacheOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure the index of a Lance table: build time, recall and speed, beside that of FAISS."""
    from benchmarks.vectors.table_index import measure_table_index, table_index_markdown
    from benchmarks.vectors.workload import synthetic_workload
    from indexer.cluster.connection import connected

    cache = cache_directory(cache_folder, "benchmarks")
    workload = synthetic_workload(
        cache / "vectors", "clip", rows, dimension=dimension, queries=queries, seed=seed
    )
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mmsearch-table-"))
        workers = 0
        if cluster is not None:
            workers = max(1, stack.enter_context(connected(cluster)).cpus - 1)
        result = measure_table_index(
            workload,
            Path(folder),
            workers=workers,
            target_recall=target_recall,
            on_step=complain,
        )
    print_result(asdict(result), lambda: table_index_markdown(result), as_json=as_json)
