"""Checkpoints of `transformers`: folders as `save_pretrained` writes them, or hub repositories."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from retrieval.encoders import hub
from retrieval.errors import EncoderUnavailableError, MMSearchError, UsageError, first_line

_PARTS: dict[str, tuple[str, ...]] = {
    "configuration": ("config.json",),
    "weights in safetensors format": ("model.safetensors", "model.safetensors.index.json"),
    "image preprocessing": ("preprocessor_config.json", "processor_config.json"),
    "tokenizer": ("tokenizer.json", "vocab.txt", "vocab.json"),
}
"""A checkpoint needs any one file of each kind."""

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
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _PARTS)
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
        from huggingface_hub import snapshot_download

        if hub.is_cached(repository, "config.json"):
            cached = Path(
                snapshot_download(repository, allow_patterns=_WANTED, local_files_only=True)
            )
            if self.missing_part(cached) is None:
                return cached
        if not hub.hub_is_reachable():
            raise EncoderUnavailableError(
                f"The weights of {self.called(repository)} are not on this machine and the model "
                f"hub does not answer. Connect to the network, {self.ways_out}."
            )
        try:
            return Path(snapshot_download(repository, allow_patterns=_WANTED))
        except Exception as error:  # several libraries' network errors have no common base
            raise EncoderUnavailableError(
                f"{self.called(repository)} cannot be downloaded: {first_line(error)}. Check "
                f"the name, {self.ways_out}."
            ) from error

    def missing_part(self, directory: Path) -> str | None:
        """Name what a folder lacks of a checkpoint; None: nothing."""
        for part, files in self.parts.items():
            if not any((directory / file).is_file() for file in files):
                return f"{part} ({' or '.join(files)})"
        return None

    @contextmanager
    def loading(self, name: str, directory: Path) -> Iterator[Any]:
        """Check that a folder is complete, and yield `transformers`, quiet, offline, without code.

        Raises EncoderUnavailableError for whatever fails in the block.
        """
        transformers = self.import_transformers(name)
        missing = self.missing_part(directory)
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
