"""Exports in the user's cache: one directory each, found by encoder and checksum of the weights.

    exports/
      writer.lock
      SPACE_ID/
        export.json           what `Export` holds
        image/tower.onnx      `pixels` -> `vectors`, and `tokens` where the model has them
        text/tower.onnx       `ids` -> `vectors`, and `tokens`
        tokenizer/tokenizer.json

A directory takes its name when it is complete; what another name stands for is never read.
"""

import functools
import importlib.util
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from retrieval.encoders.base import Space
from retrieval.errors import EncoderUnavailableError
from retrieval.files import UNFINISHED_SUFFIX, user_cache_directory, write_atomically

LOCAL_DIR = "local-dir:"
OPEN_CLIP = "open_clip:"
INT8 = "@int8"
"""Ends the name of an encoder whose image tower computes with integers of 8 bits."""
BF16 = "@bf16"
"""Ends the name of an encoder that PyTorch runs in bfloat16."""

FLOAT32_PRECISION = "float32"
INT8_PRECISION = "int8"
IMAGE_TOWER = "image/tower.onnx"
TEXT_TOWER = "text/tower.onnx"
TOKENIZER = "tokenizer/tokenizer.json"

Report = Callable[[str, int, int], None]
"""Called with a stage, and how much of how much of it is done."""

_CARD = "export.json"
_FORMAT = "mmsearch-export-1"
_CONTENT = 1 << 20


@dataclass(frozen=True)
class Rates:
    """Images and texts a second of one runtime; texts one by one, as queries come."""

    images_per_second: float
    texts_per_second: float


@dataclass(frozen=True)
class Measured:
    """Both runtimes measured in turn on a CPU: medians of `batches` batches of `batch_size`."""

    onnx: Rates
    pytorch: Rates
    threads: int
    batch_size: int
    batches: int
    versions: Mapping[str, str]

    @property
    def ratio(self) -> float:
        """Images a second of ONNX Runtime over those of PyTorch."""
        return self.onnx.images_per_second / self.pytorch.images_per_second


@dataclass(frozen=True)
class Loss:
    """What an image tower of 8 bits loses, on photos that it was not calibrated with.

    cosine: of a photo's vectors by float32 and by 8 bits. neighbours: mean share of the
    `neighbour_count` nearest photos of each photo that are the same by both. recall: t2i hit recall
    at 10 by each precision, where a captioned dataset was given.
    """

    photos: int
    cosine_median: float
    cosine_least: float
    neighbour_count: int
    neighbours: float
    recall: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Export:
    """One exported model. `space` is that of its vectors; of float32 the same as by PyTorch.

    files: checksum of each file, by its name below `directory`. image: the preprocessing, as of
    open_clip's `PreprocessCfg`. text: settings of the tokenizer; None if texts still need
    open_clip's own. tokens: whether the towers give them. sources: size and time of change of the
    checkpoint's own files, by path; none for a pretrained tag. original: name and weights of the
    encoder by PyTorch.
    """

    directory: Path
    space: Space
    precision: str
    files: Mapping[str, str]
    image: Mapping[str, Any]
    text: Mapping[str, Any] | None
    context_length: int
    tokens: bool
    original: tuple[str, str]
    sources: Mapping[str, Sequence[int]] = field(default_factory=dict)
    measured: Measured | None = None
    loss: Loss | None = None

    @property
    def bytes(self) -> int:
        """Size of its files."""
        return sum((self.directory / name).stat().st_size for name in self.files)

    @property
    def is_faster(self) -> bool:
        """Whether the measurement found it faster than PyTorch at images."""
        return self.measured is not None and self.measured.ratio > 1

    def file(self, name: str) -> Path:
        """Locate one of its files, after comparing the checksums of all in the same folder.

        Raises:
            EncoderUnavailableError: one is missing or damaged.
        """
        folder = name.partition("/")[0]
        for each, expected in self.files.items():
            if each.partition("/")[0] == folder and checksum(self.directory / each) != expected:
                raise EncoderUnavailableError(
                    f"The export of {self.space.encoder} is damaged: {self.directory / each}. Make "
                    f"it again: {_again(self)}."
                )
        return self.directory / name


def exports_directory() -> Path:
    """Return the directory of all exports, in the user's cache."""
    return user_cache_directory() / "exports"


def canonical_name(name: str) -> str:
    """Spell an encoder's name as its space does: paths absolute."""
    if name.startswith(LOCAL_DIR):
        return f"{LOCAL_DIR}{Path(name.removeprefix(LOCAL_DIR)).absolute()}"
    model, slash, pretrained = name.partition("/")
    plain = pretrained.removesuffix(INT8).removesuffix(BF16)
    if slash and Path(plain).is_file():
        return f"{model}/{Path(plain).absolute()}{pretrained[len(plain) :]}"
    return name


def list_exports() -> list[Export]:
    """List the complete exports, by encoder and precision."""
    cards = exports_directory().glob(f"*/{_CARD}")
    complete = (card.parent for card in cards if card.parent.suffix != UNFINISHED_SUFFIX)
    found = map(read_export, complete)
    return sorted(filter(None, found), key=lambda export: (export.space.encoder, export.space.id))


def find_export(name: str, weights: str | None = None) -> Export | None:
    """Find the export of an encoder.

    Without a checksum of weights, the one that was made last, unless the checkpoint's files have
    changed since. A pretrained tag stands for the weights that were exported.
    """
    name = canonical_name(name)
    fitting = [
        export
        for export in list_exports()
        if export.space.encoder == name
        and (is_current(export) if weights is None else export.space.weights == weights)
    ]
    return max(fitting, key=lambda each: (is_current(each), _made(each)), default=None)


def choose_export(name: str, device: str, weights: str | None = None) -> Export | None:
    """Find the export that an encoder is to be run by; None: by PyTorch.

    On a CPU it is used where it was measured to be faster, or where PyTorch is not installed; on
    CUDA only there; by Core ML and in 8 bits always.
    """
    export = find_export(name, weights)
    if export is None or export.precision == INT8_PRECISION or not has_pytorch():
        return export
    kind = device.partition(":")[0]
    is_used = kind == "coreml" or (kind == "cpu" and export.is_faster)
    return export if is_used else None


def missing_int8(name: str, weights: str | None) -> EncoderUnavailableError:
    """Say what to do where there is no export of 8 bits of this name, or not of these weights."""
    plain = name.removesuffix(INT8)
    there = find_export(name)
    if weights and there:
        return EncoderUnavailableError(
            f"The export of {name} is not the one of the library: the checksum of its weights is "
            f"{there.space.weights}, not {weights}. What is calibrated again is another vector "
            "space: index into it with `--space new`."
        )
    return EncoderUnavailableError(
        f"There is no export {name} on this machine. Make one: `mmsearch encoders export {plain} "
        "--int8 --calibration PHOTOS`. Vectors of an earlier one cannot be compared with its own."
    )


def has_pytorch() -> bool:
    """Return whether models of open_clip can be run by PyTorch here."""
    return all(map(importlib.util.find_spec, ("torch", "open_clip")))


def is_current(export: Export) -> bool:
    """Return whether the files of its checkpoint are as they were when it was exported."""
    return all(_signature(Path(path)) == [*facts] for path, facts in export.sources.items())


def sources_of(name: str) -> dict[str, Sequence[int]]:
    """Describe the files of a checkpoint that lies in a directory or file of its own."""
    name = canonical_name(name)
    if name.startswith(LOCAL_DIR):
        files = sorted(p for p in Path(name.removeprefix(LOCAL_DIR)).iterdir() if p.is_file())
    else:
        file = Path(name.partition("/")[2])
        files = [file] if file.is_file() else []
    return {str(path): _signature(path) for path in files}


def read_export(directory: Path) -> Export | None:
    """Read an export; None if it is none, or of another version."""
    try:
        card: dict[str, Any] = json.loads((directory / _CARD).read_text(encoding="utf-8"))
        if card.pop("format") != _FORMAT:
            return None
        measured, loss = card.pop("measured"), card.pop("loss")
        if measured:
            onnx, pytorch = (Rates(**measured.pop(each)) for each in ("onnx", "pytorch"))
            measured = Measured(onnx, pytorch, **measured)
        return Export(
            directory=directory,
            space=Space(**card.pop("space")),
            original=tuple(card.pop("original")),
            measured=measured,
            loss=loss and Loss(**loss),
            **card,
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write_card(export: Export) -> None:
    """Write what is known of an export beside its files, in one atomic step."""
    card = {"format": _FORMAT} | asdict(export)
    del card["directory"]
    content = json.dumps(card, indent=1, ensure_ascii=False).encode()
    write_atomically(export.directory / _CARD, content)


@contextmanager
def new_export(space: Space) -> Iterator[Path]:
    """Yield an empty directory, which becomes the export of a space at the end of the block.

    Nothing of it stays after an exception. What a killed process has left is removed.
    """
    from filelock import FileLock

    place = exports_directory()
    place.mkdir(parents=True, exist_ok=True)
    with FileLock(place / "writer.lock"):
        for left in place.glob(f"*{UNFINISHED_SUFFIX}"):
            shutil.rmtree(left, ignore_errors=True)
        unfinished = place / f"{space.id}.{uuid.uuid4().hex[:8]}{UNFINISHED_SUFFIX}"
        unfinished.mkdir()
        try:
            yield unfinished
            remove_directory(place / space.id)
            unfinished.rename(place / space.id)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise


def remove_directory(directory: Path) -> None:
    """Remove an export; another process never sees a part of it."""
    if directory.exists():
        gone = directory.with_name(f"{directory.name}.{uuid.uuid4().hex[:8]}{UNFINISHED_SUFFIX}")
        directory.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def link_file(source: Path, target: Path) -> None:
    """Give a file a second name where the file system can, else copy it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def checksums(directory: Path) -> dict[str, str]:
    """Compute the checksum of each file below a directory, by its name there."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): checksum(path) for path in files}


def checksum(file: Path) -> str:
    """Compute the checksum of a file; "" if it cannot be read."""
    digest = xxhash.xxh3_128()
    try:
        with file.open("rb") as stream:
            for part in iter(functools.partial(stream.read, _CONTENT), b""):
                digest.update(part)
    except OSError:
        return ""
    return f"xxh3-128:{digest.hexdigest()}"


def _signature(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _made(export: Export) -> float:
    try:
        return (export.directory / IMAGE_TOWER).stat().st_mtime
    except OSError:
        return 0.0


def _again(export: Export) -> str:
    name = export.original[0]
    return (
        f"mmsearch encoders export {export.space.encoder} --remove, then "
        f"mmsearch encoders export {name}{' --int8' * (export.precision == INT8_PRECISION)}"
    )
