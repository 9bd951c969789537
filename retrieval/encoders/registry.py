"""Encoders by name: which there are, which can be used here, and loading one."""

import ctypes
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

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
from retrieval.encoders.given import load_given
from retrieval.encoders.languages import language_name, languages_of, measured_encoders
from retrieval.encoders.modalities import ASSEMBLED, CLAP
from retrieval.encoders.trust import LATE_INTERACTION, require_trusted_encoder, trust_named_encoder
from retrieval.encoders.weight_files import FIRST_STARTER_WEIGHTS
from retrieval.errors import EncoderUnavailableError, UsageError, left_out_packages_explained
from retrieval.files import GIVEN

STARTER = "starter"
FIRST_STARTER = "starter:1"
"""The first edition of `starter`: for libraries that were made with it."""
AUTO = "auto"

RECOMMENDED = "open_clip:ViT-B-32-SigLIP2-256/webli"
"""Fast on a CPU, strong, and multilingual (Tschannen et al. 2025, SigLIP 2)."""

RECOMMENDED_XLM = "open_clip:xlm-roberta-base-ViT-B-32/laion5b_s13b_b90k"
"""As fast, and better in some languages, such as Chinese and Japanese (`languages.toml`)."""

_WEIGHTS: dict[str, dict[str, tuple[str, ...]]] = {
    RECOMMENDED: {
        "timm/ViT-B-32-SigLIP2-256": (
            "open_clip_config.json",
            "open_clip_model.safetensors",
            "tokenizer.json",
        )
    },
    RECOMMENDED_XLM: {
        "laion/CLIP-ViT-B-32-xlm-roberta-base-laion5B-s13B-b90k": ("open_clip_model.safetensors",),
        "xlm-roberta-base": ("config.json", "tokenizer.json"),
    },
}
"""What `auto` chooses from, with its files by hub repository."""


@dataclass(frozen=True)
class EncoderChoice:
    """What `auto` stands for on this machine, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class EncoderListing:
    """An encoder that can be named; `local`: it can be loaded without a download.

    languages: codes of those that it is known to know, English first. only_these: it knows no
    others. recall: of the language that was asked for, in percent (`Languages.recall`); None where
    none is published. source: what the encoder was trained on, and where that is said.
    """

    name: str
    local: bool
    note: str
    languages: tuple[str, ...] = ()
    only_these: bool = False
    recall: float | None = None
    source: str = ""

    @property
    def is_recommended(self) -> bool:
        """Return whether the note says so."""
        return self.note.startswith("recommended")


def list_forms() -> dict[str, str]:
    """Describe the names of encoders that are not listed one by one, by their form."""
    return {
        "local-dir:DIR": "a folder as open_clip or `mmsearch train encoder` saves it",
        f"{ASSEMBLED}IMAGE_TOWER+TEXT_TOWER": "to train only: towers of timm and transformers",
        f"{CLAP}NAME_OR_DIR": "sound and text: a CLAP model of the hub or in a folder",
        f"{LATE_INTERACTION}NAME_OR_DIR": "pages: ColPali or ColQwen2 of the hub or in a folder",
    }


def recommended_encoder(language: str | None = None) -> str:
    """Return the encoder that is recommended for a language, by its code: one of those of `auto`.

    It is the one with the highest published recall in that language, and `RECOMMENDED` where
    neither has one, or for all languages.
    """
    published = [name for name in measured_encoders(language or "") if name in _WEIGHTS]
    return published[0] if published else RECOMMENDED


def choose_encoder(name: str = AUTO, language: str | None = None) -> EncoderChoice:
    """Resolve `auto`: the recommended model if it is here or can be fetched, else `starter`.

    Takes at most 5 seconds when the hub does not answer. Where `starter` lacks a part, its first
    edition stands in. Other names are returned as they are.

    Args:
        name: name of the encoder.
        language: code of the language of the queries. (default: none in particular)
    """
    if name == STARTER:
        return _starter("as asked")
    if name != AUTO:
        return EncoderChoice(name, "as asked")
    best = recommended_encoder(language)
    suits = f"recommended for {language_name(language)}; " if language else ""
    if where := _available(best):
        return EncoderChoice(best, f"{suits}{where}")
    if not has_open_clip():
        return _starter(f"{best} needs the package open-clip-torch, which is not installed")
    return _starter(
        f"the model hub does not answer and {best} is not on this machine. starter needs no "
        "download and is modest: for better results index with a stronger encoder once you are "
        "online"
    )


def _available(name: str) -> str | None:
    """Say where the weights of a model of open_clip are or can be had; None: nowhere."""
    if find_export(name):
        return "its export is on this machine"
    if not has_open_clip():
        return None
    if _is_here(name):
        return "its weights are on this machine"
    if hub.is_switched_off():
        return None
    logging.getLogger(__name__).warning(
        "Asking the model hub, %s, whether %s can be downloaded; `--encoder starter` asks nobody.",
        hub.address(),
        name,
    )
    if hub.hub_is_reachable():
        return "the model hub answers; its weights will be downloaded"
    return None


def _starter(reason: str) -> EncoderChoice:
    """Choose the edition of `starter` that can be used here."""
    from retrieval.encoders.starter import missing_part

    missing = missing_part()
    if missing is None:
        return EncoderChoice(STARTER, reason)
    return EncoderChoice(
        FIRST_STARTER,
        f"{reason}; the first edition of starter, which knows English alone, since {missing}",
    )


def _is_here(name: str) -> bool:
    return all(hub.is_cached(repository, *files) for repository, files in _WEIGHTS[name].items())


def load_encoder(name: str, device: str = "auto", weights: str | None = None) -> Encoder:
    """Load an encoder by its name onto a torch device; of `auto`, the one that it chooses now.

    weights: the checksum that they must have (`Space.weights`); it is compared before anything
    that lies beside them is read. Of `starter`, the edition that has it is loaded. A name without
    is taken to be the user's, who trusts the folder or file in it from then on; with one, it is
    that of a library, and only a trusted folder or file is read.

    Raises UsageError for an unknown name, EncoderUnavailableError when its weights cannot be had or
    the user never named them, SpaceMismatchError when they differ from those of the space.
    """
    if name == STARTER and weights is not None:
        name = FIRST_STARTER if weights == FIRST_STARTER_WEIGHTS else STARTER
    else:
        choice = choose_encoder(name)
        if name == STARTER and choice.name != STARTER:
            logging.getLogger(__name__).warning("Encoder: %s (%s).", choice.name, choice.reason)
        name = choice.name
    kind, colon, _ = name.partition(":")
    load = LOADERS.get(name) or LOADERS.get(kind + colon)
    if load is None:
        raise UsageError(
            f"There is no encoder {name!r}. Use auto, starter, starter:1, "
            "open_clip:MODEL/PRETRAINED, local-dir:DIR, clap:NAME_OR_DIR or "
            "late-interaction:NAME_OR_DIR; `mmsearch encoders` lists what can be used here."
        )
    with left_out_packages_explained(f"The encoder {name!r}"):
        return load(name, device, weights)


def _load_starter(_: str, device: str, _weights: str | None) -> Encoder:
    from retrieval.encoders.starter import StarterEncoder

    return StarterEncoder(device)


def _load_first_starter(_: str, device: str, _weights: str | None) -> Encoder:
    from retrieval.encoders.starter_first import FirstStarterEncoder

    return FirstStarterEncoder(resolve_device(device))


def _load_late_interaction(name: str, device: str, weights: str | None) -> Encoder:
    if not has_pytorch():
        raise EncoderUnavailableError(
            f"{name} needs PyTorch, which is not installed: `pip install torch transformers`."
        )
    if weights is not None:
        require_trusted_encoder(name)
    from retrieval.encoders.late_interaction import LateInteractionEncoder

    encoder = LateInteractionEncoder(name, resolve_device(device))
    trust_named_encoder(name)
    return encoder


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
            "Export it: `pip install open-clip-torch onnx sympy`, then "
            f"`mmsearch encoders export {name}`."
        )
    if weights is not None:
        require_trusted_encoder(name)
    from retrieval.encoders.open_clip import OpenClipEncoder

    encoder = OpenClipEncoder(name, device, weights)
    trust_named_encoder(name)
    return encoder


def _load_clap(name: str, device: str, weights: str | None) -> Encoder:
    if not has_pytorch():
        raise EncoderUnavailableError(
            f"{name} needs PyTorch, which is not installed: `pip install torch 'mmsearch[audio]'`."
        )
    if weights is not None:
        require_trusted_encoder(name)
    from retrieval.encoders.clap import ClapEncoder

    encoder = ClapEncoder(name, resolve_device(device), weights)
    trust_named_encoder(name)
    return encoder


def _refuse_assembled(name: str, _device: str, _weights: str | None) -> Encoder:
    raise UsageError(
        f"{name} is a start for training: what joins its towers is untrained, so that its vectors "
        f"mean nothing. Train it, `mmsearch train encoder --encoder {name} --dataset FORMAT:PATH "
        "--output DIR`, and name the result: --encoder local-dir:DIR/encoder."
    )


LOADERS: dict[str, Callable[[str, str, str | None], Encoder]] = {
    STARTER: _load_starter,
    FIRST_STARTER: _load_first_starter,
    "open_clip:": _load_open_clip,
    "local-dir:": _load_open_clip,
    CLAP: _load_clap,
    ASSEMBLED: _refuse_assembled,
    LATE_INTERACTION: _load_late_interaction,
    GIVEN: load_given,
}
"""By the name, or its part up to the colon: called with name, device and expected checksum.

The device is `auto` where that was asked for.
"""


def has_open_clip() -> bool:
    """Return whether the package open_clip is installed; a light installation leaves it out."""
    return find_spec("open_clip") is not None


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


def list_encoders(language: str | None = None) -> list[EncoderListing]:
    """Every encoder that can be named: `starter`, then open_clip's, the recommended one first.

    Those of open_clip are listed where it is installed.

    language: code of a language, to list only encoders that know it or have a published recall in
    it, the recommended one first, then the highest recall.
    """
    listings = _listings(recommended_encoder(language))
    if language is None:
        return sorted(
            listings,
            key=lambda e: (
                e.name not in {STARTER, FIRST_STARTER},
                not e.is_recommended,
                not e.local,
            ),
        )
    told = [_with_recall(listing, language) for listing in listings]
    return sorted(
        (one for one in told if one.recall is not None or language in one.languages),
        key=lambda e: (not e.is_recommended, -(e.recall or 0), not e.local),
    )


def _listings(recommended: str) -> list[EncoderListing]:
    from retrieval.encoders.starter import missing_part

    missing = missing_part()
    note = f", its first edition here, since {missing}" if missing else ""
    listings = [
        _listing(STARTER, True, f"built in, needs no download{note}"),
        _listing(FIRST_STARTER, True, "the first edition of starter"),
    ]
    for name, config in _open_clip_models().items() if has_open_clip() else ():
        repository, _, file = (config.get("hf_hub") or "").rpartition("/")
        local = (
            hub.is_cached(repository, file or "open_clip_model.safetensors")
            if repository
            else hub.url_is_cached(config.get("url") or "")
        )
        listings.append(_listing(name, local, "recommended" if name == recommended else ""))
    return listings


def _listing(name: str, local: bool, note: str) -> EncoderListing:
    declared = languages_of(name)
    if declared is None:
        return EncoderListing(name, local, note)
    return EncoderListing(
        name,
        local,
        "; ".join(filter(None, (note, declared.note))),
        tuple(sorted(declared.known, key=lambda code: (code != "en", code))),
        declared.are_all,
        source=declared.source,
    )


def _with_recall(listing: EncoderListing, language: str) -> EncoderListing:
    declared = languages_of(listing.name)
    return replace(listing, recall=declared.recall.get(language) if declared else None)


def _open_clip_models() -> dict[str, dict[str, Any]]:
    """Return the pretrained models of open_clip, by our names; none where it is not installed.

    Only its list is loaded: the package itself imports PyTorch, which takes seconds, and so would
    `safetensors.torch`, which the list can do without.
    """
    found = find_spec("open_clip")
    if found is None or not found.submodule_search_locations:
        return {}
    if "open_clip" in sys.modules:
        listing = import_module("open_clip.pretrained")
    else:
        listing = _import_list(list(found.submodule_search_locations))
    return {
        f"open_clip:{model}/{tag}": listing.get_pretrained_cfg(model, tag)
        for model, tag in listing.list_pretrained()
    }


def _import_list(folders: list[str]) -> Any:
    """Import open_clip's `pretrained` as a module of a package without its `__init__`."""
    package = ModuleType("_open_clip_list")
    package.__path__ = folders
    imported = sys.modules.get("safetensors.torch")
    sys.modules[package.__name__] = package
    if imported is None:
        sys.modules["safetensors.torch"] = None  # type: ignore[assignment]  # as if not installed
    try:
        return import_module(f"{package.__name__}.pretrained")
    finally:
        if imported is None:
            del sys.modules["safetensors.torch"]


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
