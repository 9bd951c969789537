"""`mmsearch encoders`: list encoders, and export models of open_clip to ONNX."""

import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.library import encoders as list_all
from api.cli.options import (
    JsonOption,
    LanguageOption,
    SplitOption,
    cache_directory,
    complain,
    option,
    print_json,
    require_paths,
)
from retrieval.errors import NotFoundError, UnreadableFileError, UsageError

if TYPE_CHECKING:
    from retrieval.encoders.base import Encoder, Pixels
    from retrieval.encoders.exports.store import Export, Report
    from retrieval.encoders.open_clip import OpenClipEncoder

encoders = typer.Typer(
    help="List the available encoders, and which are on this machine; command: export.",
    invoke_without_command=True,
)
encoders.callback()(list_all)

_FEWEST_PHOTOS = 10


@encoders.command()
def export(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="open_clip:MODEL/PRETRAINED or local-dir:DIR."),
    ],
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="Also make NAME@int8, an encoder whose image tower computes in 8 bits.",
        ),
    ] = False,
    calibration: Annotated[
        Path | None,
        option("--calibration", "DIR", "Directory of photos to calibrate --int8 with."),
    ] = None,
    dataset: Annotated[
        str | None,
        option(
            "--dataset",
            "FORMAT:PATH",
            "Photos with captions to measure the recall that --int8 loses.",
        ),
    ] = None,
    split: SplitOption = None,
    language: LanguageOption = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove the export NAME, or NAME@int8.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Export an encoder of open_clip to ONNX once: to run without PyTorch, on CPUs mostly faster.

    Measures both runtimes. `mmsearch` uses the export by itself on CPUs if it is faster there.
    """
    from api.cli import console
    from retrieval.encoders.exports import maker

    if remove:
        _remove(name, as_json=as_json)
        return
    if int8 != (calibration is not None):
        raise UsageError("--int8 and --calibration DIR go together.")
    if dataset and not int8:
        raise UsageError("--dataset measures what --int8 loses: give that, too.")
    require_paths([calibration] if calibration else [])
    encoder = _load(name)
    with console.stage_progress() as progress:
        made = [maker.export_model(encoder, progress)]
        if calibration:
            made.append(_quantised(made[0], encoder, calibration, progress))
    if dataset:
        recall = _recall(made[0], made[1], dataset, split, language)
        made[1] = maker.note_loss(made[1], replace(_loss_of(made[1]), recall=recall))
    if as_json:
        print_json({"exports": [export_facts(one) for one in made]})
        return
    for one in made:
        for line in export_lines(one):
            console.out.print(line, markup=False)


def _load(name: str) -> "OpenClipEncoder":
    from retrieval.encoders.exports.store import BF16, INT8, LOCAL_DIR, OPEN_CLIP
    from retrieval.encoders.runtimes.onnx_files import require_export_packages

    if not name.startswith((LOCAL_DIR, OPEN_CLIP)):
        raise UsageError(
            f"{name!r} cannot be exported: only open_clip:MODEL/PRETRAINED and local-dir:DIR are."
        )
    if name.endswith((INT8, BF16)):
        raise UsageError(f"Name it without {name[-5:]}; for 8 bits give --int8 --calibration DIR.")
    require_export_packages("open_clip")
    from retrieval.encoders.open_clip import OpenClipEncoder
    from retrieval.encoders.trust import trust_named_encoder

    loaded = OpenClipEncoder(name)
    trust_named_encoder(name)
    return loaded


def _remove(name: str, *, as_json: bool) -> None:
    from api.cli import console
    from retrieval.encoders.exports import store

    wanted = store.canonical_name(name)
    found = [one for one in store.list_exports() if one.space.encoder == wanted]
    if not found:
        raise NotFoundError(f"{name} is not exported; `mmsearch encoders` lists what is.")
    size = sum(one.bytes for one in found)
    for one in found:
        store.remove_directory(one.directory)
    if as_json:
        print_json({"removed": wanted, "bytes": size})
    else:
        console.out.print(f"Removed {wanted}, {size / 1e6:.0f} MB.", markup=False)


def _quantised(
    exact: "Export", encoder: "OpenClipEncoder", folder: Path, progress: "Report"
) -> "Export":
    """Make the export of 8 bits, and measure its speed and what it loses."""
    from retrieval.encoders.exports import maker, quantization
    from retrieval.encoders.exports.encoder import ExportedEncoder

    most = quantization.CALIBRATION_PHOTOS
    photos = _read_photos(folder, encoder, 2 * most, progress)
    tested = photos[: min(most, max(len(photos) - most, len(photos) // 4))]
    made = quantization.quantise(exact, photos[len(tested) :][:most], progress)
    pair = ExportedEncoder(exact), ExportedEncoder(made)
    made = maker.note_loss(made, quantization.measure_loss(*pair, tested))
    return maker.measure(made, encoder, progress)


def _read_photos(folder: Path, encoder: "Encoder", most: int, progress: "Report") -> "list[Pixels]":
    """Preprocess photos drawn from a folder; those that cannot be read are passed over."""
    from indexer.scan import FoundFile, walk
    from retrieval.encoders.base import REDUCED_TO_SIDES
    from retrieval.media import MediaKind
    from retrieval.media.images import read_image

    files = [
        entry.path
        for entry in walk(str(folder))
        if isinstance(entry, FoundFile) and entry.kind is MediaKind.IMAGE
    ]
    random.Random(0).shuffle(files)
    pixels: list[Pixels] = []
    for path in files:
        if len(pixels) == most:
            break
        try:
            image = read_image(path, least_side=REDUCED_TO_SIDES * encoder.input_side)
        except UnreadableFileError as error:
            complain(f"Passed over: {path}: {error}")
            continue
        pixels.append(encoder.preprocess(image))
        progress("photos", len(pixels), min(most, len(files)))
    if len(pixels) < _FEWEST_PHOTOS:
        raise UsageError(
            f"{folder} has {len(pixels)} photos that can be read. Calibration needs "
            f"{_FEWEST_PHOTOS} at least, better {most}."
        )
    return pixels


def _recall(
    exact: "Export", made: "Export", dataset: str, split: str | None, language: str | None
) -> dict[str, float]:
    """Measure text-to-image hit recall at 10 of both, by the name of the precision."""
    from api.cli import console
    from benchmarks.datasets import load_dataset
    from benchmarks.metrics import evaluate
    from benchmarks.quality.embedding_cache import EmbeddingCache
    from benchmarks.quality.retrieval import Setup, measure_quality
    from retrieval.encoders.exports.encoder import ExportedEncoder

    metric = "hit_recall@10"
    loaded = load_dataset(dataset, split, language)
    cache = EmbeddingCache(cache_directory(None, "bench"))
    found = {}
    for one in (exact, made):
        encoder: ExportedEncoder = ExportedEncoder(one)
        setup = Setup(directions=("t2i",))
        with console.stage_progress() as progress:
            result = measure_quality(loaded, encoder, setup, cache, on_progress=progress)
        found[one.precision] = evaluate(result.directions["t2i"].judgments, [metric])[metric]
    return found


def _loss_of(made: "Export") -> Any:
    assert made.loss is not None
    return made.loss


def export_facts(one: "Export") -> dict[str, Any]:
    """Describe an export for JSON."""
    measured = one.measured
    return {
        "encoder": one.space.encoder,
        "precision": one.precision,
        "weights": one.space.weights,
        "bytes": one.bytes,
        "used": is_used(one),
        "needs_pytorch": needs_pytorch(one),
        "measured": measured and asdict(measured) | {"ratio": measured.ratio},
        "loss": one.loss and asdict(one.loss),
    }


def is_used(one: "Export") -> bool:
    """Return whether an export is what its name stands for on a CPU here."""
    from retrieval.encoders.exports.store import choose_export

    return choose_export(one.space.encoder, "cpu") == one


def needs_pytorch(one: "Export") -> list[str]:
    """List what the export lacks and open_clip still does for it."""
    return ["texts"] * (one.text is None) + ["tokens"] * (not one.tokens)


def export_lines(one: "Export") -> Sequence[str]:
    """Describe an export for people: its size and speed, and what it loses."""
    lines = [f"{one.space.encoder}  ONNX {one.precision}, {one.bytes / 1e6:.0f} MB, {_use_of(one)}"]
    if one.measured:
        onnx, pytorch = one.measured.onnx, one.measured.pytorch
        lines.append(
            f"  images/s {onnx.images_per_second:.1f} (PyTorch {pytorch.images_per_second:.1f}), "
            f"texts/s {onnx.texts_per_second:.1f} (PyTorch {pytorch.texts_per_second:.1f}), "
            f"threads {one.measured.threads}"
        )
    if one.loss:
        loss = one.loss
        lines.append(
            f"  against float32, {loss.photos} photos kept aside: cosine median "
            f"{loss.cosine_median:.4f}, least {loss.cosine_least:.4f}; "
            f"{loss.neighbours:.1%} of the {loss.neighbour_count} nearest photos are the same"
        )
        if loss.recall:
            lines.append(
                "  text to image R@10: "
                + ", ".join(f"{each} {value:.1%}" for each, value in loss.recall.items())
            )
    lines += [f"  {lack} still need open_clip and PyTorch" for lack in needs_pytorch(one)]
    return lines


def _use_of(one: "Export") -> str:
    from retrieval.encoders.exports.store import INT8_PRECISION, is_current

    if one.precision == INT8_PRECISION:
        return "an encoder of its own"
    if is_used(one):
        return "used on CPUs"
    return f"not used: {'PyTorch is faster' if is_current(one) else 'the checkpoint has changed'}"
