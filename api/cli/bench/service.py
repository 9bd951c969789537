"""`mmsearch bench service`: load test of the HTTP service."""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from api.cli.bench.options import THIS_PROGRAM, RoundsOption, whole_numbers
from api.cli.options import (
    DeviceOption,
    JsonOption,
    LibraryOption,
    SplitOption,
    complain,
    option,
    print_result,
    require_paths,
)
from retrieval.library import default_library_path, open_library


def service(
    dataset: Annotated[
        str,
        option(
            "--dataset",
            "FORMAT:PATH",
            "Dataset whose captions are the queries; as for `bench retrieval`.",
        ),
    ],
    split: SplitOption = None,
    library: LibraryOption = None,
    clients: Annotated[
        str, option("--clients", "LIST", "Comma-separated numbers of clients.")
    ] = "1,8,32,128",
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.5, help="Duration of each measurement in seconds.")
    ] = 30,
    rounds: RoundsOption = 1,
    rerank: Annotated[
        str, option("--rerank", "NAME", "Reranker, as for `mmsearch serve`.")
    ] = "auto",
    overload: Annotated[
        int | None,
        option(
            "--overload",
            "CLIENTS",
            "Also test overload: N clients and a queue a quarter as long.",
            min=2,
        ),
    ] = None,
    soak: Annotated[
        float | None,
        option("--soak", "S", "Also test for memory growth: 8 clients for S seconds.", min=1),
    ] = None,
    indexing: Annotated[
        Path | None,
        option(
            "--indexing", "DIR", "Also index this directory into a copy of the library meanwhile."
        ),
    ] = None,
    kill: Annotated[
        bool, typer.Option("--kill", help="Also test SIGKILL under load and a restart.")
    ] = False,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Load-test the service: throughput, latency, errors and memory, with and without batching."""
    from benchmarks.datasets import load_dataset
    from benchmarks.service.load import ServiceBenchmark, service_markdown

    require_paths([indexing] if indexing else [])
    counts = whole_numbers(clients, "--clients")
    opened = open_library(library or default_library_path())
    captions = list(load_dataset(dataset, split=split).texts.values())
    benchmark = ServiceBenchmark(
        THIS_PROGRAM,
        opened.path,
        captions,
        rerank=rerank,
        device=device,
        on_step=complain,
    )
    result = benchmark.measure(counts, seconds, rounds)
    if overload:
        result.overload = benchmark.overload(overload, seconds, max(1, overload // 4))
    if soak:
        result.soak = benchmark.soak(soak)
    if indexing:
        with tempfile.TemporaryDirectory() as workspace:
            result.beside_indexing = benchmark.beside_indexing(indexing, Path(workspace), seconds)
    if kill:
        result.crash = benchmark.crash(min(seconds, 10))
    body = asdict(result) | {"speedup": result.speedup, "tail": result.tail}
    print_result(body, lambda: service_markdown(result), as_json=as_json)
