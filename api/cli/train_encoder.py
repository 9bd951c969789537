"""`mmsearch train encoder`: fine-tune an encoder on captioned photos."""

import json
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.options import (
    CacheOption,
    CaptionsOption,
    DeviceOption,
    JsonOption,
    SeedOption,
    cache_directory,
    complain,
    option,
    options_of,
    print_result,
    split_list,
    stop_on_signal,
)
from api.cli.training_pairs import (
    AUGMENTATIONS,
    DUPLICATES,
    pair_source,
    without_duplicates,
)
from api.cli.training_report import (
    Measurement,
    comparisons,
    describe_data,
    epoch_line,
    in_a_line,
    most_memory,
    report,
    result_body,
    write_card,
)
from retrieval.encoders.exports.store import LOCAL_DIR
from retrieval.encoders.modalities import ASSEMBLED
from retrieval.encoders.registry import RECOMMENDED
from retrieval.errors import UsageError
from retrieval.files import write_atomically

if TYPE_CHECKING:
    from api.cli.training_data import TrainingData
    from retrieval.training.encoders.distributed import Processes
    from retrieval.training.encoders.fine_tuning import (
        EncoderEpoch,
        EncoderResult,
        EncoderTraining,
    )
    from retrieval.training.encoders.model_card import Measured
    from retrieval.training.encoders.models import DualModel
    from retrieval.training.encoders.pairs import PairSource

START_NAME = "start"
"""Folder of an encoder from parts as training begins, inside of the output."""
RESULT_NAME = "result.json"
STOPPING = "Finishing the step and writing a checkpoint. Press Ctrl-C again to stop at once."

DatasetsOption = Annotated[
    list[str],
    option(
        "--dataset",
        "FORMAT:PATH",
        "Dataset to train on, as for `mmsearch bench retrieval`. Repeatable.",
    ),
]
LanguagesOption = Annotated[
    str,
    option(
        "--languages",
        "LIST",
        "Comma-separated caption languages, or all. (default: the dataset's default)",
    ),
]
TrainedEncoderOption = Annotated[
    str,
    option(
        "--encoder",
        "NAME",
        "Encoder to begin with: open_clip:MODEL/PRETRAINED, local-dir:DIR or assembled:IMAGE+TEXT.",
    ),
]
AlsoMeasureOption = Annotated[
    list[str],
    option(
        "--also-measure",
        "FORMAT:PATH",
        "Second dataset, measured before and after: what is forgotten. Repeatable.",
    ),
]
ModeOption = Annotated[
    str,
    typer.Option(
        "--mode", help="What is trained: full, partial, layerwise, lora (low-rank) or linear."
    ),
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on from the checkpoint in --output.")
]


def encoder(
    dataset: DatasetsOption,
    output: Annotated[
        Path, option("--output", "DIR", "Directory for encoder, checkpoint, log and model card.")
    ] = Path("encoder"),
    encoder: TrainedEncoderOption = RECOMMENDED,
    mode: ModeOption = "full",
    also_measure: AlsoMeasureOption = [],  # noqa: B006
    weights: Annotated[
        str,
        option(
            "--weights", "LIST", "Comma-separated shares of the datasets. (default: by their sizes)"
        ),
    ] = "",
    captions: CaptionsOption = [],  # noqa: B006
    languages: LanguagesOption = "",
    validation: Annotated[
        str | None,
        option(
            "--validation",
            "FORMAT:PATH",
            "Dataset for validation. (default: the split for it, else a tenth of the photos)",
        ),
    ] = None,
    pairs_an_epoch: Annotated[
        int | None,
        option("--pairs-an-epoch", "N", "Pairs an epoch, of streamed shards (webdataset:).", min=2),
    ] = None,
    captions_a_photo: Annotated[
        int | None,
        option("--captions-a-photo", "N", "Captions of a photo an epoch. (default: all)", min=1),
    ] = None,
    balance: Annotated[
        float,
        typer.Option(
            "--balance",
            min=0,
            max=1,
            help="Class-balanced sampling of datasets with classes: 0 as they are, 1 all alike.",
        ),
    ] = 0.0,
    hard_negatives: Annotated[
        int,
        typer.Option(
            "--hard-negatives",
            min=0,
            help="Photos in a batch for each one that the encoder confuses them with.",
        ),
    ] = 0,
    duplicates: Annotated[
        str,
        option(
            "--duplicates",
            "warn|leave-out|ignore",
            "Photos to train on that are near-duplicates of those for validation or test.",
        ),
    ] = "warn",
    augmentation: Annotated[
        str,
        typer.Option(
            "--augmentation",
            help="Image augmentation: none, light (crop, mirror), strong (and RandAugment).",
        ),
    ] = "light",
    variants: Annotated[
        int | None,
        option(
            "--variants",
            "N",
            "Augmented variants of each image, in turn by epoch. (default: a new one each epoch; "
            "in modes linear and partial at most 4)",
            min=1,
        ),
    ] = None,
    word_dropout: Annotated[
        float, typer.Option("--word-dropout", min=0, max=0.9, help="Share of words left out.")
    ] = 0.0,
    join_captions: Annotated[
        float,
        typer.Option(
            "--join-captions", min=0, max=1, help="Share of captions joined with another."
        ),
    ] = 0.0,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Maximum number of epochs.")] = 10,
    patience: Annotated[
        int,
        typer.Option("--patience", min=1, help="Early stopping: epochs without a better recall."),
    ] = 3,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=2, help="Pairs a step, in all processes together.")
    ] = 128,
    chunk_size: Annotated[
        int | None,
        option(
            "--chunk-size",
            "N",
            "Pairs in memory at once, for large batches: gradient caching. (default: all on a GPU, "
            "32 on a CPU)",
            min=1,
        ),
    ] = None,
    loss: Annotated[
        str,
        typer.Option(
            "--loss",
            help="Loss: contrastive, sigmoid, triplet, or auto, by which the encoder was trained.",
        ),
    ] = "auto",
    label_smoothing: Annotated[
        float,
        typer.Option(
            "--label-smoothing", min=0, max=0.9, help="Label smoothing of the contrastive loss."
        ),
    ] = 0.0,
    learning_rate: Annotated[
        float | None,
        option("--learning-rate", "RATE", "Peak learning rate of AdamW. (default: by --mode)"),
    ] = None,
    weight_decay: Annotated[
        float, typer.Option("--weight-decay", min=0, help="Weight decay of AdamW.")
    ] = 0.05,
    layers: Annotated[
        str,
        option(
            "--layers",
            "N|IMAGE,TEXT",
            "Last layers of each tower for modes partial and lora. (default: 2; lora: all)",
        ),
    ] = "",
    layer_norms: Annotated[
        bool, typer.Option("--layer-norms", help="Train all layer norms too, for mode partial.")
    ] = False,
    gradual: Annotated[
        bool,
        typer.Option("--gradual", help="Unfreeze from the top, a layer of each tower an epoch."),
    ] = False,
    layer_decay: Annotated[
        float,
        typer.Option(
            "--layer-decay",
            min=0.01,
            max=1,
            help="Learning rate of a layer relative to the next one, for mode layerwise.",
        ),
    ] = 0.75,
    rank: Annotated[
        int, typer.Option("--rank", min=1, help="Rank of the added matrices, for mode lora.")
    ] = 8,
    alpha: Annotated[
        float, typer.Option("--alpha", help="Scale of the added matrices, for mode lora.")
    ] = 16.0,
    dropout: Annotated[
        float,
        typer.Option(
            "--dropout",
            min=0,
            max=0.9,
            help="Share of inputs that projections, and added matrices, do not see in a step.",
        ),
    ] = 0.0,
    recompute_activations: Annotated[
        bool,
        typer.Option(
            "--recompute-activations",
            help="Save memory by gradient checkpointing, which takes more time.",
        ),
    ] = False,
    interpolation: Annotated[
        str,
        option(
            "--interpolation",
            "auto|SHARE",
            "Share of the new weights in the result, 0 to 1 (WiSE-FT); auto: best on validation.",
        ),
    ] = "auto",
    dimension: Annotated[
        int | None,
        option("--dimension", "N", "Dimension of assembled: encoders. (default: 512)", min=1),
    ] = None,
    projection: Annotated[
        str | None,
        option(
            "--projection", "linear|mlp", "Projections of assembled: encoders. (default: linear)"
        ),
    ] = None,
    pooling: Annotated[
        str | None,
        option(
            "--pooling", "mean|cls", "Pooling of the tokens by assembled: encoders. (default: mean)"
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            help="float32, bfloat16, or auto: on a GPU, the faster one by measurement.",
        ),
    ] = "auto",
    workers: Annotated[
        int,
        typer.Option("--workers", min=0, max=256, help="Processes that decode images; 0: none."),
    ] = 0,
    cache: CacheOption = None,
    frozen_cache_gb: Annotated[
        float,
        typer.Option(
            "--frozen-cache-gb",
            min=0,
            help="Cache outputs of frozen layers up to this size; 0: compute them in each step.",
        ),
    ] = 50.0,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write event files for TensorBoard.")
    ] = False,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    resume: ResumeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fine-tune an encoder on captioned photos; the result is another encoder, local-dir:DIR.

    Several GPUs: torchrun --nproc-per-node N --no-python mmsearch train encoder ...
    """
    given = locals()
    from retrieval.encoders.registry import resolve_device
    from retrieval.training.encoders.distributed import joined_processes

    options = parsed(given)
    with joined_processes(resolve_device(device)) as processes:
        body = train(options, processes)
    if processes.is_first:
        print_result(body, lambda: report(body), as_json=as_json)


def parsed(given: Mapping[str, Any]) -> dict[str, Any]:
    """Parse the options of the command that are lists or choices.

    Raises UsageError for one that cannot be meant.
    """
    rate = given["learning_rate"]
    if given["variants"] is not None and given["pairs_an_epoch"] is not None:
        raise UsageError("--variants is not of shards (webdataset:).")
    if given["hard_negatives"] and given["pairs_an_epoch"] is not None:
        raise UsageError("--hard-negatives is not of shards (webdataset:).")
    if rate is not None and not 0 < rate < float("inf"):
        raise UsageError(f"--learning-rate must be above 0, not {rate}.")
    for name, allowed in (("augmentation", tuple(AUGMENTATIONS)), ("duplicates", DUPLICATES)):
        if given[name] not in allowed:
            raise UsageError(f"--{name} takes {', '.join(allowed)}, not {given[name]!r}.")
    return {
        **given,
        "languages": split_list(given["languages"]),
        "captions": tuple(given["captions"]),
        "interpolation": parse_interpolation(given["interpolation"]),
        "layers": parse_layers(given["layers"]),
        "weights": parse_weights(given["weights"], len(given["dataset"])),
        "learning_rate": rate or 0.0,
        "cache": cache_directory(given["cache"], "frozen-layers"),
    }


def train(given: Mapping[str, Any], processes: "Processes") -> dict[str, Any]:
    """Train an encoder with the options of the command, and measure it before and after.

    Returns what `result.json` says; empty in all processes but the first one.
    """
    from api.cli.training_data import load_other
    from benchmarks.quality.embedding_cache import EmbeddingCache
    from retrieval.training.encoders.fine_tuning import ENCODER_NAME, require_free_output
    from retrieval.training.encoders.model_card import CARD_NAME
    from retrieval.training.encoders.models import load_trainable
    from retrieval.training.state import CHECKPOINT_NAME

    began = time.monotonic()
    # What is wrong with the settings is said before data and weights are read.
    output = _settings(given, processes, "contrastive").output
    require_free_output(output, ENCODER_NAME, CARD_NAME, RESULT_NAME)
    if given["resume"] and processes.is_first and not (output / CHECKPOINT_NAME).exists():
        complain(f"{output} has no checkpoint to resume from: training starts at the beginning.")
    data = without_duplicates(load_data(given), given["duplicates"], processes)
    others = [load_other(each) for each in given["also_measure"]]
    named = ("dimension", "projection", "pooling")
    parts = {name: given[name] for name in named if given[name] is not None}
    if given["encoder"].startswith(ASSEMBLED):
        parts["seed"] = given["seed"]
    dual = load_trainable(given["encoder"], **parts)
    has_bias = getattr(dual.model, "logit_bias", None) is not None
    config = _settings(given, processes, "sigmoid" if has_bias else "contrastive")
    source = pair_source(data, given, dual.input_side)
    start = given["encoder"]
    if processes.is_first and start.startswith(ASSEMBLED):
        # As a folder it can be measured: what it begins with is drawn by the seed.
        dual.save(config.output / START_NAME)
        start = f"{LOCAL_DIR}{config.output / START_NAME}"
    cache = EmbeddingCache(cache_directory(None, "benchmarks"))
    measured = Measurement(data, others, config.device, cache)
    before: dict[str, dict[str, Measured]] = {}
    if processes.is_first:
        for each in data:
            complain(describe_data(each))
        before = measured.run(start)
        for name, found in before.items():
            complain(f"Before, {name}: {in_a_line(found)}")
    processes.wait()
    result = _train(config, dual, source, data, processes)
    body: dict[str, Any] = {}
    if processes.is_first:
        figures = comparisons(before, measured.run(f"{LOCAL_DIR}{result.encoder}"))
        seconds, memory = time.monotonic() - began, most_memory(config.device)
        write_card(config, dual.checksum, data, result, figures, seconds, memory)
        body = result_body(result, figures, seconds, memory)
        write_atomically(config.output / RESULT_NAME, (json.dumps(body, indent=2) + "\n").encode())
    processes.wait()
    return body


def _settings(given: Mapping[str, Any], processes: "Processes", loss: str) -> "EncoderTraining":
    """Make the settings of a run; loss: what `auto` stands for."""
    from retrieval.training.encoders.fine_tuning import EncoderTraining

    options = options_of(EncoderTraining, given) | {"device": processes.device}
    return EncoderTraining(**options | ({"loss": loss} if options["loss"] == "auto" else {}))


def _train(
    config: "EncoderTraining",
    dual: "DualModel",
    source: "PairSource",
    data: Sequence["TrainingData"],
    processes: "Processes",
) -> "EncoderResult":
    """Train, show how far it is, and stop on a signal with a checkpoint."""
    from api.cli import console
    from retrieval.training.encoders.fine_tuning import TrainingStoppedError, train_encoder

    is_quiet = not processes.is_first

    def tell(epoch: "EncoderEpoch") -> None:
        if processes.is_first:
            complain(epoch_line(epoch))

    note = "" if is_quiet else STOPPING
    with (
        console.stage_progress(quiet=is_quiet) as progress,
        stop_on_signal(signal.SIGTERM, note=note) as stop,
    ):
        try:
            return train_encoder(
                config,
                dual,
                source,
                [photo for each in data for photo in each.validation],
                processes=processes,
                on_epoch=tell,
                on_progress=progress,
                on_note=complain if processes.is_first else lambda _: None,
                should_stop=stop.is_set,
            )
        except TrainingStoppedError as stopped:
            if processes.is_first:
                complain(str(stopped))
            raise typer.Exit(130) from stopped


def load_data(given: Mapping[str, Any]) -> "list[TrainingData]":
    """Load what `--dataset` and `--validation` name.

    Raises UsageError where shards are not alone, or lack a dataset for validation.
    """
    from api.cli.training_data import (
        WEBDATASET,
        load_training_data,
        load_validation,
        streamed_data,
    )

    named, other = given["dataset"], given["validation"]
    shards = [each for each in named if each.startswith(WEBDATASET)]
    if shards and (len(named) > 1 or other is None or given["pairs_an_epoch"] is None):
        raise UsageError(
            "Shards (webdataset:) are the only --dataset of a run, with a --validation "
            "FORMAT:PATH and the --pairs-an-epoch N."
        )
    if given["pairs_an_epoch"] is not None and not shards:
        raise UsageError("--pairs-an-epoch is of shards (webdataset:); see --captions-a-photo.")
    if shards:
        data = [streamed_data(shards[0])]
    else:
        data = [
            load_training_data(
                each,
                given["languages"],
                given["captions"],
                given["seed"],
                has_validation=other is None,
            )
            for each in named
        ]
    if other is not None:
        data[0] = replace(data[0], validation=load_validation(other))
    return data


def parse_interpolation(text: str) -> float | None:
    """Parse `auto` or a share from 0 to 1; raises UsageError for anything else."""
    if text == "auto":
        return None
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"--interpolation takes auto or a number from 0 to 1, not {text!r}.")
    return share


def parse_layers(text: str) -> tuple[int, int] | None:
    """Parse a number of layers, or one of each tower; raises UsageError for anything else."""
    numbers = split_list(text)
    if not numbers:
        return None
    if len(numbers) > 2 or not all(each.isdecimal() and len(each) < 5 for each in numbers):
        raise UsageError(f"--layers takes a number, or two such as 0,6, not {text!r}.")
    return int(numbers[0]), int(numbers[-1])


def parse_weights(text: str, datasets: int) -> list[float] | None:
    """Parse the shares of datasets; raises UsageError where they are not one for each."""
    try:
        found = [float(each) for each in split_list(text)]
    except ValueError as error:
        raise UsageError(f"--weights must be numbers, not {text!r}.") from error
    if not found:
        return None
    if len(found) != datasets or not all(0 < each < float("inf") for each in found):
        raise UsageError(
            f"--weights takes a number above 0 for each of {datasets} datasets, not {text!r}."
        )
    return found
