"""`mmsearch bench relevance`: whether relevances are honest, and what a threshold does."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.bench.options import load_chosen_encoder, parse_numbers
from api.cli.options import (
    CacheOption,
    DeviceOption,
    EncoderOption,
    JsonOption,
    LanguageOption,
    SeedOption,
    SplitOption,
    cache_directory,
    option,
    print_result,
    require_paths,
)
from retrieval.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.quality.relevance import RelevanceResult
    from retrieval.encoders.base import Space
    from retrieval.search.relevance import AnyCalibration, QueryKind


def relevance(
    dataset: Annotated[
        str,
        option(
            "--dataset",
            "FORMAT:PATH",
            "Dataset: jsonl, karpathy, coco, flickr30k-csv, csv or parquet.",
        ),
    ],
    split: SplitOption = None,
    language: LanguageOption = None,
    photos: Annotated[
        str,
        option(
            "--photos",
            "held-out|all",
            "held-out: only the half that `mmsearch train relevance` does not train on.",
        ),
    ] = "held-out",
    others: Annotated[
        str | None, option("--others", "SPLIT", "Split of the distractor photos.")
    ] = None,
    other_photos: Annotated[
        int, typer.Option("--other-photos", min=0, help="Maximum number of distractor photos.")
    ] = 1500,
    outside: Annotated[
        bool,
        typer.Option(
            "--outside/--no-outside", help="Also search for things that Flickr8k does not show."
        ),
    ] = True,
    encoder: EncoderOption = "starter",
    calibration: Annotated[
        Path | None,
        option(
            "--calibration",
            "FILE",
            "Calibration file of `mmsearch train relevance`. (default: the one in use)",
        ),
    ] = None,
    thresholds: Annotated[
        str, option("--thresholds", "LIST", "Comma-separated relevance thresholds.")
    ] = "0.05,0.1,0.15,0.2,0.25,0.3,0.4,0.5",
    sizes: Annotated[
        str,
        option(
            "--sizes", "LIST", "Comma-separated sizes of simulated libraries, besides all photos."
        ),
    ] = "30,200,1000",
    searches: Annotated[
        int,
        typer.Option(
            "--searches", min=1, help="Number of simulated searches of each kind of query."
        ),
    ] = 6000,
    output: Annotated[
        Path | None, option("--output", "FILE", "Write the reliability curve (PNG or SVG).")
    ] = None,
    cache_folder: CacheOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure the calibration of relevance: reliability curve, and what thresholds keep."""
    from api.cli import console
    from benchmarks.datasets import load_dataset
    from benchmarks.quality.query_words import absent_queries
    from benchmarks.quality.relevance import (
        PLOT_ENDINGS,
        captioned,
        draw_reliability,
        measure_relevance,
    )
    from retrieval.training.relevance import is_held_out, outside_texts

    if photos not in ("held-out", "all"):
        raise UsageError(f"--photos takes held-out or all, not {photos!r}.")
    if output and output.suffix.lower() not in PLOT_ENDINGS:
        raise UsageError(f"{output}: the file name must end in .png or .svg.")
    require_paths([calibration] if calibration else [])
    least = _numbers(thresholds, "--thresholds", 1.0)
    library_sizes = [int(size) for size in _numbers(sizes, "--sizes", 1e9)]
    asked = captioned(load_dataset(dataset, split=split, language=language))
    if photos == "held-out":
        asked = [photo for photo in asked if is_held_out(photo.path.name)]
    lying = captioned(load_dataset(dataset, split=others, language=language)) if others else []
    lying = [photo for photo in lying if is_held_out(photo.path.name)][:other_photos]
    loaded = load_chosen_encoder(encoder, device)
    with console.stage_progress() as progress:
        result = measure_relevance(
            asked,
            lying,
            loaded,
            _calibrations(loaded.space, calibration),
            cache_directory(cache_folder, "relevance"),
            thresholds=least,
            sizes=library_sizes,
            absent=absent_queries("en") if outside else (),
            outside=[text for text in outside_texts() if is_held_out(text)] if outside else (),
            searches=searches,
            seed=seed,
            is_asked=is_held_out if photos == "held-out" else lambda _: True,
            on_progress=progress,
        )
    if output:
        draw_reliability(result.quality, output)
    body = {"encoder": encoder, "dataset": dataset, **asdict(result)}
    print_result(body, lambda: "\n".join(_lines(result)), as_json=as_json)


def _calibrations(space: "Space", file: Path | None) -> "Mapping[QueryKind, AnyCalibration]":
    from retrieval.search.relevance import CalibrationFile, QueryKind, calibration_for

    if file:
        return CalibrationFile.read(file).by_kind
    return {kind: calibration_for(space, kind) for kind in QueryKind}


def _numbers(text: str, option: str, most: float) -> list[float]:
    wanted = f"numbers above 0 and up to {most:g}"
    return parse_numbers(text, option, wanted, float, lambda number: 0 < number <= most, fewest=0)


def _lines(result: "RelevanceResult") -> list[str]:
    lines = []
    for kind, quality in result.quality.items():
        lines += [
            f"{kind} queries: {quality.searches:,} simulated searches, {quality.hits:,} hits; "
            f"expected calibration error {quality.ece:.4f}, Brier score {quality.brier:.4f} (of "
            f"the base rate alone {quality.base:.4f})",
            "relevance  predicted  observed      hits",
        ]
        for number, (predicted, observed, count) in enumerate(
            zip(quality.predicted, quality.observed, quality.counts, strict=True)
        ):
            if count:
                span = (
                    f"{number / len(quality.counts):.1f}-{(number + 1) / len(quality.counts):.1f}"
                )
                lines.append(f"{span:<9} {predicted:>10.3f} {observed:>9.3f} {count:>9,}")
        lines.append("")
    lines += _cut_lines(result)
    lines += [
        f"{result.queries:,} captions with their photo in the library, and removed; "
        f"{result.absent_texts} texts about things that no photo shows:",
        "  photos    min  photo stays  no hit  hits    removed: no hit  absent: no hit  at most 3",
    ]
    for row in result.thresholds:
        none_there = "-" if row.absent_none is None else f"{row.absent_none:.0%}"
        few = "-" if row.absent_few is None else f"{row.absent_few:.0%}"
        lines.append(
            f"{row.rows:>8,} {row.threshold:>6g} {row.present_kept:>12.0%} "
            f"{row.present_none:>7.0%} {row.present_hits:>5g} {row.removed_none:>18.0%} "
            f"{none_there:>15} {few:>10}"
        )
    return lines


def _cut_lines(result: "RelevanceResult") -> list[str]:
    lines = [
        "What the cut of each query shows:",
        "kind          right photos  queries     F1  best F1  no hit  hits  calibration error",
    ]
    for cut in result.cuts:
        fewest, most = cut.right
        right = f"{fewest:,} or more" if most >= 10**9 else f"{fewest}-{most}" if most else "none"
        lines.append(
            f"{cut.kind:<12} {right:>13} {cut.queries:>8,} {cut.f1:>6.3f} {cut.best_f1:>8.3f} "
            f"{cut.none:>7.0%} {cut.hits:>5g} {cut.ece:>18.3f}"
        )
    lines.append("")
    if result.signed:
        before, after, subtracted = result.signed.unwanted
        kept = result.signed.precision
        lines += [
            f"{result.signed.pairs:,} pairs of a wanted and an unwanted word, first 10 hits: "
            f"{before:.0%} show the unwanted one if it is not in the query, {after:.0%} if it is "
            f"({subtracted:.0%} with all of its vector); precision for the wanted word "
            f"{kept[0]:.0%}, {kept[1]:.0%} ({kept[2]:.0%})",
            "",
        ]
    return lines
