"""Checkpoints of image-to-text models: a local folder or a repository of the model hub."""

from enum import StrEnum
from pathlib import Path

import xxhash

from retrieval.encoders import hub
from retrieval.encoders.checkpoints import PARTS, fetching, missing_part, of_hub, read_json
from retrieval.errors import EncoderUnavailableError, UsageError

EXAMPLE = "Salesforce/blip-image-captioning-base"

_FILES = ["*.json", "*.jinja", "*.txt", "*.model", "*.safetensors"]
"""What is fetched and read: neither pickled weights nor code."""

_NAMES_OF_TEMPLATES = ("chat_template.jinja", "chat_template.json")


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
    folder = Path(name)
    if not folder.is_dir():
        folder = of_hub(
            f"The image-to-text model {name}",
            fetching(name, _FILES),
            PARTS,
            "or name a folder with the checkpoint",
        )
    if missing := missing_part(folder):
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
    config = read_json(folder / "config.json")
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


def _has_chat_template(folder: Path) -> bool:
    if any((folder / name).is_file() for name in _NAMES_OF_TEMPLATES):
        return True
    holders = ("processor_config.json", "tokenizer_config.json")
    return any(read_json(folder / name).get("chat_template") for name in holders)
