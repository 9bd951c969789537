"""`mmsearch train`: the parts that this project trains itself."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import platformdirs
import typer

from api.options import JsonOption, print_json, require_paths

if TYPE_CHECKING:
    from retrieval.training.heads import EpochResult
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
            help="Tower outputs, 60 KB a photo and variant. [default: yours]",
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
    from api import console
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


def _line(epoch: "EpochResult") -> str:
    line = f"epoch {epoch.epoch}: loss {epoch.loss:.3f}, {_percentages(epoch.recalls)}"
    return f"{line}; also {_percentages(epoch.also)}" if epoch.also else line


def _percentages(recalls: "Recalls") -> str:
    """Recall@1/5/10 of both directions."""
    to_image = "/".join(f"{100 * share:.1f}" for share in recalls.text_to_image)
    to_text = "/".join(f"{100 * share:.1f}" for share in recalls.image_to_text)
    return f"text to image {to_image}, image to text {to_text}"
