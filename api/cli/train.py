"""`mmsearch train`: the parts that this project trains itself."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import platformdirs
import typer

from api.cli.options import JsonOption, print_json, require_paths

if TYPE_CHECKING:
    from retrieval.rerankers.cross_attention_model import Kind
    from retrieval.training.heads import EpochResult
    from retrieval.training.relevance import Quality
    from retrieval.training.rerankers import FusionEpoch
    from retrieval.training.validation import Recalls

train = typer.Typer(help="Train the parts that this project trains itself.", no_args_is_help=True)


@train.callback()
def group() -> None:
    """Train the parts that this project trains itself."""


@train.command()
def heads(
    dataset: Annotated[
        Path,
        typer.Option(
            "--dataset",
            metavar="DIR",
            help="A folder with captions.jsonl (splits train and val) and images/.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="For the heads and the checkpoint.")
    ] = Path("heads"),
    cache_folder: Annotated[
        Path | None,
        typer.Option(
            "--cache",
            metavar="DIR",
            help="Tower outputs, 60 KB a photo and variant. (default: yours)",
            show_default=False,
        ),
    ] = None,
    also_measure: Annotated[
        Path | None,
        typer.Option(
            "--also-measure", metavar="DIR", help="A second dataset, measured, never chosen by."
        ),
    ] = None,
    languages: Annotated[
        str, typer.Option("--languages", help="Whose captions are learned, with commas.")
    ] = "en",
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="At most.")] = 8,
    patience: Annotated[
        int,
        typer.Option("--patience", min=1, help="Epochs without a better recall before the end."),
    ] = 3,
    batch_size: Annotated[int, typer.Option("--batch-size", min=2, help="Photos a step.")] = 512,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="AdamW's peak.")] = 1e-3,
    weight_decay: Annotated[float, typer.Option("--weight-decay", help="AdamW's.")] = 0.05,
    variants: Annotated[
        int, typer.Option("--variants", min=1, help="Augmented copies of each training photo.")
    ] = 8,
    class_photos: Annotated[
        int, typer.Option("--class-photos", min=0, help="Made-up photos of classes a step.")
    ] = 128,
    seed: Annotated[int, typer.Option("--seed", help="Of weights, order and augmentation.")] = 0,
    device: Annotated[str, typer.Option("--device", metavar="NAME", help="cpu or cuda.")] = "cpu",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after the last epoch in --output.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train the projection heads of the starter encoder; the defaults made the shipped ones."""
    from api.cli import console
    from retrieval.training.heads import HeadsTraining, train_heads

    require_paths([dataset])
    default = Path(platformdirs.user_cache_dir("mmsearch", appauthor=False)) / "towers"
    config = HeadsTraining(
        dataset=dataset,
        output=output,
        cache=cache_folder or default,
        languages=tuple(name.strip() for name in languages.split(",")),
        epochs=epochs,
        patience=patience,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        variants=variants,
        class_photos=class_photos,
        seed=seed,
        device=device,
        also_measure=also_measure,
        resume=resume,
    )
    with console.stage_progress() as progress:
        result = train_heads(
            config,
            on_epoch=lambda epoch: console.err.print(_line(epoch), markup=False),
            on_progress=progress,
        )
    if as_json:
        print_json(
            {
                "heads": str(result.heads),
                "stopped_early": result.stopped_early,
                "best": asdict(result.best),
                "epochs": [asdict(epoch) for epoch in result.epochs],
            }
        )
    else:
        console.out.print(f"Best {_line(result.best)}\nHeads: {result.heads}", markup=False)


@train.command()
def fusion(
    dataset: Annotated[
        Path,
        typer.Option(
            "--dataset",
            metavar="DIR",
            help="A folder with captions.jsonl (splits train and val) and images/.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="For the model and the checkpoint.")
    ] = Path("fusion"),
    encoder: Annotated[
        str, typer.Option("--encoder", metavar="NAME", help="Whose candidates are reranked.")
    ] = "starter",
    cache_folder: Annotated[
        Path | None,
        typer.Option(
            "--cache",
            metavar="DIR",
            help="The encoder's tokens, 60 KB a photo and variant with starter. (default: yours)",
            show_default=False,
        ),
    ] = None,
    languages: Annotated[
        str, typer.Option("--languages", help="Whose captions are learned, with commas.")
    ] = "en",
    kind: Annotated[
        str, typer.Option("--kind", help="How both sides meet: cross, concat, gated or bilinear.")
    ] = "cross",
    width: Annotated[int, typer.Option("--width", min=1, help="Channels of every layer.")] = (256),
    heads: Annotated[int, typer.Option("--heads", min=1, help="Attention heads.")] = 4,
    depth: Annotated[int, typer.Option("--depth", min=1, help="Blocks of cross-attention.")] = (1),
    feed_forward: Annotated[
        int,
        typer.Option("--feed-forward", min=0, help="Hidden width of perceptrons, in widths."),
    ] = 0,
    dropout: Annotated[
        float, typer.Option("--dropout", min=0, max=0.9, help="Share of values left out.")
    ] = 0.2,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="At most.")] = 6,
    patience: Annotated[
        int,
        typer.Option("--patience", min=1, help="Epochs without a better recall before the end."),
    ] = 3,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=2, help="Photos a step; all pairs are scored.")
    ] = 32,
    group_size: Annotated[
        int, typer.Option("--group-size", min=1, help="Photos that are hard for each other.")
    ] = 6,
    neighbours: Annotated[
        int, typer.Option("--neighbours", min=1, help="Nearest photos to draw hard ones from.")
    ] = 60,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="AdamW's peak.")] = (5e-4),
    weight_decay: Annotated[float, typer.Option("--weight-decay", help="AdamW's.")] = (0.05),
    matching_weight: Annotated[
        float, typer.Option("--matching-weight", min=0, help="Of the loss over single pairs.")
    ] = 0.2,
    contrastive_weight: Annotated[
        float, typer.Option("--contrastive-weight", min=0, help="Of the contrastive loss.")
    ] = 0.0,
    variants: Annotated[
        int, typer.Option("--variants", min=1, help="Augmented copies of each training photo.")
    ] = 2,
    rerank_depth: Annotated[
        int, typer.Option("--rerank-depth", min=1, help="Candidates it reranks by default.")
    ] = 50,
    seed: Annotated[int, typer.Option("--seed", help="Of weights, order and augmentation.")] = 0,
    device: Annotated[str, typer.Option("--device", metavar="NAME", help="cpu or cuda.")] = "cpu",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after the last epoch in --output.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model that reranks what an encoder finds; the defaults made the shipped one."""
    from api.cli import console
    from retrieval.encoders.registry import choose_encoder, load_encoder
    from retrieval.training.rerankers import FusionTraining, train_fusion

    require_paths([dataset])
    default = Path(platformdirs.user_cache_dir("mmsearch", appauthor=False)) / "tokens"
    config = FusionTraining(
        dataset=dataset,
        output=output,
        cache=cache_folder or default,
        languages=tuple(name.strip() for name in languages.split(",")),
        kind=cast("Kind", kind),
        width=width,
        heads=heads,
        depth=depth,
        feed_forward=feed_forward,
        dropout=dropout,
        epochs=epochs,
        patience=patience,
        batch_size=batch_size,
        group_size=group_size,
        neighbours=neighbours,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        matching_weight=matching_weight,
        contrastive_weight=contrastive_weight,
        variants=variants,
        rerank_depth=rerank_depth,
        seed=seed,
        device=device,
        resume=resume,
    )
    with console.stage_progress() as progress:
        result = train_fusion(
            config,
            load_encoder(choose_encoder(encoder).name, device),
            on_epoch=lambda epoch: console.err.print(_fusion_line(epoch), markup=False),
            on_progress=progress,
        )
    if as_json:
        print_json(
            {
                "model": str(result.model),
                "match_weight": result.match_weight,
                "stopped_early": result.stopped_early,
                "recalls": asdict(result.recalls),
                "alone": asdict(result.alone),
                "averaged": result.averaged,
                "epochs": [asdict(epoch) for epoch in result.epochs],
            }
        )
    else:
        console.out.print(
            f"Encoder alone: {_percentages(result.alone)}\n"
            f"Reranked:      {_percentages(result.recalls)} (match weight {result.match_weight})\n"
            f"Model: {result.model}",
            markup=False,
        )


@train.command()
def relevance(
    dataset: Annotated[
        Path,
        typer.Option(
            "--dataset",
            metavar="DIR",
            help="A folder with captions.jsonl (splits train and val) and images/.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", metavar="FILE", help="The calibration.")
    ] = Path("relevance.json"),
    generic: Annotated[
        Path | None,
        typer.Option(
            "--generic",
            metavar="FILE",
            help="Write one for other encoders, too, which uses nothing of this one's scale.",
            show_default=False,
        ),
    ] = None,
    encoder: Annotated[
        str, typer.Option("--encoder", metavar="NAME", help="Whose scores are calibrated.")
    ] = "starter",
    cache_folder: Annotated[
        Path | None,
        typer.Option(
            "--cache", metavar="DIR", help="Vectors. (default: yours)", show_default=False
        ),
    ] = None,
    distractors: Annotated[
        int, typer.Option("--distractors", min=0, help="Photos of train in each half.")
    ] = 1500,
    outside: Annotated[
        int, typer.Option("--outside", min=0, help="Texts about other things in each half.")
    ] = 2500,
    searches: Annotated[
        int, typer.Option("--searches", min=1, help="Simulated ones of each kind and half.")
    ] = 6000,
    seed: Annotated[int, typer.Option("--seed", help="Of the simulated searches.")] = 0,
    device: Annotated[str, typer.Option("--device", metavar="NAME", help="cpu or cuda.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Learn what an encoder's scores say of relevance; the defaults made the shipped files.

    Put the file into a space's directory of a library as relevance.json, and it is used there.
    """
    from api.cli import console
    from retrieval.encoders.registry import choose_encoder, load_encoder
    from retrieval.training.relevance import RelevanceTraining, train_relevance

    require_paths([dataset])
    default = Path(platformdirs.user_cache_dir("mmsearch", appauthor=False)) / "relevance"
    config = RelevanceTraining(
        dataset=dataset,
        output=output,
        cache=cache_folder or default,
        generic=generic,
        distractors=distractors,
        outside=outside,
        searches=searches,
        seed=seed,
    )
    with console.stage_progress() as progress:
        result = train_relevance(
            config, load_encoder(choose_encoder(encoder).name, device), on_progress=progress
        )
    if as_json:
        print_json(
            {
                "output": str(output),
                "quality": {kind: asdict(one) for kind, one in result.quality.items()},
                "generic_quality": {
                    kind: asdict(one) for kind, one in result.generic_quality.items()
                },
            }
        )
        return
    lines = [f"{kind} queries: {_quality(one)}" for kind, one in result.quality.items()]
    lines += [
        f"generic, {kind} queries: {_quality(one)}" for kind, one in result.generic_quality.items()
    ]
    console.out.print("\n".join([*lines, f"Calibration: {output}"]), markup=False)


def _quality(quality: "Quality") -> str:
    return (
        f"Brier score {quality.brier:.4f} (of the base rate alone {quality.base:.4f}), expected "
        f"calibration error {quality.ece:.4f}, {quality.hits:,} hits held out"
    )


def _fusion_line(epoch: "FusionEpoch") -> str:
    return (
        f"epoch {epoch.epoch}: loss {epoch.loss:.3f}, weight {epoch.weight}, "
        f"{_percentages(epoch.recalls)}; alone {_percentages(epoch.alone)} "
        f"({epoch.seconds:.0f} s)"
    )


def _line(epoch: "EpochResult") -> str:
    line = f"epoch {epoch.epoch}: loss {epoch.loss:.3f}, {_percentages(epoch.recalls)}"
    return f"{line}; also {_percentages(epoch.also)}" if epoch.also else line


def _percentages(recalls: "Recalls") -> str:
    """Recall@1/5/10 of both directions."""
    to_image = "/".join(f"{100 * share:.1f}" for share in recalls.text_to_image)
    to_text = "/".join(f"{100 * share:.1f}" for share in recalls.image_to_text)
    return f"text to image {to_image}, image to text {to_text}"
