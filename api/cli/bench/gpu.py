"""`mmsearch bench gpu`: compare the index on GPU and CPU."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import platformdirs
import typer

from api.cli.options import JsonOption, print_json


def gpu(
    rows: Annotated[
        int, typer.Option("--rows", min=200, help="Number of synthetic rows.")
    ] = 1_000_000,
    dimension: Annotated[int, typer.Option("--dimension", min=16, max=4096)] = 512,
    queries: Annotated[
        int, typer.Option("--queries", min=100, help="Number of queries per modality.")
    ] = 1000,
    factory: Annotated[
        str | None,
        typer.Option(
            "--factory",
            metavar="STRING",
            help="FAISS factory string. (default: by size, as on a GPU)",
            show_default=False,
        ),
    ] = None,
    cache_folder: Annotated[
        Path | None,
        typer.Option(
            "--cache", metavar="DIR", help="Benchmark cache directory. (default: user cache)"
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Random seed.")] = 0,
    device: Annotated[
        str, typer.Option("--device", metavar="NAME", help="Device: cuda (all GPUs) or cuda:1.")
    ] = "cuda",
    as_json: JsonOption = False,
) -> None:
    """Compare the same index on GPU and CPU: build time, recall and speed."""
    from api.cli import console
    from benchmarks.vectors.gpu import compare_gpu, gpu_markdown, require_gpus
    from benchmarks.vectors.workload import synthetic_workload

    require_gpus(device)  # before the data are generated, which takes minutes
    cache = cache_folder or (
        Path(platformdirs.user_cache_dir("mmsearch", appauthor=False)) / "benchmarks"
    )
    result = compare_gpu(
        synthetic_workload(
            cache / "vectors", "clip", rows, dimension=dimension, queries=queries, seed=seed
        ),
        device,
        factory=factory,
        seed=seed,
        on_step=lambda step: console.err.print(step, markup=False, highlight=False),
    )
    if as_json:
        print_json(asdict(result) | {"largest_difference": result.largest_difference})
        return
    console.out.print(gpu_markdown(result), markup=False, highlight=False, end="", soft_wrap=True)
