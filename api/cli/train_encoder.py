"""`mmsearch train encoder`: fine-tune an encoder on captioned photos."""

import json
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
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
from retrieval.encoders.exports.store import LOCAL_DIR
from retrieval.encoders.modalities import ASSEMBLED
from retrieval.encoders.registry import RECOMMENDED
from retrieval.errors import EncoderUnavailableError, UsageError
from retrieval.files import write_atomically

if TYPE_CHECKING:
    from api.cli.training_data import TrainingData
    from benchmarks.datasets import RetrievalDataset
    from benchmarks.quality.embedding_cache import EmbeddingCache
    from retrieval.training.encoders.distributed import Processes
    from retrieval.training.encoders.fine_tuning import (
        EncoderEpoch,
        EncoderResult,
        EncoderTraining,
    )
    from retrieval.training.encoders.model_card import Comparison, Measured
    from retrieval.training.encoders.models import DualModel
    from retrieval.training.encoders.pairs import PairSource
    from retrieval.training.encoders.split_duplicates import SplitDuplicate
    from retrieval.training.validation import Recalls

_OF_MODES = {
    "layers": ("partial", "lora"),
    "layer_norms": ("partial",),
    "gradual": ("full", "partial", "layerwise"),
    "layer_decay": ("layerwise",),
    "rank": ("lora",),
    "alpha": ("lora",),
}
"""Settings that count in some modes alone."""
_KEPT_VARIANTS = 4
"""The cache of frozen layers grows with the variants."""
AUGMENTATIONS: dict[str, int | None] = {"none": None, "light": 0, "strong": 2}
"""Operations of RandAugment on an image."""

WARN, LEAVE_OUT, IGNORE = "warn", "leave-out", "ignore"
DUPLICATES = (WARN, LEAVE_OUT, IGNORE)
"""What becomes of photos to train on that are measured on, too."""

START_NAME = "start"
"""Folder of an encoder from parts as training begins, inside of the output."""
RESULT_NAME = "result.json"
METRICS = {"hit_recall@1": "R@1", "hit_recall@5": "R@5", "hit_recall@10": "R@10"}
DIRECTIONS = {"t2i": "text to image", "i2t": "image to text"}
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
            complain(_of_data(each))
        before = measured.run(start)
        for name, figures in before.items():
            complain(f"Before, {name}: {_in_a_line(figures)}")
    processes.wait()
    result = _train(config, dual, source, data, processes)
    body: dict[str, Any] = {}
    if processes.is_first:
        comparisons = _comparisons(before, measured.run(f"{LOCAL_DIR}{result.encoder}"))
        seconds = time.monotonic() - began
        write_card(config, dual.checksum, data, result, comparisons, seconds)
        body = _body(result, comparisons, seconds)
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
            complain(_epoch_line(epoch))

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


def without_duplicates(
    data: "Sequence[TrainingData]", choice: str, processes: "Processes"
) -> "list[TrainingData]":
    """Find near-duplicates between splits with `starter`, and warn of them or leave them out."""
    from api.cli import console
    from retrieval.encoders.registry import STARTER, load_encoder
    from retrieval.training.encoders import split_duplicates

    if choice == IGNORE or (choice == WARN and not processes.is_first):
        return list(data)
    measured = [photo for each in data for photo in (*each.validation, *each.test)]
    if not processes.is_first:
        processes.wait()  # for the vectors, which the first one has cached then
    try:
        encoder = load_encoder(STARTER, processes.device)
    except EncoderUnavailableError as problem:
        if choice == LEAVE_OUT:
            raise
        complain(f"Near-duplicates between the splits are not looked for: {problem}")
        return list(data)
    kept = []
    with console.stage_progress(quiet=not processes.is_first) as progress:
        for each in data:
            found = split_duplicates.find_split_duplicates(
                each.train,
                measured,
                encoder,
                cache=cache_directory(None, "duplicates"),
                on_progress=progress,
            )
            told = split_duplicates.describe_duplicates(found, left_out=choice == LEAVE_OUT)
            if told and processes.is_first:
                complain(told)
            kept.append(each if choice == WARN or not found else without_photos(each, found))
    if processes.is_first and choice == LEAVE_OUT:
        processes.wait()
    return kept


def without_photos(data: "TrainingData", found: "Sequence[SplitDuplicate]") -> "TrainingData":
    """Leave the training photos of pairs out. Raises UsageError if none is left."""
    from retrieval.training.encoders.split_duplicates import without_duplicates

    train = tuple(without_duplicates(data.train, found))
    if not data.classes:
        return replace(data, train=train)
    kept = {photo.path for photo in train}
    pairs = zip(data.train, data.classes, strict=True)
    classes = tuple(kind for photo, kind in pairs if photo.path in kept)
    return replace(data, train=train, classes=classes)


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


def pair_source(
    data: Sequence["TrainingData"], given: Mapping[str, Any], side: int
) -> "PairSource":
    """Make pairs of the photos of the datasets; side: of the encoder's input, in pixels."""
    from api.cli.training_data import WEBDATASET
    from retrieval.training.encoders.image_augmentation import RandomAugmentation
    from retrieval.training.encoders.pairs import PhotoPairs, PhotoSet
    from retrieval.training.encoders.text_augmentation import CaptionAugmentation
    from retrieval.training.encoders.webdataset_pairs import WebDatasetPairs

    operations = AUGMENTATIONS[given["augmentation"]]
    image = None if operations is None else RandomAugmentation(side, operations=operations)
    text = None
    if given["word_dropout"] or given["join_captions"]:
        text = CaptionAugmentation(given["word_dropout"], given["join_captions"])
    if given["pairs_an_epoch"] is not None:
        return WebDatasetPairs(
            data[0].specification.removeprefix(WEBDATASET),
            seed=given["seed"],
            size=given["pairs_an_epoch"],
            augment_image=image,
            augment_text=text,
        )
    shares = given["weights"] or [None] * len(data)
    return PhotoPairs(
        [
            PhotoSet(each.train, weight, each.classes)
            for each, weight in zip(data, shares, strict=True)
        ],
        seed=given["seed"],
        captions_a_photo=given["captions_a_photo"],
        balance=given["balance"],
        augment_image=image,
        augment_text=text,
        variants=_variants(given),
    )


def _variants(given: Mapping[str, Any]) -> int | None:
    """Return the number of variants of each image: few where outputs of layers are kept of each."""
    chosen: int | None = given["variants"]
    if chosen is None and given["frozen_cache_gb"] and given["mode"] in {"linear", "partial"}:
        return min(_KEPT_VARIANTS, int(given["epochs"]))
    return chosen


class Measurement:
    """Datasets to measure encoders on, with the stages of the search engine."""

    def __init__(
        self,
        data: Sequence["TrainingData"],
        others: Sequence["RetrievalDataset"],
        device: str,
        cache: "EmbeddingCache",
    ) -> None:
        from api.cli.training_data import to_measure

        self._datasets = {
            f"{each.name} (validation)": to_measure(
                each.validation, each.name, each.specification, each.languages
            )
            for each in data
            if each.validation
        }
        self._datasets |= {f"{each.name} ({each.split or 'all'}, other)": each for each in others}
        self._device = device
        self._cache = cache

    def run(self, name: str) -> "dict[str, dict[str, Measured]]":
        """Measure an encoder: figures by dataset, and by direction and metric."""
        from api.cli import console
        from benchmarks.quality.results import record_of
        from benchmarks.quality.retrieval import Setup, measure_quality
        from retrieval.encoders.registry import load_encoder
        from retrieval.training.encoders.model_card import Measured

        encoder = load_encoder(name, self._device)
        found = {}
        for label, dataset in self._datasets.items():
            with console.stage_progress() as progress:
                result = measure_quality(
                    dataset, encoder, Setup(), self._cache, on_progress=progress
                )
            record = record_of(result, tuple(METRICS))
            found[label] = {
                f"{DIRECTIONS[direction]} {METRICS[metric]}": Measured(**asdict(figure))
                for direction, measured in record.directions.items()
                for metric, figure in measured.metrics.items()
            }
        return found


def write_card(
    config: "EncoderTraining",
    weights: str,
    data: Sequence["TrainingData"],
    result: "EncoderResult",
    figures: Sequence["Comparison"],
    seconds: float,
) -> Path:
    """Write the model card of a run into its output."""
    from importlib.metadata import version

    import torch

    from benchmarks.speed.processes import peak_bytes
    from retrieval.training.encoders.model_card import DataCard, ModelCard

    memory = peak_bytes()
    if config.device.startswith("cuda"):
        memory = max(memory, torch.cuda.max_memory_allocated())
    notes = [
        f"{each.specification} has no split for validation: a tenth of its photos was drawn for it."
        for each in data
        if each.is_divided
    ]
    if result.damaged:
        notes.append(result.damaged)
    card = ModelCard(
        encoder=f"{LOCAL_DIR}{result.encoder}",
        base=config.encoder,
        base_weights=weights,
        command=shlex.join(["mmsearch", *sys.argv[1:]]),
        data=[
            DataCard(
                each.name,
                each.specification,
                each.digest,
                len(each.train),
                sum(len(photo.captions) for photo in each.train),
                len(each.validation),
                each.languages,
            )
            for each in data
        ],
        settings=_settings_of_mode(json.loads(config.recipe())),
        figures=figures,
        shares={trial.share: trial.recalls.mean for trial in result.trials},
        share=result.share,
        epochs=len(result.epochs),
        steps=result.steps,
        trained=result.trained,
        parameters=result.parameters,
        seconds=seconds,
        memory_bytes=memory,
        device=config.device,
        software={name: version(name) for name in ("torch", "open_clip_torch")},
        notes=notes,
    )
    return card.write(config.output)


def _settings_of_mode(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what was not set, and what is of other modes than the one of the run."""
    return {
        name: value
        for name, value in settings.items()
        if value not in (None, "") and settings["mode"] in _OF_MODES.get(name, (settings["mode"],))
    }


def _comparisons(
    before: "Mapping[str, Mapping[str, Measured]]", after: "Mapping[str, Mapping[str, Measured]]"
) -> "list[Comparison]":
    from retrieval.training.encoders.model_card import Comparison

    return [
        Comparison(dataset, metric, figure, after[dataset][metric])
        for dataset, figures in before.items()
        for metric, figure in figures.items()
    ]


def _body(
    result: "EncoderResult", figures: "Sequence[Comparison]", seconds: float
) -> dict[str, Any]:
    return {
        "encoder": f"{LOCAL_DIR}{result.encoder}",
        "output": str(result.encoder.parent),
        "share": result.share,
        "trials": [{"share": t.share, "mean_recall": t.recalls.mean} for t in result.trials],
        "figures": [asdict(each) for each in figures],
        "epochs": [asdict(each) for each in result.epochs],
        "stopped_early": result.stopped_early,
        "steps": result.steps,
        "trained_parameters": result.trained,
        "parameters": result.parameters,
        "unreadable": result.damaged,
        "seconds": round(seconds, 1),
    }


def report(body: Mapping[str, Any]) -> str:
    """Tabulate what training changed."""
    rows = body["figures"]
    width = max(len(f"{row['dataset']}, {row['metric']}") for row in rows)
    lines = []
    for row in rows:
        before, after = (100 * row[when]["value"] for when in ("before", "after"))
        name = f"{row['dataset']}, {row['metric']}"
        lines.append(f"{name:<{width}}  {before:5.1f} -> {after:5.1f}  ({after - before:+.1f})")
    lines.append(f"Share of the new weights: {body['share']:g}")
    if body["unreadable"]:
        lines.append(body["unreadable"])
    lines.append(f"Model card: {Path(body['output']) / 'README.md'}")
    lines.append(f"Encoder: {body['encoder']}")
    lines.append(f"Search with it: mmsearch index PICTURES --encoder {body['encoder']}")
    return "\n".join(lines)


def _of_data(data: "TrainingData") -> str:
    captions = sum(len(photo.captions) for photo in data.train)
    if not data.train:
        return f"{data.name}: streamed; {len(data.validation):,} photos for validation"
    told = (
        f"{data.name}: {len(data.train):,} photos with {captions:,} captions to train on, "
        f"{len(data.validation):,} photos for validation"
    )
    return f"{told} (drawn from all: there is no split for it)" if data.is_divided else told


def _in_a_line(figures: "Mapping[str, Measured]") -> str:
    return ", ".join(f"{name} {100 * figure.value:.1f}" for name, figure in figures.items())


def _epoch_line(epoch: "EncoderEpoch") -> str:
    mark = ", best so far" if epoch.best else ""
    return (
        f"epoch {epoch.epoch}: loss {epoch.loss:.4f}, {percentages(epoch.recalls)} "
        f"({epoch.seconds:.0f} s){mark}"
    )


def percentages(recalls: "Recalls") -> str:
    """Format recall@1, 5 and 10 of both directions in percent."""
    to_image = "/".join(f"{100 * share:.1f}" for share in recalls.text_to_image)
    to_text = "/".join(f"{100 * share:.1f}" for share in recalls.image_to_text)
    return f"R@1/5/10 text to image {to_image}, image to text {to_text}"
