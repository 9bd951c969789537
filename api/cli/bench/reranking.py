"""`mmsearch bench reranking`, `reranker-kinds` and `explanations`: cost, kinds, heat maps."""

import json
from pathlib import Path
from typing import Annotated

import typer

from api.cli.bench.options import (
    DatasetOption,
    JsonFileOption,
    MarkdownOption,
    MostPhotosOption,
    RoundsOption,
    load_chosen_encoder,
    load_chosen_reranker,
)
from api.cli.options import (
    CacheOption,
    DeviceOption,
    EncoderOption,
    JsonOption,
    LanguageOption,
    RerankOption,
    SeedOption,
    SplitOption,
    cache_directory,
    complain,
    option,
    options_of,
    print_result,
    require_paths,
    split_list,
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


def reranker_kinds(
    dataset: Annotated[
        Path,
        option(
            "--dataset",
            "DIR",
            "Dataset directory with captions.jsonl (splits train and val) and images/.",
        ),
    ],
    output: Annotated[
        Path, option("--output", "DIR", "Directory for the models and what was measured.")
    ] = Path("reranker-kinds"),
    kinds: Annotated[
        str,
        typer.Option(
            "--kinds", help="Comma-separated kinds, as KIND or KIND:DEPTH; the first is compared."
        ),
    ] = "cross,cross:2,single-stream,concat,gated,bilinear,cosine",
    encoder: EncoderOption = "starter",
    cache: CacheOption = None,
    languages: Annotated[
        str, typer.Option("--languages", help="Comma-separated caption languages.")
    ] = "en",
    limit: Annotated[
        int | None, typer.Option("--limit", min=2, help="Use only the first N photos of a split.")
    ] = None,
    width: Annotated[
        int,
        typer.Option(
            "--width", min=1, help="Channels of the first kind; its parameters are the measure."
        ),
    ] = 256,
    heads: Annotated[int, typer.Option("--heads", min=1, help="Number of attention heads.")] = 4,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0, help="Time to train each kind.")
    ] = 1800,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, help="Train each kind N steps an epoch instead."),
    ] = None,
    epochs: Annotated[
        int, typer.Option("--epochs", min=1, help="Number of epochs, measured after each.")
    ] = 4,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=2, help="Photos a step; all pairs are scored.")
    ] = 16,
    candidates: Annotated[
        int, typer.Option("--candidates", min=1, help="Number of candidates to rerank.")
    ] = 50,
    rounds: RoundsOption = 20,
    seed: SeedOption = 0,
    device: Annotated[str, option("--device", "NAME", "Device: cpu or cuda.")] = "cpu",
    json_file: JsonFileOption = None,
    markdown_file: MarkdownOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare kinds of rerankers, trained with equal parameters in equal time.

    A command that was stopped goes on where it was: kinds that are done are not trained again.
    """
    given = locals() | {"languages": split_list(languages), "kinds": split_list(kinds)}
    given |= {"cache": cache_directory(cache, "tokens")}
    from api.cli import console
    from benchmarks.quality.reranker_kinds import (
        KindRecord,
        KindsComparison,
        compare_kinds,
        kinds_json,
        kinds_markdown,
    )
    from retrieval.files import write_atomically

    require_paths([dataset])
    settings = KindsComparison(**options_of(KindsComparison, given))

    def told(record: KindRecord) -> None:
        complain(f"{record.plan.name}: {record.plan.steps * epochs:,} steps, done")

    with console.stage_progress() as progress:
        result = compare_kinds(
            settings, load_chosen_encoder(encoder, device), on_kind=told, on_progress=progress
        )
    body = kinds_json(result)
    if json_file:
        write_atomically(json_file, json.dumps(body, indent=2).encode())
    if markdown_file:
        write_atomically(markdown_file, kinds_markdown(body).encode())
    print_result(body, lambda: kinds_markdown(body), as_json=as_json)


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
