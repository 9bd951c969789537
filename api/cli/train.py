"""`mmsearch train`: train the built-in models."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.options import (
    CacheOption,
    CaptionsOption,
    JsonOption,
    SeedOption,
    cache_directory,
    complain,
    option,
    options_of,
    print_result,
    require_paths,
    split_list,
)
from api.cli.train_all import everything
from api.cli.train_encoder import encoder
from api.cli.training_report import percentages
from retrieval.errors import UsageError

if TYPE_CHECKING:
    from retrieval.training.heads import EpochResult
    from retrieval.training.relevance import Quality
    from retrieval.training.rerankers import RerankerEpoch

DatasetOption = Annotated[
    Path,
    option(
        "--dataset",
        "DIR",
        "Dataset directory with captions.jsonl (splits train and val) and images/.",
    ),
]
LanguagesOption = Annotated[
    str, typer.Option("--languages", help="Comma-separated caption languages to train on.")
]
EpochsOption = Annotated[int, typer.Option("--epochs", min=1, help="Maximum number of epochs.")]
PatienceOption = Annotated[
    int, typer.Option("--patience", min=1, help="Early stopping: epochs without a better recall.")
]
LearningRateOption = Annotated[
    float, typer.Option("--learning-rate", help="Peak learning rate of AdamW.")
]
WeightDecayOption = Annotated[float, typer.Option("--weight-decay", help="Weight decay of AdamW.")]
VariantsOption = Annotated[
    int,
    typer.Option(
        "--variants", min=1, help="Augmented copies of each training photo, itself included."
    ),
]
TrainingDeviceOption = Annotated[str, option("--device", "NAME", "Device: cpu or cuda.")]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Resume after the last epoch in --output.")
]

train = typer.Typer(help="Train the built-in models.", no_args_is_help=True)


@train.callback()
def group() -> None:
    """Train the built-in models."""


train.command()(encoder)
train.command("all")(everything)


@train.command()
def heads(
    dataset: DatasetOption,
    output: Annotated[
        Path, option("--output", "DIR", "Directory for heads and checkpoint.")
    ] = Path("heads"),
    cache: CacheOption = None,
    also_measure: Annotated[
        Path | None,
        option("--also-measure", "DIR", "Second dataset, measured after each epoch only."),
    ] = None,
    captions: CaptionsOption = [],  # noqa: B006
    languages: LanguagesOption = "en",
    parallel: Annotated[
        list[Path],
        option(
            "--parallel",
            "FILE",
            "JSON lines with a text for each language, which mean the same. Repeatable.",
        ),
    ] = [],  # noqa: B006
    parallel_sentences: Annotated[
        int, typer.Option("--parallel-sentences", min=1, help="Lines to draw from each of them.")
    ] = 6000,
    teacher: Annotated[
        str,
        option("--teacher", "NAME", "Encoder whose similarities are imitated; '' for none."),
    ] = "starter:1",
    start: Annotated[
        Path | None, option("--start", "FILE", "Heads of an earlier run to go on from.")
    ] = None,
    epochs: EpochsOption = 18,
    patience: PatienceOption = 18,
    batch_size: Annotated[int, typer.Option("--batch-size", min=2, help="Photos a step.")] = 512,
    learning_rate: LearningRateOption = 1e-3,
    weight_decay: WeightDecayOption = 0.1,
    dropout: Annotated[
        float, typer.Option("--dropout", min=0, max=0.9, help="Dropout rate.")
    ] = 0.2,
    position_dropout: Annotated[
        float,
        typer.Option(
            "--position-dropout", min=0, max=0.9, help="Share of a photo's positions left out."
        ),
    ] = 0.2,
    variants: VariantsOption = 8,
    words: Annotated[
        int, typer.Option("--words", min=0, help="Words and phrases of the captions a step.")
    ] = 128,
    class_photos: Annotated[
        int,
        typer.Option(
            "--class-photos", min=0, max=1000, help="Synthetic photos of ImageNet classes a step."
        ),
    ] = 128,
    seed: SeedOption = 0,
    device: TrainingDeviceOption = "cpu",
    resume: ResumeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train the projection heads of the starter encoder, second edition.

    The first of the languages is the main one. `mmsearch train export` makes networks of the heads.
    """
    given = locals() | _inputs(dataset, cache, "towers", languages)
    given |= {"captions": tuple(captions), "parallel": tuple(parallel)}
    from api.cli import console
    from retrieval.training.head_data import HeadsTraining
    from retrieval.training.heads import train_heads

    config = HeadsTraining(**options_of(HeadsTraining, given))
    with console.stage_progress() as progress:
        result = train_heads(
            config,
            on_epoch=lambda epoch: complain(_line(epoch)),
            on_progress=progress,
        )
    body = {
        "heads": str(result.heads),
        "stopped_early": result.stopped_early,
        "best": asdict(result.best),
        "epochs": [asdict(epoch) for epoch in result.epochs],
    }
    print_result(body, lambda: f"Best {_line(result.best)}\nHeads: {result.heads}", as_json=as_json)


@train.command()
def average(
    heads: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Heads files.")],
    weights: Annotated[
        str, typer.Option("--weights", help="Comma-separated weight of each. (default: equal)")
    ] = "",
    output: Annotated[Path, option("--output", "FILE", "Heads file to write.")] = Path(
        "starter_heads.safetensors"
    ),
    as_json: JsonOption = False,
) -> None:
    """Average the heads of runs that went on from each other, which often are better than each."""
    from retrieval.training.heads import average_heads

    try:
        shares = [float(each) for each in split_list(weights)] or [1.0] * len(heads)
    except ValueError as error:
        raise UsageError(f"--weights must be numbers, not {weights!r}.") from error
    average_heads(heads, shares, output)
    print_result({"heads": str(output)}, lambda: f"Heads: {output}", as_json=as_json)


@train.command("fusion", hidden=True)  # the earlier name
@train.command()
def reranker(
    context: typer.Context,
    dataset: DatasetOption,
    output: Annotated[
        Path | None,
        option("--output", "DIR", "Directory for model and checkpoint. (default: reranker)"),
    ] = None,
    encoder: Annotated[
        str, option("--encoder", "NAME", "Encoder whose candidates are reranked.")
    ] = "starter",
    cache: CacheOption = None,
    captions: CaptionsOption = [],  # noqa: B006
    languages: LanguagesOption = "en",
    start: Annotated[
        Path | None, option("--start", "FILE", "Model of an earlier run to go on from.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=2, help="Use only the first N photos of a split.")
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            help="Architecture: cross, single-stream, concat, gated, bilinear or cosine.",
        ),
    ] = "cross",
    width: Annotated[int, typer.Option("--width", min=1, help="Channels of every layer.")] = 256,
    heads: Annotated[int, typer.Option("--heads", min=1, help="Number of attention heads.")] = 4,
    depth: Annotated[
        int | None,
        typer.Option(
            "--depth",
            min=1,
            help="Cross-attention blocks, or layers of the single stream. "
            "(default: 1; single-stream: 2)",
        ),
    ] = None,
    feed_forward: Annotated[
        int | None,
        typer.Option(
            "--feed-forward",
            min=0,
            help="Hidden width of perceptrons, as a multiple of --width. "
            "(default: 0; single-stream: 2)",
        ),
    ] = None,
    dropout: Annotated[
        float, typer.Option("--dropout", min=0, max=0.9, help="Dropout rate.")
    ] = 0.2,
    epochs: EpochsOption = 6,
    patience: PatienceOption = 3,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=2, help="Photos a step; all pairs are scored.")
    ] = 32,
    group_size: Annotated[
        int,
        typer.Option(
            "--group-size", min=1, help="Photos of a batch that are hard negatives of each other."
        ),
    ] = 6,
    neighbours: Annotated[
        int, typer.Option("--neighbours", min=1, help="Nearest photos to draw hard negatives from.")
    ] = 60,
    learning_rate: LearningRateOption = 5e-4,
    weight_decay: WeightDecayOption = 0.05,
    listwise_weight: Annotated[
        float,
        typer.Option("--listwise-weight", min=0, help="Weight of the listwise ranking loss."),
    ] = 1.0,
    matching_weight: Annotated[
        float,
        typer.Option(
            "--matching-weight", min=0, help="Weight of the matching loss over single pairs."
        ),
    ] = 0.2,
    contrastive_weight: Annotated[
        float, typer.Option("--contrastive-weight", min=0, help="Weight of the contrastive loss.")
    ] = 0.0,
    masked_word_weight: Annotated[
        float,
        typer.Option(
            "--masked-word-weight",
            min=0,
            help="Weight of masked language modelling with the image as context.",
        ),
    ] = 0.0,
    masked_share: Annotated[
        float, typer.Option("--masked-share", help="Share of the words masked for it.")
    ] = 0.15,
    alignment_weight: Annotated[
        float,
        typer.Option(
            "--alignment-weight",
            min=0,
            help="Weight of word-region alignment by optimal transport.",
        ),
    ] = 0.0,
    sharing: Annotated[
        str,
        typer.Option(
            "--sharing",
            help="Parameter sharing of the tasks: hard (one trunk) or soft (tied trunks).",
        ),
    ] = "hard",
    tie_weight: Annotated[
        float,
        typer.Option(
            "--tie-weight", min=0, help="Weight of the squared distance of tied trunks (soft)."
        ),
    ] = 1e-3,
    variants: VariantsOption = 2,
    rerank_depth: Annotated[
        int, typer.Option("--rerank-depth", min=1, help="Candidates the model reranks by default.")
    ] = 50,
    seed: SeedOption = 0,
    device: TrainingDeviceOption = "cpu",
    resume: ResumeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a reranker for an encoder: cross-attention, one stream, or simpler kinds.

    The first edition's model was trained with the defaults.
    """
    given = locals() | _inputs(dataset, cache, "tokens", languages)
    from api.cli import console
    from retrieval.encoders.registry import load_encoder
    from retrieval.training.rerankers import RerankerTraining, default_layers, train_reranker

    layers = {name: given[name] for name in ("depth", "feed_forward") if given[name] is not None}
    given |= default_layers(kind) | layers
    name = context.info_name or "reranker"
    given |= {"output": output or Path(name), "file_name": f"{name}.safetensors"}
    given |= {"captions": tuple(captions)}
    config = RerankerTraining(**options_of(RerankerTraining, given))
    with console.stage_progress() as progress:
        result = train_reranker(
            config,
            load_encoder(encoder, device),
            on_epoch=lambda epoch: complain(_reranker_line(epoch)),
            on_progress=progress,
        )
    print_result(
        {
            "model": str(result.model),
            "match_weight": result.match_weight,
            "stopped_early": result.stopped_early,
            "recalls": asdict(result.recalls),
            "alone": asdict(result.alone),
            "averaged": result.averaged,
            "epochs": [asdict(epoch) for epoch in result.epochs],
        },
        lambda: (
            f"Encoder alone: {percentages(result.alone)}\n"
            f"Reranked:      {percentages(result.recalls)} (match weight {result.match_weight})\n"
            f"Model: {result.model}"
        ),
        as_json=as_json,
    )


@train.command()
def relevance(
    dataset: DatasetOption,
    output: Annotated[Path, option("--output", "FILE", "Calibration file.")] = Path(
        "relevance.json"
    ),
    generic: Annotated[
        Path | None,
        option("--generic", "FILE", "Also write a scale-free calibration for other encoders."),
    ] = None,
    encoder: Annotated[
        str, option("--encoder", "NAME", "Encoder whose scores are calibrated.")
    ] = "starter",
    cache: CacheOption = None,
    distractors: Annotated[
        int,
        typer.Option(
            "--distractors", min=0, help="Photos of train to add to each half as distractors."
        ),
    ] = 1500,
    outside: Annotated[
        int, typer.Option("--outside", min=0, help="Out-of-domain texts in each half.")
    ] = 2500,
    searches: Annotated[
        int, typer.Option("--searches", min=1, help="Simulated searches of each kind and half.")
    ] = 6000,
    seed: SeedOption = 0,
    device: TrainingDeviceOption = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Calibrate the relevance of an encoder's scores.

    The shipped calibrations were made with the defaults. To use another one in a library, put it
    into the directory of its space as relevance.json.
    """
    given = locals() | _inputs(dataset, cache, "relevance", "")
    from api.cli import console
    from retrieval.encoders.registry import load_encoder
    from retrieval.training.relevance import RelevanceTraining, train_relevance

    config = RelevanceTraining(**options_of(RelevanceTraining, given))
    with console.stage_progress() as progress:
        result = train_relevance(config, load_encoder(encoder, device), on_progress=progress)
    named = {f"{kind}": each for kind, each in result.quality.items()}
    named |= {f"generic, {kind}": each for kind, each in result.generic_quality.items()}
    lines = [f"{name} queries: {_quality(each)}" for name, each in named.items()]
    body = {
        "output": str(output),
        "quality": {kind: asdict(each) for kind, each in result.quality.items()},
        "generic_quality": {kind: asdict(each) for kind, each in result.generic_quality.items()},
    }
    print_result(body, lambda: "\n".join([*lines, f"Calibration: {output}"]), as_json=as_json)


@train.command()
def export(
    output: Annotated[Path, option("--output", "DIR", "Directory for the networks.")] = Path(
        "networks"
    ),
    heads: Annotated[
        Path | None, option("--heads", "FILE", "Heads of starter: export its networks.")
    ] = None,
    reranker: Annotated[
        Path | None, option("--reranker", "FILE", "Cross-attention model: export its networks.")
    ] = None,
    dataset: Annotated[
        Path | None,
        option("--dataset", "DIR", "Dataset whose train photos calibrate the int8 image network."),
    ] = None,
    tower: Annotated[
        Path | None,
        option("--tower", "FILE", "Image network in int8 to take over instead: an image.onnx."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Export trained models to ONNX files, which run without PyTorch.

    Either heads, with an image tower in int8, or a reranker; needs the extra `export`.
    """
    from api.cli import console
    from retrieval.training.reranker_export import export_reranker
    from retrieval.training.starter_export import export_starter

    if (heads is None) == (reranker is None):
        raise UsageError("Give either `--heads FILE` or `--reranker FILE`.")
    if heads is not None:
        with console.stage_progress() as progress:
            export_starter(heads, output, dataset=dataset, tower=tower, on_progress=progress)
    else:
        assert reranker is not None
        if dataset is not None or tower is not None:
            raise UsageError("`--dataset` and `--tower` go with `--heads`.")
        export_reranker(reranker, output)
    files = {path.name: path.stat().st_size for path in sorted(output.glob("*.onnx"))}
    lines = [f"{name:<20} {size / 1e6:6.2f} MB" for name, size in files.items()]
    print_result(
        {"output": str(output), "bytes": files},
        lambda: "\n".join([*lines, f"Networks: {output}"]),
        as_json=as_json,
    )


def _inputs(dataset: Path, cache: Path | None, cache_name: str, languages: str) -> dict[str, Any]:
    """Check the dataset, and choose the cache and the languages of a training run."""
    require_paths([dataset])
    return {"cache": cache_directory(cache, cache_name), "languages": split_list(languages)}


def _quality(quality: "Quality") -> str:
    return (
        f"Brier score {quality.brier:.4f} (of the base rate alone {quality.base:.4f}), expected "
        f"calibration error {quality.ece:.4f}, {quality.hits:,} hits held out"
    )


def _reranker_line(epoch: "RerankerEpoch") -> str:
    return (
        f"epoch {epoch.epoch}: loss {epoch.loss:.3f}, weight {epoch.weight}, "
        f"{percentages(epoch.recalls)}; alone {percentages(epoch.alone)} "
        f"({epoch.seconds:.0f} s)"
        + "".join(f"; {name} {loss:.3f}" for name, loss in epoch.losses.items())
    )


def _line(epoch: "EpochResult") -> str:
    line = f"epoch {epoch.epoch}: loss {epoch.loss:.3f}, {percentages(epoch.recalls)}"
    if len(epoch.languages) > 1:
        line += " (mean of languages; text to image R@10"
        shares = (f" {name} {100 * r.text_to_image[2]:.1f}" for name, r in epoch.languages.items())
        line += ",".join(shares) + ")"
    line += f" ({epoch.seconds:.0f} s)"
    return f"{line}; also {percentages(epoch.also)}" if epoch.also else line
