"""Checkpoints of `transformers`: folders as `save_pretrained` writes them, or hub repositories."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import xxhash

from retrieval.encoders import hub
from retrieval.errors import EncoderUnavailableError, MMSearchError, UsageError, first_line

Parts = Mapping[str, tuple[str, ...]]
"""What a folder with a model needs: any one file of each part."""

_INDEX = "model.safetensors.index.json"
PARTS: Parts = {
    "configuration": ("config.json",),
    "weights in safetensors format": ("model.safetensors", _INDEX),
    "image preprocessing": ("preprocessor_config.json", "processor_config.json"),
    "tokenizer": ("tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model"),
}
"""Of a checkpoint of `transformers` with pictures and texts."""
_MOST_JSON_BYTES = 64 << 20

_WANTED = ["*.json", "*.txt", "*.safetensors"]
"""Of a hub repository: neither pickled weights nor those of other frameworks, and no code."""

_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True)
class CheckpointKind:
    """Checkpoints that are named `PREFIX:NAME_OR_DIR`.

    prefix: of the name, and what separates it. option: that takes it. example: a repository of the
    hub. without: how to do without such a model, for errors. parts: files that it needs, any one
    of each kind.
    """

    prefix: str
    option: str
    example: str
    without: str
    parts: Parts = field(default_factory=lambda: PARTS)
    separator: str = ":"

    def called(self, checkpoint: object) -> str:
        """Spell the name of an encoder or reranker with a checkpoint."""
        return f"{self.prefix}{self.separator}{checkpoint}"

    @property
    def ways_out(self) -> str:
        """Say what to do where a checkpoint cannot be had."""
        return (
            f"use a folder with the checkpoint (`{self.option} {self.called('DIR')}`), or "
            f"{self.without}"
        )

    def local_folder(self, checkpoint: str) -> Path | None:
        """Resolve a checkpoint name to a local folder; None for a repository of the hub.

        Raises UsageError for what is neither.
        """
        directory = Path(checkpoint).expanduser()
        if checkpoint and directory.is_dir():
            return directory.absolute()
        # The hub's rule for names; paths such as ./blip and ../blip do not match.
        if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", checkpoint, re.ASCII):
            raise UsageError(
                f"{self.called(checkpoint)}: there is no folder {directory}. Name a folder as "
                "`save_pretrained` writes it, or a repository of the model hub such as "
                f"{self.example}."
            )
        return None

    def hub_folder(self, repository: str) -> Path:
        """Find a repository in the hub's cache, downloading it if it is missing.

        Raises EncoderUnavailableError, within 5 seconds where the hub does not answer.
        """
        name = self.called(repository)
        return of_hub(f"The model {name}", fetching(repository, _WANTED), self.parts, self.ways_out)

    @contextmanager
    def loading(self, name: str, directory: Path) -> Iterator[Any]:
        """Check that a folder is complete, and yield `transformers`, quiet, offline, without code.

        Raises EncoderUnavailableError for whatever fails in the block.
        """
        transformers = self.import_transformers(name)
        missing = missing_part(directory, self.parts)
        if missing:
            raise EncoderUnavailableError(
                f"{name} cannot be loaded: {directory} has no {missing}. Name a folder as "
                "`save_pretrained` writes it, with the processor's files."
            )
        try:
            with (
                quiet_transformers(),
                hub.offline(),
                hub.without_remote_code(),
                hub.without_pickle(),
            ):
                yield transformers
        except MMSearchError:
            raise
        except Exception as error:  # each library underneath has errors of its own
            raise EncoderUnavailableError(
                f"{name} cannot be loaded: {first_line(error)}. Check that {directory} holds a "
                f"complete checkpoint, {self.ways_out}."
            ) from error

    def require_weights(self, name: str, directory: Path, missing: Iterable[str]) -> None:
        """Raise EncoderUnavailableError for weights that a checkpoint lacks.

        They would be random, and so would every score.
        """
        unset = sorted(missing)
        if unset:
            raise EncoderUnavailableError(
                f"{name} cannot be loaded: {directory} lacks {len(unset)} weights of the model, "
                f"such as {unset[0]}. Use a complete checkpoint, such as {self.example}."
            )

    def import_transformers(self, name: str) -> Any:
        """Import `transformers`; raises EncoderUnavailableError where that fails."""
        try:
            import transformers
        except ImportError as error:
            raise EncoderUnavailableError(
                f"{name} needs the package transformers, which cannot be imported ({error}). "
                "Install it again: `pip install --force-reinstall transformers`, or "
                f"{self.without}."
            ) from error
        return transformers


def missing_part(folder: Path, parts: Parts = PARTS) -> str | None:
    """Name what a folder lacks of a model; None: nothing.

    Weights in several files are those that their index lists, inside of the folder.
    """
    for part, files in parts.items():
        if not any((folder / file).is_file() for file in files):
            return f"{part} ({' or '.join(files)})"
    is_sharded = any(_INDEX in files for files in parts.values())
    if not is_sharded or (folder / "model.safetensors").is_file():
        return None
    shards = read_json(folder / _INDEX).get("weight_map")
    names = set(shards.values()) if isinstance(shards, dict) and shards else {None}
    for shard in names:
        # A shard elsewhere is none of the checkpoint's files.
        if not isinstance(shard, str) or Path(shard).name != shard:
            return f"list of weights that can be read ({_INDEX})"
        if not (folder / shard).is_file():
            return f"weights {shard}"
    return None


def fetching(repository: str, patterns: list[str]) -> Callable[..., str]:
    """Return what fetches the files of a repository of the hub that match some patterns."""
    from huggingface_hub import snapshot_download

    return partial(snapshot_download, repository, allow_patterns=patterns)


def of_hub(what: str, fetch: Callable[..., str], parts: Parts, ways_out: str) -> Path:
    """Find a model in the hub's cache, downloading it if it is missing or incomplete.

    Args:
        what: the model, as errors begin.
        fetch: returns the folder; with `local_files_only=True` it downloads nothing.
        parts: what the folder needs.
        ways_out: what else the user can do, for errors.

    Raises:
        EncoderUnavailableError: it cannot be had; within 5 seconds where the hub does not answer.
    """
    try:
        cached = Path(fetch(local_files_only=True))
    except Exception:  # noqa: BLE001 - several libraries' errors have no common base
        cached = None
    if cached is not None and missing_part(cached, parts) is None:
        return cached
    if hub.is_switched_off():
        raise EncoderUnavailableError(
            f"{what} is not on this machine. Nothing is downloaded while HF_HUB_OFFLINE is set, "
            f"nor for a library that names a model. Name it yourself to download it, {ways_out}."
        )
    if not hub.hub_is_reachable():
        raise EncoderUnavailableError(
            f"{what} is not on this machine and the model hub does not answer. Connect to the "
            f"network, {ways_out}."
        )
    try:
        return Path(fetch())
    except Exception as error:  # several libraries' network errors have no common base
        raise EncoderUnavailableError(
            f"{what} cannot be downloaded: {first_line(error)}. Check the name, {ways_out}."
        ) from error


def read_json(file: Path) -> dict[str, Any]:
    """Read an object; {} of a file that is absent, too large or broken."""
    try:
        if file.stat().st_size > _MOST_JSON_BYTES:
            return {}
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def read_config(directory: Path) -> dict[str, Any]:
    """Read `config.json` of a checkpoint; raises ValueError where it is no JSON object."""
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        raise TypeError("config.json is no JSON object")
    return config


def checkpoint_digest(directory: Path, *settings: object) -> str:
    """Digest the weights and the JSON and text files of a checkpoint, and further settings.

    It is that of the files' content, wherever they lie: about a second a gigabyte.
    """
    digest = xxhash.xxh3_128(repr(settings).encode())
    for file in sorted(directory.iterdir()):
        if file.suffix in {".json", ".txt", ".safetensors"} and file.is_file():
            digest.update(file.name.encode())
            with file.open("rb") as content:
                while chunk := content.read(_CHUNK_BYTES):
                    digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep `transformers` from logging and from drawing progress bars."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    no_hub_bars = are_progress_bars_disabled()
    logging.set_verbosity(logging.CRITICAL)
    if bars:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
            if no_hub_bars:  # transformers switches those of the hub with its own
                disable_progress_bars()
