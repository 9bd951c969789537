"""`mmsearch bench vectors`: compare vector engines."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.bench.options import (
    DimensionOption,
    QueriesOption,
    RoundsOption,
    SyntheticRowsOption,
    load_chosen_encoder,
    whole_numbers,
)
from api.cli.options import (
    CacheOption,
    DeviceOption,
    EncoderOption,
    JsonOption,
    LanguageOption,
    SeedOption,
    SplitOption,
    cache_directory,
    complain,
    option,
    print_result,
    split_list,
)
from retrieval.errors import UsageError

if TYPE_CHECKING:
    from benchmarks.datasets import RetrievalDataset
    from benchmarks.vectors.growth import Growth
    from benchmarks.vectors.search import VectorResult
    from benchmarks.vectors.workload import Workload

_SYNTHETIC = "synthetic"
_PREDICTED_ROWS = 100_000_000


def vectors(
    rows: SyntheticRowsOption = 100_000,
    dimension: DimensionOption = 512,
    data: Annotated[
        str,
        option(
            "--data",
            "NAME",
            "synthetic, synthetic:starter (hardly a modality gap), or FORMAT:PATH of a "
            "dataset of photos and captions, as for `bench retrieval`.",
        ),
    ] = _SYNTHETIC,
    split: SplitOption = None,
    language: LanguageOption = None,
    methods: Annotated[
        str | None,
        option(
            "--methods",
            "LIST",
            "Semicolon-separated methods, or factory:STRING. (default: all installed)",
        ),
    ] = None,
    threads: Annotated[
        str, option("--threads", "LIST", "Comma-separated numbers of threads.")
    ] = "1,2",
    target_recall: Annotated[
        float,
        typer.Option("--target-recall", min=0.1, max=0.9999, help="Target recall of the table."),
    ] = 0.95,
    queries: QueriesOption = 1000,
    rounds: RoundsOption = 1,
    growth: Annotated[
        str | None,
        option(
            "--growth",
            "LIST",
            "Comma-separated numbers of rows: how the cost of one method grows. "
            "(with --methods: of the first)",
        ),
    ] = None,
    encoder: EncoderOption = "starter",
    output: Annotated[
        Path | None,
        option(
            "--output", "DIR", "Directory for plots and results.json. (default: none are written)"
        ),
    ] = None,
    cache_folder: CacheOption = None,
    keep_indices: Annotated[
        Path | None,
        option(
            "--keep-indices",
            "DIR",
            "Directory to reuse built indices from; empty it when a method has changed. "
            "(default: they are deleted)",
        ),
    ] = None,
    build_limit: Annotated[
        float | None,
        option(
            "--build-limit",
            "SECONDS",
            "Maximum build time in seconds; slower methods are left out. (default: none)",
            min=1,
        ),
    ] = None,
    cold: Annotated[
        bool,
        typer.Option(
            "--cold",
            help="Measure exact refine with a cold page cache instead, of FAISS indices. "
            "(with --methods: of these; else of the one by size, and of signs)",
        ),
    ] = False,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Compare vector engines: recall against queries per second, build time and memory."""
    from benchmarks.datasets import load_dataset
    from benchmarks.vectors.cold import COLD_METHODS, cold_body, cold_markdown, measure_cold
    from benchmarks.vectors.peers import METHODS, make_method
    from benchmarks.vectors.search import measure_vectors
    from benchmarks.vectors.tables import growth_markdown, methods_markdown

    usual = COLD_METHODS if cold else tuple(METHODS)
    names = list(split_list(methods, ";") if methods else usual)
    for name in {*names}.difference(COLD_METHODS if cold else ()):
        make_method(name)
    counts = whole_numbers(threads, "--threads")
    sizes = [rows]
    if growth:
        sizes = _sizes(growth, data)
        names = names[:1] if methods else ["mmsearch"]
    cache = cache_directory(cache_folder, "benchmarks")

    def workload_of(size: int) -> "Workload":
        if data.startswith(_SYNTHETIC):
            return _synthetic(cache, data, size, dimension, queries, seed)
        photos = load_dataset(data, split, language)
        return _embedded(cache, photos, encoder, device, queries)

    if cold:
        measured = measure_cold(
            workload_of(rows), names, target_recall=target_recall, seed=seed, on_step=complain
        )
        print_result(cold_body(measured), lambda: cold_markdown(measured), as_json=as_json)
        return
    results = []
    for size in sizes:
        workload = workload_of(size)
        result = measure_vectors(
            workload,
            names,
            threads=counts,
            rounds=rounds,
            seed=seed,
            target_recall=target_recall,
            indices=keep_indices,
            build_limit_s=build_limit,
            on_step=complain,
        )
        results.append(result)
        _tell_skipped(result)
        if output:
            _write(result, output / str(size) if growth else output)
    grown = _growth(results, counts, target_recall) if growth else None

    def tables() -> str:
        of_methods = [methods_markdown(result, counts, target_recall) for result in results]
        return "\n".join([*of_methods, growth_markdown(grown)] if grown else of_methods)

    body = {"results": [asdict(result) for result in results]}
    print_result(body | {"growth": asdict(grown) if grown else None}, tables, as_json=as_json)


def _tell_skipped(result: "VectorResult") -> None:
    for name, reason in result.skipped.items():
        complain(f"{name} is left out: {reason}")


def _write(result: "VectorResult", folder: Path) -> None:
    from benchmarks.vectors.plot import draw_curves

    for file in draw_curves(result, folder):
        complain(f"Plot: {file}")
    text = json.dumps(asdict(result), indent=1)
    (folder / "results.json").write_text(text, encoding="utf-8")


def _growth(results: "Sequence[VectorResult]", threads: Sequence[int], target: float) -> "Growth":
    from benchmarks.vectors.growth import cost_of, predict

    costs = [
        cost_of(method, threads=max(threads), recall=target)
        for result in results
        for method in result.methods
    ]
    if len(costs) < 2:
        raise UsageError("--growth needs measurements at two numbers of rows at least.")
    return predict(costs, _PREDICTED_ROWS)


def _synthetic(
    cache: Path, data: str, rows: int, dimension: int, queries: int, seed: int
) -> "Workload":
    from benchmarks.vectors.synthetic_vectors import PROFILES
    from benchmarks.vectors.workload import synthetic_workload

    profile = data.partition(":")[2] or "clip"
    if profile not in PROFILES:
        raise UsageError(
            f"Unknown synthetic data {data!r}. Available: "
            f"{', '.join(f'{_SYNTHETIC}:{name}' for name in PROFILES)}."
        )
    return synthetic_workload(
        cache / "vectors", profile, rows, dimension=dimension, queries=queries, seed=seed
    )


def _embedded(
    cache: Path, data: "RetrievalDataset", encoder: str, device: str, queries: int
) -> "Workload":
    from api.cli import console
    from benchmarks.quality.embedding_cache import EmbeddingCache
    from benchmarks.vectors.workload import dataset_workload

    with console.stage_progress() as progress:
        return dataset_workload(
            cache / "vectors",
            data,
            load_chosen_encoder(encoder, device),
            EmbeddingCache(cache),
            queries=queries,
            on_progress=progress,
        )


def _sizes(growth: str, data: str) -> list[int]:
    sizes = whole_numbers(growth, "--growth")
    if len(sizes) < 2:
        raise UsageError("--growth takes at least two comma-separated numbers of rows.")
    if not data.startswith(_SYNTHETIC):
        raise UsageError("--growth needs data of any size: --data synthetic.")
    return sizes
