"""`mmsearch bench gpu`: compare the index on GPU and CPU."""

from dataclasses import asdict
from typing import Annotated

from api.cli.bench.options import DimensionOption, QueriesOption, SyntheticRowsOption
from api.cli.options import (
    CacheOption,
    JsonOption,
    SeedOption,
    cache_directory,
    complain,
    option,
    print_result,
)


def gpu(
    rows: SyntheticRowsOption = 1_000_000,
    dimension: DimensionOption = 512,
    queries: QueriesOption = 1000,
    factory: Annotated[
        str | None,
        option("--factory", "STRING", "FAISS factory string. (default: by size, as on a GPU)"),
    ] = None,
    cache_folder: CacheOption = None,
    seed: SeedOption = 0,
    device: Annotated[
        str, option("--device", "NAME", "Device: cuda (all GPUs) or cuda:1.")
    ] = "cuda",
    as_json: JsonOption = False,
) -> None:
    """Compare the same index on GPU and CPU: build time, recall and speed."""
    from benchmarks.vectors.gpu import compare_gpu, gpu_markdown, require_gpus
    from benchmarks.vectors.workload import synthetic_workload

    require_gpus(device)  # before the data are generated, which takes minutes
    cache = cache_directory(cache_folder, "benchmarks")
    result = compare_gpu(
        synthetic_workload(
            cache / "vectors", "clip", rows, dimension=dimension, queries=queries, seed=seed
        ),
        device,
        factory=factory,
        seed=seed,
        on_step=complain,
    )
    body = asdict(result) | {"largest_difference": result.largest_difference}
    print_result(body, lambda: gpu_markdown(result), as_json=as_json)
