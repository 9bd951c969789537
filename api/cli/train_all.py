"""`mmsearch train all`: an encoder, the calibration of its relevance, and a reranker for it."""

import json
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.options import (
    CaptionsOption,
    DeviceOption,
    JsonOption,
    SeedOption,
    cache_directory,
    complain,
    option,
    print_result,
)
from api.cli.train_encoder import (
    AlsoMeasureOption,
    LanguagesOption,
    ModeOption,
    ResumeOption,
    TrainedEncoderOption,
    load_data,
    parsed,
    train,
)
from api.cli.train_encoder import (
    encoder as train_encoder_command,
)
from api.cli.training_report import report
from retrieval.encoders.registry import RECOMMENDED
from retrieval.errors import UsageError
from retrieval.files import write_atomically
from retrieval.search.relevance import OWN_FILE, CalibrationFile
from retrieval.training.state import CHECKPOINT_NAME

if TYPE_CHECKING:
    from retrieval.encoders.base import Encoder

RESULT_NAME = "all.json"
DATASET_NAME = "dataset"
RERANKER_NAME = "reranker"


def everything(
    dataset: Annotated[
        str,
        option("--dataset", "FORMAT:PATH", "Dataset, as for `mmsearch bench retrieval`."),
    ],
    output: Annotated[
        Path, option("--output", "DIR", "Directory for everything that is trained.")
    ] = Path("trained"),
    encoder: TrainedEncoderOption = RECOMMENDED,
    mode: ModeOption = "full",
    reranker: Annotated[
        bool, typer.Option("--reranker", help="Also train a cross-attention reranker.")
    ] = False,
    also_measure: AlsoMeasureOption = [],  # noqa: B006
    captions: CaptionsOption = [],  # noqa: B006
    languages: LanguagesOption = "",
    epochs: Annotated[
        int, typer.Option("--epochs", min=1, help="Maximum number of epochs of the encoder.")
    ] = 10,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=2, help="Pairs a step of the encoder.")
    ] = 128,
    learning_rate: Annotated[
        float | None,
        option("--learning-rate", "RATE", "Peak rate of the encoder. (default: by --mode)"),
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    resume: ResumeOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train an encoder, calibrate its relevance, and train a reranker for it if asked.

    Libraries of the encoder find its calibration. --resume skips the stages that are done.
    """
    own = locals() | {"dataset": [dataset]}
    from retrieval.encoders.registry import resolve_device
    from retrieval.training.encoders.distributed import joined_processes

    names = signature(train_encoder_command).parameters
    defaults = {name: parameter.default for name, parameter in names.items()}
    given = parsed(defaults | {name: value for name, value in own.items() if name in names})
    body: dict[str, Any] = {}
    with joined_processes(resolve_device(device)) as processes:
        trained = train(given, processes)
        if processes.is_first:
            body = trained | _after(given, trained["encoder"], reranker, processes.device)
        processes.wait()
    if processes.is_first:
        print_result(body, lambda: _text(body), as_json=as_json)


def _after(given: dict[str, Any], name: str, reranker: bool, device: str) -> dict[str, Any]:
    """Run the stages that follow the training of an encoder, but for those that are done."""
    from api.cli.training_data import write_as_captions
    from retrieval.encoders.registry import load_encoder

    [data] = load_data(given)
    folder = write_as_captions(data, given["output"] / DATASET_NAME)
    loaded = load_encoder(name, device)
    body: dict[str, Any] = _calibrate(folder, loaded, Path(name.partition(":")[2]), given["seed"])
    if reranker:
        languages = tuple(dict.fromkeys(data.languages)) or ("en",)
        body |= _train_reranker(folder, loaded, given["output"], languages, given["seed"], device)
    result = given["output"] / RESULT_NAME
    write_atomically(result, (json.dumps({"encoder": name, **body}, indent=2) + "\n").encode())
    return body


def _calibrate(dataset: Path, encoder: "Encoder", folder: Path, seed: int) -> dict[str, Any]:
    """Calibrate relevance into the encoder's folder.

    A dataset that is too small for it, or has no English captions, leaves the encoder with the
    generic calibration, and a note.
    """
    from api.cli import console
    from retrieval.training.relevance import RelevanceTraining, train_relevance

    output = folder / OWN_FILE
    if output.exists() and CalibrationFile.read(output).space_id == encoder.space.id:
        return {"relevance": str(output)}
    config = RelevanceTraining(
        dataset=dataset, output=output, cache=cache_directory(None, "relevance"), seed=seed
    )
    try:
        with console.stage_progress() as progress:
            result = train_relevance(config, encoder, on_progress=progress)
    except UsageError as problem:
        complain(f"Relevance is not calibrated: {problem}")
        return {"relevance": None, "relevance_problem": str(problem)}
    quality = {kind: each.ece for kind, each in result.quality.items()}
    return {"relevance": str(output), "calibration_error": quality}


def _train_reranker(
    dataset: Path,
    encoder: "Encoder",
    output: Path,
    languages: tuple[str, ...],
    seed: int,
    device: str,
) -> dict[str, Any]:
    from api.cli import console
    from retrieval.training.rerankers import RerankerTraining, train_reranker

    folder = output / RERANKER_NAME
    config = RerankerTraining(
        dataset=dataset,
        output=folder,
        cache=cache_directory(None, "tokens"),
        languages=languages,
        seed=seed,
        device=device,
        resume=(folder / CHECKPOINT_NAME).exists(),
    )
    with console.stage_progress() as progress:
        result = train_reranker(
            config,
            encoder,
            on_epoch=lambda epoch: complain(
                f"Reranker, epoch {epoch.epoch}: loss {epoch.loss:.3f} ({epoch.seconds:.0f} s)"
            ),
            on_progress=progress,
        )
    return {
        "reranker": str(result.model),
        "reranked_mean_recall": result.recalls.mean,
        "mean_recall_alone": result.alone.mean,
    }


def _text(body: dict[str, Any]) -> str:
    lines = [report(body)]
    if body["relevance"]:
        lines.append(f"Calibration of relevance: {body['relevance']}")
    if "reranker" in body:
        alone, reranked = 100 * body["mean_recall_alone"], 100 * body["reranked_mean_recall"]
        lines.append(f"Mean recall reranked: {alone:.1f} -> {reranked:.1f}")
        lines.append(
            f"Search with it: mmsearch search TEXT --rerank cross-attention:{body['reranker']}"
        )
    return "\n".join(lines)
