"""Make exports: trace a model of open_clip, compare with PyTorch, and measure which is faster."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from retrieval.encoders.base import Pixels
from retrieval.encoders.exports.encoder import ExportedEncoder
from retrieval.encoders.exports.store import (
    BF16,
    FLOAT32_PRECISION,
    IMAGE_TOWER,
    INT8,
    TEXT_TOWER,
    TOKENIZER,
    Export,
    Loss,
    Measured,
    Rates,
    Report,
    checksums,
    find_export,
    new_export,
    sources_of,
    write_card,
)
from retrieval.encoders.exports.tokenizer import ExportedTokenizer, settings_of
from retrieval.encoders.exports.transform import transform
from retrieval.encoders.runtimes.onnx_files import require_export_packages, trace
from retrieval.errors import EncoderUnavailableError, UsageError
from retrieval.media import Modality

if TYPE_CHECKING:
    from torch import Tensor, nn

    from retrieval.encoders.open_clip import OpenClipEncoder

TOLERANCE = 1e-4
"""Largest difference of a coordinate of two unit vectors that are called the same."""


_ROUNDS = 5
_MEASURED_BATCH = 8
_TEXTS = (
    "",
    "a dog",
    "  Two children -- aren't they? --   play with a red ball\n",
    "caf\u00e9 \u201cna\u00efve\u201d fish &amp; chips <b>today</b> 1,234.50\u20ac",
    "\u96ea\u306e\u4e2d\u306e\u72ac, \u96ea\u5730\u91cc\u7684\u72d7, \ub208 \uc18d\uc758 \uac1c",
    "\u0421\u043e\u0431\u0430\u043a\u0430 \u043d\u0430 \u0441\u043d\u0435\u0433\u0443, "
    "\u0643\u0644\u0628 \u0641\u064a \u0627\u0644\u062b\u0644\u062c, "
    "\u092c\u0930\u094d\u092b \u092e\u0947\u0902 \u0915\u0941\u0924\u094d\u0924\u093e",
    "\U0001f415\u200d\U0001f9ba \u0130stanbul na\u00efve_name <end_of_text> [SEP] </s>",
    "many words " * 60,
)
_SIZES = ((480, 360), (360, 480), (300, 300), (1000, 60), (23, 200))


def export_model(encoder: "OpenClipEncoder", on_progress: Report = lambda *_: None) -> Export:
    """Export a model to ONNX, unless that was done, and measure which runtime is faster here.

    Args:
        encoder: the model by PyTorch, on a CPU.
        on_progress: called with a stage, and how much of how much of it is done.

    Raises:
        EncoderUnavailableError: a package is missing, or the model cannot be traced or computes
            something else once exported.
    """
    require_export_packages("open_clip")
    export = find_export(encoder.space.encoder, encoder.space.weights)
    if export is None or export.space != encoder.space:
        with new_export(encoder.space) as directory:
            write_card(_trace(encoder, directory, on_progress))
        export = find_export(encoder.space.encoder, encoder.space.weights)
        assert export is not None
    return measure(export, encoder, on_progress)


def measure(
    export: Export, encoder: "OpenClipEncoder", on_progress: Report = lambda *_: None
) -> Export:
    """Measure an export and PyTorch in turn on this CPU, and write the rates beside the export."""
    import onnxruntime
    import torch

    exported = ExportedEncoder(export, threads=torch.get_num_threads())
    noise = Image.effect_noise((encoder.input_side, encoder.input_side), 60).convert("RGB")
    pixels = np.stack([exported.preprocess(noise)] * _MEASURED_BATCH)
    runs: dict[str, Callable[[], object]] = {
        "onnx images": lambda: exported.encode(Modality.IMAGE, pixels),
        "pytorch images": lambda: encoder.encode(Modality.IMAGE, pixels),
        "onnx texts": lambda: exported.encode(Modality.TEXT, ["a dog in the snow"]),
        "pytorch texts": lambda: encoder.encode(Modality.TEXT, ["a dog in the snow"]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(_ROUNDS + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
        on_progress("measure", number + 1, _ROUNDS + 1)
    middle = {name: statistics.median(each[1:]) for name, each in seconds.items()}
    onnx, pytorch = (
        Rates(_MEASURED_BATCH / middle[f"{each} images"], 1 / middle[f"{each} texts"])
        for each in ("onnx", "pytorch")
    )
    measured = Measured(
        onnx,
        pytorch,
        threads=torch.get_num_threads(),
        batch_size=_MEASURED_BATCH,
        batches=_ROUNDS,
        versions={
            "onnxruntime": onnxruntime.__version__,
            "torch": torch.__version__,
            "open-clip-torch": version("open-clip-torch"),
        },
    )
    export = replace(export, measured=measured)
    write_card(export)
    return export


def note_loss(export: Export, loss: Loss) -> Export:
    """Write what an export of 8 bits loses beside it."""
    export = replace(export, loss=loss)
    write_card(export)
    return export


def _trace(encoder: "OpenClipEncoder", directory: Path, on_progress: Report) -> Export:
    import open_clip

    name = encoder.space.encoder
    if name.endswith((INT8, BF16)):
        raise UsageError(f"{name} cannot be exported: leave out the precision at its end.")
    model, tokenizer = encoder.parts
    settings = open_clip.get_model_preprocess_cfg(model)
    image = {**settings, "size": _plain(settings["size"])}
    _check_transform(encoder, image)
    file = directory / TOKENIZER
    file.parent.mkdir()
    text = settings_of(tokenizer, file)
    if text is None or not _same_ids(ExportedTokenizer(file, **text), encoder):
        text = None
        file.unlink(missing_ok=True)
    pixels = encoder.preprocess(Image.effect_noise((300, 200), 60).convert("RGB"))
    samples = {
        IMAGE_TOWER: np.stack([pixels, pixels[:, ::-1]]),
        TEXT_TOWER: encoder.tokenize(["a dog", "two cats on a mat"]),
    }
    for with_tokens in (True, False):
        for number, (tower, sample) in enumerate(samples.items()):
            on_progress("export", number, len(samples))
            problem = _trace_tower(model, directory / tower, sample, with_tokens=with_tokens)
            if problem:
                break
        if not problem:
            break
    if problem:
        raise EncoderUnavailableError(f"{name} cannot be exported to ONNX: {problem}.")
    export = Export(
        directory=directory,
        space=encoder.space,
        precision=FLOAT32_PRECISION,
        files=checksums(directory),
        image=image,
        text=text,
        context_length=encoder.context_length,
        tokens=with_tokens,
        original=(name, encoder.space.weights),
        sources=sources_of(name),
    )
    on_progress("export", len(samples), len(samples))
    _compare(export, encoder)
    return export


def _trace_tower(
    model: Any, file: Path, sample: np.ndarray[Any, Any], *, with_tokens: bool
) -> str | None:
    """Write one tower; gives what was wrong, if anything."""
    import torch

    name = "pixels" if file.parent.name == "image" else "ids"
    tower = _tower(model, with_tokens=with_tokens, is_image=name == "pixels")
    outputs = ["vectors", *["tokens"] * with_tokens]
    file.parent.mkdir(exist_ok=True)
    try:
        trace(
            tower,
            {name: torch.from_numpy(np.ascontiguousarray(sample))},
            outputs,
            {each: {0: "n"} for each in (name, *outputs)},
            str(file),
        )
    except Exception as error:  # noqa: BLE001 - whatever a model of another's making does
        return str(error).partition("\n")[0] or type(error).__name__
    return None


def _tower(model: Any, *, with_tokens: bool, is_image: bool) -> "nn.Module":
    from torch import nn

    from retrieval.encoders.open_clip import last_block

    side = "image" if is_image else "text"

    class Tower(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, inputs: "Tensor") -> Any:
            if not with_tokens:
                encode = model.encode_image if is_image else model.encode_text
                return encode(inputs, normalize=True)
            vectors, last = last_block(model, side, inputs)
            return vectors, last.flatten(2).transpose(1, 2) if is_image else last

    return Tower()


def _compare(export: Export, encoder: "OpenClipEncoder") -> None:
    """Raise EncoderUnavailableError where the export computes something else than the model."""
    exported = ExportedEncoder(export)
    pixels = [encoder.preprocess(_picture(size, number)) for number, size in enumerate(_SIZES)]
    for modality, inputs in ((Modality.IMAGE, np.stack(pixels)), (Modality.TEXT, _TEXTS)):
        found = exported.encode(modality, inputs)
        difference = float(np.abs(found - encoder.encode(modality, inputs)).max())
        if not difference <= TOLERANCE:
            raise EncoderUnavailableError(
                f"{export.space.encoder} cannot be exported: vectors of {modality}s differ by "
                f"{difference:.2g} from those of PyTorch, more than {TOLERANCE:g}."
            )


def _check_transform(encoder: "OpenClipEncoder", settings: dict[str, Any]) -> None:
    for number, size in enumerate(_SIZES):
        picture = _picture(size, number)
        expected: Pixels = encoder.preprocess(picture)
        if not np.allclose(transform(picture, settings), expected, rtol=0, atol=1e-5):
            raise EncoderUnavailableError(
                f"{encoder.space.encoder} cannot be exported: its preprocessing is not known."
            )


def _same_ids(tokenizer: ExportedTokenizer, encoder: "OpenClipEncoder") -> bool:
    return np.array_equal(tokenizer(_TEXTS), encoder.tokenize(_TEXTS)) and all(
        tokenizer.count(text) == encoder.token_count(text) for text in _TEXTS
    )


def _picture(size: tuple[int, int], seed: int) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    return Image.fromarray(values)


def _plain(size: int | Sequence[int]) -> int | list[int]:
    return size if isinstance(size, int) else list(size)
