"""`mmsearch bench throughput`, `memory` and `indexers`: speed and memory of indexing."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.bench.options import (
    THIS_PROGRAM,
    MostPhotosOption,
    RoundsOption,
    parse_numbers,
    whole_numbers,
)
from api.cli.options import (
    BatchSizeOption,
    DeviceOption,
    JsonOption,
    WorkersOption,
    complain,
    option,
    print_result,
    require_paths,
)

if TYPE_CHECKING:
    from benchmarks.speed.indexers import IndexerSpeed
    from benchmarks.speed.memory import MemoryUse
    from benchmarks.speed.throughput import Throughput

_LEAST_MEGAPIXELS, _MOST_MEGAPIXELS = 0.001, 100.0


def throughput(
    photos: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of photos.")],
    encoder: Annotated[
        list[str] | None,
        option(
            "--encoder",
            "NAME",
            "Encoder, as for `mmsearch index`. Repeatable: measured in turn, compared with the "
            "first. (default: starter)",
        ),
    ] = None,
    megapixels: Annotated[
        str | None,
        option(
            "--megapixels",
            "LIST",
            "Comma-separated sizes to resize the photos to first, such as 0.05,2,12. "
            "(default: no resizing)",
        ),
    ] = None,
    limit: MostPhotosOption = 1000,
    rounds: RoundsOption = 3,
    workers: WorkersOption = None,
    batch_size: BatchSizeOption = 64,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure indexing speed: decoding, encoding and committing alone, and whole runs.

    Each encoder is measured by every runtime and precision by which it can be run here.
    """
    from benchmarks.speed.throughput import measure_throughput
    from retrieval.encoders.registry import load_runtimes, resolve_device

    require_paths([photos])
    sizes: Sequence[float | None] = [None]
    if megapixels:
        wanted = f"numbers from {_LEAST_MEGAPIXELS:g} to {_MOST_MEGAPIXELS:g}"
        sizes = parse_numbers(
            megapixels,
            "--megapixels",
            wanted,
            float,
            lambda size: _LEAST_MEGAPIXELS <= size <= _MOST_MEGAPIXELS,
        )
    names = encoder or ["starter"]
    encoders = [each for name in names for each in load_runtimes(name, device)]
    results = [
        result
        for size in sizes
        for result in measure_throughput(
            photos,
            encoders,
            megapixels=size,
            limit=limit,
            rounds=rounds,
            batch_size=batch_size,
            workers=workers,
            on_stage=lambda number, stage, rate: complain(
                f"round {number}: {stage} {rate:.1f} images/s"
            ),
        )
    ]
    body = {
        "encoder": ", ".join(names),
        "device": resolve_device(device),
        "sizes": [asdict(result) for result in results],
    }
    print_result(body, lambda: _throughput_text(results, rounds), as_json=as_json)


def _throughput_text(results: "Sequence[Throughput]", rounds: int) -> str:
    from benchmarks.speed.throughput import STAGES

    lines = []
    for result in results:
        size = "original size" if result.megapixels is None else f"{result.megapixels:g} megapixels"
        lines += [
            f"{result.encoder}{', ' * bool(result.runtime)}{result.runtime}: "
            f"{result.images:,} photos, {size}, {result.file_bytes / 1e6:.2f} MB each; "
            f"{rounds} rounds, medians, {result.workers} decoder processes:",
            *(f"{stage:<12} {result.stages[stage].rate:10.1f} images/s" for stage in STAGES),
            f"ratio        {result.ratio:10.1%} of the slower of decode and encode",
            f"cores' bound {result.cores_bound:10.1f} images/s, if no core were ever idle",
            f"peak memory  {result.peak_memory_bytes / 1e9:10.2f} GB (this process)",
        ]
    if len({result.encoder + result.runtime for result in results}) > 1:
        lines += ["", *_comparison(results)]
    return "\n".join(lines)


def _comparison(results: "Sequence[Throughput]") -> list[str]:
    """Compare encoders and runtimes, in images per second and with the first of each size."""
    width = max(len(result.encoder) for result in results)
    lines = [
        f"{'encoder':<{width}}  {'runtime':<20}  megapixels  {'encode':>8}  ratio  "
        f"{'whole run':>9}  ratio"
    ]
    first = results[0]
    for result in results:
        if result.megapixels != first.megapixels:
            first = result
        encode, base = (each.stages["encode"].rate for each in (result, first))
        whole, whole_base = (each.stages["whole run"].rate for each in (result, first))
        size = "original" if result.megapixels is None else f"{result.megapixels:g}"
        lines.append(
            f"{result.encoder:<{width}}  {result.runtime:<20}  {size:>10}  {encode:>8.1f}  "
            f"{encode / base:>5.2f}  {whole:>9.1f}  {whole / whole_base:>5.2f}"
        )
    return lines


def memory(
    images: Annotated[
        str, option("--images", "LIST", "Comma-separated numbers of images.")
    ] = "5000,50000",
    encoder: Annotated[
        str | None,
        option(
            "--encoder",
            "NAME",
            "Encoder, as for `mmsearch index`. (default: a tiny model of random weights)",
        ),
    ] = None,
    batch_size: BatchSizeOption = 64,
    device: DeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Measure the peak memory of indexing few and many generated images."""
    from benchmarks.speed.memory import measure_memory

    counts = whole_numbers(images, "--images")
    results = measure_memory(
        counts,
        encoder,
        device=device,
        batch_size=batch_size,
        on_run=lambda run: complain(f"{run.images:,} images: {run.seconds:.0f} s"),
    )
    body = {"encoder": encoder, "runs": [asdict(result) for result in results]}
    print_result(body, lambda: _memory_text(results), as_json=as_json)


def _memory_text(results: "Sequence[MemoryUse]") -> str:
    lines = ["    images  run, s  loaded, MB  peak, MB  with readers, MB  second run, s (MB)"]
    for run in results:
        readers = "?" if run.all_peak_bytes is None else f"{run.all_peak_bytes / 1e6:.0f}"
        lines.append(
            f"{run.images:>10,} {run.seconds:>7.1f} {run.ready_bytes / 1e6:>11.0f} "
            f"{run.process_peak_bytes / 1e6:>9.0f} {readers:>17} {run.second_run_s:>14.1f} "
            f"({run.second_run_peak_bytes / 1e6:.0f})"
        )
    if len(results) > 1:
        ratio = results[-1].process_peak_bytes / results[0].process_peak_bytes
        lines.append(f"last peak / first: {ratio:.2f}")
    return "\n".join(lines)


def indexers(
    photos: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of photos.")],
    encoder: Annotated[
        str, option("--encoder", "NAME", "Encoder of open_clip. (default: the one that rclip uses)")
    ] = "open_clip:ViT-B-32-256/datacomp_s34b_b86k",
    limit: MostPhotosOption = 300,
    rclip: Annotated[
        Path | None, option("--rclip", "FILE", "Path of the rclip executable.")
    ] = None,
    rclip_models: Annotated[
        Path | None,
        option(
            "--rclip-models",
            "DIR",
            "Data directory of rclip. (default: it downloads its models each time)",
        ),
    ] = None,
    clip_retrieval: Annotated[
        Path | None, option("--clip-retrieval", "FILE", "Path of the clip-retrieval executable.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare indexing with rclip and clip-retrieval: speed, memory, a second run."""
    from benchmarks.speed import indexers as peers

    given = [path for path in (photos, rclip, rclip_models, clip_retrieval) if path is not None]
    require_paths(given)
    chosen = [peers.mmsearch(THIS_PROGRAM, encoder)]
    if rclip:
        chosen.append(peers.rclip(rclip.absolute(), rclip_models))
    else:
        complain("rclip is left out: give its path with --rclip.")
    if clip_retrieval:
        chosen.append(peers.clip_retrieval(clip_retrieval.absolute(), encoder))
    else:
        complain("clip-retrieval is left out: give its path with --clip-retrieval.")
    results = peers.measure_indexers(
        photos,
        chosen,
        limit=limit,
        on_done=lambda speed: complain(f"{speed.name}: {speed.first_s:.0f} s"),
    )
    rates = ("images_per_second", "images_per_second_started")
    programs = [asdict(speed) | {name: getattr(speed, name) for name in rates} for speed in results]
    body = {"encoder": encoder, "indexers": programs}
    print_result(body, lambda: _indexers_text(results, encoder), as_json=as_json)


def _indexers_text(results: "Sequence[IndexerSpeed]", encoder: str) -> str:
    lines = [
        f"{results[0].images:,} photos, {encoder}:",
        "program         images/s  once started  start, s  all, s  second run, s  peak, MB",
    ]
    for speed in results:
        rate = speed.images_per_second_started
        peak = speed.peak_memory_bytes
        started = "?" if rate is None else f"{rate:.1f}"
        lines.append(
            f"{speed.name:<14} {speed.images_per_second:>9.1f} "
            f"{started:>13} {speed.start_s:>9.1f} {speed.first_s:>7.1f} "
            f"{speed.second_s:>14.1f} {'?' if peak is None else f'{peak / 1e6:.0f}':>9}"
        )
    return "\n".join(lines)
