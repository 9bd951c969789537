"""Checkpoints of image-to-text models: a local folder or a repository of the model hub."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Any

import xxhash

from retrieval.encoders import hub
from retrieval.errors import EncoderUnavailableError, UsageError, first_line

EXAMPLE = "Salesforce/blip-image-captioning-base"

_INDEX = "model.safetensors.index.json"
_PARTS = {
    "configuration": ("config.json",),
    "weights in safetensors format": ("model.safetensors", _INDEX),
    "image preprocessing": ("preprocessor_config.json", "processor_config.json"),
    "tokenizer": ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model"),
}
"""A checkpoint needs any one file of each part."""

_FILES = ["*.json", "*.jinja", "*.txt", "*.model", "*.safetensors"]
"""What is fetched and read: neither pickled weights nor code."""

_NAMES_OF_TEMPLATES = ("chat_template.jinja", "chat_template.json")
_MOST_JSON_BYTES = 64 << 20


class Family(StrEnum):
    """How a checkpoint is asked; the value is said in errors."""

    BLIP_CAPTIONS = "BLIP that writes captions"
    BLIP_ANSWERS = "BLIP that answers questions"
    ENCODER_DECODER = "vision encoder-decoder"
    CHAT = "vision-language model with a chat template"


def absolute_name(name: str) -> str:
    """Return the name of a checkpoint that holds from any directory: of a folder, its whole path.

    Raises UsageError for what is neither a folder nor the name of a repository.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder.absolute())
    if not hub.is_repository_name(name):
        raise UsageError(
            f"There is no folder {folder}. Name a folder as `save_pretrained` writes it, or a "
            f"repository of the model hub such as {EXAMPLE}."
        )
    return name


def find_checkpoint(name: str) -> Path:
    """Find the folder of a checkpoint; a repository that is not in the hub's cache is downloaded.

    Raises UsageError for a name that is neither, EncoderUnavailableError for an incomplete folder
    and for what cannot be downloaded; without a network that takes `hub.HUB_TIMEOUT_S` at most.
    """
    name = absolute_name(name)
    folder = Path(name) if Path(name).is_dir() else _hub_folder(name)
    if missing := _missing_part(folder):
        raise EncoderUnavailableError(
            f"The image-to-text model {name} cannot be loaded: {folder} has no {missing}. Name a "
            "folder as `save_pretrained` writes it, with the processor's files; weights in other "
            "formats are converted by loading them and `save_pretrained`."
        )
    return folder


def family_of(folder: Path) -> Family:
    """Tell from its configuration how a checkpoint is asked.

    Raises ValueError for a kind of model that is not supported, and for a broken file.
    """
    config = _read_json(folder / "config.json")
    kind, classes = config.get("model_type"), config.get("architectures") or []
    if kind == "blip":
        for name, family in {
            "BlipForConditionalGeneration": Family.BLIP_CAPTIONS,
            "BlipForQuestionAnswering": Family.BLIP_ANSWERS,
        }.items():
            if name in classes:
                return family
        raise ValueError(f"it is of {classes}, and writes no text")
    if kind == "vision-encoder-decoder":
        return Family.ENCODER_DECODER
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KNOWN,
    )

    if kind not in KNOWN:
        raise ValueError(f"transformers has no image-to-text model of the type {kind!r}")
    if not _has_chat_template(folder):
        raise ValueError(
            f"models of the type {kind!r} are supported with a chat template only, and it has none"
        )
    return Family.CHAT


def digest(folder: Path) -> str:
    """Hash the names and contents of the files that a checkpoint is loaded from."""
    hashed = xxhash.xxh3_128()
    for file in sorted({file for pattern in _FILES for file in folder.glob(pattern)}):
        hashed.update(file.name.encode("utf-8", "surrogateescape"))
        with file.open("rb") as content:
            while block := content.read(1 << 22):
                hashed.update(block)
    return f"xxh3-128:{hashed.hexdigest()}"


def weight_bytes(folder: Path) -> int:
    """Return the size of the weights on disk."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _hub_folder(repository: str) -> Path:
    from huggingface_hub import snapshot_download

    if hub.is_cached(repository, "config.json"):
        cached = Path(snapshot_download(repository, allow_patterns=_FILES, local_files_only=True))
        if _missing_part(cached) is None:
            return cached
    if not hub.hub_is_reachable():
        raise EncoderUnavailableError(
            f"The image-to-text model {repository} is not on this machine, neither as a folder nor "
            "in the cache of the model hub, and the hub does not answer. Connect to the network, "
            "or name a folder with the checkpoint."
        )
    try:
        return Path(snapshot_download(repository, allow_patterns=_FILES))
    except Exception as error:  # several libraries' network errors have no common base
        raise EncoderUnavailableError(
            f"The image-to-text model {repository} cannot be downloaded: {first_line(error)}. "
            "Check the name, or name a folder with the checkpoint."
        ) from error


def _missing_part(folder: Path) -> str | None:
    for part, files in _PARTS.items():
        if not any((folder / file).is_file() for file in files):
            return f"{part} ({' or '.join(files)})"
    if (folder / "model.safetensors").is_file():
        return None
    shards = _read_json(folder / _INDEX).get("weight_map")
    names = set(shards.values()) if isinstance(shards, dict) else {None}
    for shard in names:
        # A shard elsewhere is none of the checkpoint's files.
        if not isinstance(shard, str) or Path(shard).name != shard:
            return f"list of weights that can be read ({_INDEX})"
        if not (folder / shard).is_file():
            return f"weights {shard}"
    return None


def _has_chat_template(folder: Path) -> bool:
    if any((folder / name).is_file() for name in _NAMES_OF_TEMPLATES):
        return True
    holders = ("processor_config.json", "tokenizer_config.json")
    return any(_read_json(folder / name).get("chat_template") for name in holders)


def _read_json(file: Path) -> dict[str, Any]:
    """Read an object; {} of a file that is absent, too large or broken."""
    try:
        if file.stat().st_size > _MOST_JSON_BYTES:
            return {}
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
