"""`mmsearch bench index`: recall of the default index over its life."""

import tempfile
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from api.cli.bench.options import DimensionOption
from api.cli.options import (
    CacheOption,
    DeviceOption,
    JsonOption,
    SeedOption,
    cache_directory,
    complain,
    option,
    print_result,
)


def index(
    rows: Annotated[
        int, typer.Option("--rows", min=50_001, help="Number of rows; fewer are searched exactly.")
    ] = 100_000,
    dimension: DimensionOption = 512,
    queries: Annotated[
        int, typer.Option("--queries", min=20, help="Number of queries per modality.")
    ] = 500,
    filter_queries: Annotated[
        int,
        typer.Option("--filter-queries", min=1, help="Number of queries per modality and filter."),
    ] = 20,
    added: Annotated[int, typer.Option("--added", min=1, help="Number of rows to add.")] = 10_000,
    removed: Annotated[
        int | None,
        typer.Option("--removed", min=1, help="Number of rows to remove. (default: a tenth)"),
    ] = None,
    target_recall: Annotated[
        float,
        typer.Option(
            "--target-recall", min=0.1, max=0.9999, help="Target recall, as for `build-index`."
        ),
    ] = 0.98,
    cache_folder: CacheOption = None,
    keep: Annotated[
        Path | None,
        option(
            "--keep-index",
            "DIR",
            "Directory to keep embeddings and index in. (default: deleted afterwards)",
        ),
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Measure the recall of the default index: filters, added and removed rows."""
    from benchmarks.vectors.lifecycle import index_markdown, measure_index

    cache = cache_directory(cache_folder, "benchmarks")
    with ExitStack() as stack:
        folder = keep or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="mmsearch-index-"))
        )
        folder.mkdir(parents=True, exist_ok=True)
        result = measure_index(
            cache / "vectors",
            rows,
            dimension=dimension,
            queries=queries,
            filter_queries=filter_queries,
            added=added,
            removed=rows // 10 if removed is None else removed,
            target_recall=target_recall,
            folder=folder,
            seed=seed,
            device=device,
            on_step=complain,
        )
    body = asdict(result) | {"built": result.built.facts()}
    print_result(body, lambda: index_markdown(result), as_json=as_json)
