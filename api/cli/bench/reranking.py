"""`mmsearch bench reranking` and `explanations`: its cost, and whether its maps hold."""

from pathlib import Path
from typing import Annotated

import typer

from api.cli.bench.options import (
    DatasetOption,
    MostPhotosOption,
    RoundsOption,
    load_chosen_encoder,
    load_chosen_reranker,
)
from api.cli.options import (
    DeviceOption,
    EncoderOption,
    JsonOption,
    LanguageOption,
    RerankOption,
    SeedOption,
    SplitOption,
    print_result,
    require_paths,
)
from retrieval.errors import UsageError


def reranking(
    photos: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of photos.")],
    candidates: Annotated[
        int, typer.Option("--candidates", min=1, help="Number of photos to rerank per query.")
    ] = 50,
    rounds: RoundsOption = 20,
    encoder: EncoderOption = "starter",
    rerank: RerankOption = "auto",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Measure the time to encode a query and to rerank its candidates."""
    from benchmarks.speed.rerank_latency import measure_reranking

    require_paths([photos])
    reranker = load_chosen_reranker(rerank, encoder, device)
    if reranker is None:
        raise UsageError(f"There is no reranker to measure for {encoder} with --rerank {rerank}.")
    result = measure_reranking(
        photos, load_chosen_encoder(encoder, device), reranker, candidates=candidates, rounds=rounds
    )
    medians = {
        "median_encode_ms": result.median_encode_ms,
        "median_rerank_ms": result.median_rerank_ms,
    }
    print_result(
        {"encoder": encoder, **vars(result), **medians},
        lambda: (
            f"{result.candidates:,} candidates, {rounds} rounds, medians, {result.reranker}:\n"
            f"encode the query  {result.median_encode_ms:8.1f} ms\n"
            f"rerank            {result.median_rerank_ms:8.1f} ms\n"
            f"ratio             {result.ratio:8.2f}\n"
            f"image tokens      {result.image_tokens_per_second:8.1f} images/s (once per image)"
        ),
        as_json=as_json,
    )


def explanations(
    dataset: DatasetOption,
    split: SplitOption = None,
    language: LanguageOption = None,
    limit: MostPhotosOption = 200,
    share: Annotated[
        float, typer.Option("--share", min=0.01, max=0.99, help="Share of the image to paint over.")
    ] = 0.2,
    encoder: EncoderOption = "starter",
    rerank: RerankOption = "auto",
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Test explanations: does painting over the most attended region lower the match?"""
    from api.cli import console
    from benchmarks.datasets import load_dataset
    from benchmarks.quality.explanations import measure_deletion

    photos = load_dataset(dataset, split=split, language=language)
    reranker = load_chosen_reranker(rerank, encoder, device)
    if reranker is None:
        raise UsageError(f"There is no reranker for {encoder!r}, so matches cannot be explained.")
    with console.stage_progress() as progress:
        result = measure_deletion(
            photos,
            load_chosen_encoder(encoder, device),
            reranker,
            limit=limit,
            share=share,
            seed=seed,
            on_progress=progress,
        )
    means = {
        name: float(getattr(result, name).mean())
        for name in ("attended", "random", "least_attended")
    }
    print_result(
        {
            "photos": len(result.attended),
            "share": share,
            "reranker": reranker.name,
            **means,
            "difference": result.difference,
            "interval": [result.low, result.high],
            "wins": result.wins,
        },
        lambda: (
            f"{len(result.attended):,} photos, {share:.0%} of each painted over; "
            f"the match falls by\n"
            f"most attended   {means['attended']:6.2f}\n"
            f"at random       {means['random']:6.2f}\n"
            f"least attended  {means['least_attended']:6.2f}\n"
            f"most attended minus random: {result.difference:.2f} "
            f"({result.low:.2f} to {result.high:.2f}, 95%); more in {result.wins:.0%} of the photos"
        ),
        as_json=as_json,
    )
