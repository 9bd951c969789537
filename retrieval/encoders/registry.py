"""Encoders by name: which there are, which can be used here, and loading one."""

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass

from retrieval.encoders import hub
from retrieval.encoders.base import Encoder
from retrieval.encoders.exports.store import (
    BF16,
    INT8,
    choose_export,
    find_export,
    has_pytorch,
    missing_int8,
)
from retrieval.errors import EncoderUnavailableError, UsageError

STARTER = "starter"
AUTO = "auto"

RECOMMENDED = "open_clip:ViT-B-32-SigLIP2-256/webli"
"""Fast on a CPU, strong, and multilingual (Tschannen et al. 2025, SigLIP 2)."""

_RECOMMENDED_REPOSITORY = "timm/ViT-B-32-SigLIP2-256"
_RECOMMENDED_FILES = ("open_clip_config.json", "open_clip_model.safetensors", "tokenizer.json")


@dataclass(frozen=True)
class EncoderChoice:
    """What `auto` stands for on this machine, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class EncoderListing:
    """An encoder that can be named; `local`: it can be loaded without a download."""

    name: str
    local: bool
    note: str


def choose_encoder(name: str = AUTO) -> EncoderChoice:
    """Resolve `auto`: the recommended model if it is here or can be fetched, else `starter`.

    Takes at most 5 seconds when the hub does not answer. Other names are returned as they are.
    """
    if name != AUTO:
        return EncoderChoice(name, "as asked")
    if hub.is_cached(_RECOMMENDED_REPOSITORY, *_RECOMMENDED_FILES) or find_export(RECOMMENDED):
        return EncoderChoice(RECOMMENDED, "its weights are on this machine")
    if hub.hub_is_reachable():
        return EncoderChoice(RECOMMENDED, "the model hub answers; its weights will be downloaded")
    return EncoderChoice(
        STARTER,
        f"the model hub does not answer and {RECOMMENDED} is not on this machine. starter needs no "
        "download and is modest: for better results index with a stronger encoder once you are "
        "online",
    )


def load_encoder(name: str, device: str = "auto", weights: str | None = None) -> Encoder:
    """Load an encoder by its name onto a torch device; of `auto`, the one that it chooses now.

    weights: the checksum that they must have (`Space.weights`); it is compared before anything
    that lies beside them is read. Those of `starter` always have their own.

    Raises UsageError for an unknown name, EncoderUnavailableError when its weights cannot be had,
    SpaceMismatchError when they differ from those of the space.
    """
    name = choose_encoder(name).name
    kind, colon, _ = name.partition(":")
    load = LOADERS.get(kind + colon)
    if load is None:
        raise UsageError(
            f"There is no encoder {name!r}. Use auto, starter, open_clip:MODEL/PRETRAINED or "
            "local-dir:DIR; `mmsearch encoders` lists what can be used here."
        )
    return load(name, device, weights)


def _load_starter(_: str, device: str, _weights: str | None) -> Encoder:
    from retrieval.encoders.starter import StarterEncoder

    return StarterEncoder(resolve_device(device))


def _load_open_clip(name: str, device: str, weights: str | None) -> Encoder:
    device = resolve_device(device)
    export = choose_export(name, device, weights)
    if export is not None:
        from retrieval.encoders.exports.encoder import ExportedEncoder

        return ExportedEncoder(export, device)
    if name.endswith(INT8):
        raise missing_int8(name, weights)
    if not has_pytorch() or device.startswith("coreml"):
        raise EncoderUnavailableError(
            f"{name} is not exported on this machine, and "
            f"{'Core ML runs exports alone' if has_pytorch() else 'PyTorch is not installed'}. "
            f"Install mmsearch whole, then `mmsearch encoders export {name}`."
        )
    from retrieval.encoders.open_clip import OpenClipEncoder

    return OpenClipEncoder(name, device, weights)


LOADERS: dict[str, Callable[[str, str, str | None], Encoder]] = {
    STARTER: _load_starter,
    "open_clip:": _load_open_clip,
    "local-dir:": _load_open_clip,
}
"""By the name, or its part up to the colon: called with name, device and expected checksum.

The device is `auto` where that was asked for.
"""


def load_runtimes(name: str, device: str = "auto") -> list[Encoder]:
    """Load an encoder once for each runtime and precision by which it can be run here.

    PyTorch first, where it is installed; then ONNX Runtime in float32 and in 8 bits, where the
    model was exported. Encoders of one form only, and names that end with a precision, are loaded
    as `load_encoder` does.
    """
    name = choose_encoder(name).name
    kind, colon, _ = name.partition(":")
    if name.endswith((INT8, BF16)) or LOADERS.get(kind + colon) is not _load_open_clip:
        return [load_encoder(name, device)]
    from retrieval.encoders.exports.encoder import ExportedEncoder

    device = resolve_device(device)
    found = [find_export(each) for each in (name, name + INT8)]
    exported: list[Encoder] = [ExportedEncoder(one, device) for one in found if one]
    if exported and (not has_pytorch() or device.startswith("coreml")):
        return exported
    from retrieval.encoders.open_clip import OpenClipEncoder

    return [OpenClipEncoder(name, device), *exported]


def list_encoders() -> list[EncoderListing]:
    """Every encoder that can be named: `starter`, then open_clip's, the recommended one first."""
    import open_clip

    listings = [EncoderListing(STARTER, True, "built in, needs no download, English")]
    for model, tag in open_clip.list_pretrained():
        name = f"open_clip:{model}/{tag}"
        config = open_clip.get_pretrained_cfg(model, tag)
        repository, _, file = (config.get("hf_hub") or "").rpartition("/")
        local = (
            hub.is_cached(repository, file or "open_clip_model.safetensors")
            if repository
            else hub.url_is_cached(config.get("url") or "")
        )
        note = "recommended, multilingual" if name == RECOMMENDED else ""
        listings.append(EncoderListing(name, local, note))
    return sorted(listings, key=lambda e: (e.name != STARTER, e.name != RECOMMENDED, not e.local))


def resolve_device(device: str) -> str:
    """Resolve `auto` on this machine; other names are returned as they are."""
    if device != "auto":
        return device
    if not has_pytorch() or not _has_nvidia_driver():  # asking PyTorch takes seconds
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _has_nvidia_driver() -> bool:
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
