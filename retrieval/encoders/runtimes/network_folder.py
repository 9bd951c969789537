"""The networks of one model: ONNX files in a folder, and a card that says what they are."""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retrieval.encoders.runtimes.onnx_runtime import OnnxModel
from retrieval.encoders.weight_files import read_weights, require_digest, require_format
from retrieval.errors import EncoderUnavailableError
from retrieval.files import write_atomically

CARD_NAME = "card.json"


def usable_device(device: str) -> str:
    """Resolve a device, which may be `auto`, to one that ONNX Runtime can use here."""
    if device == "cpu":
        return device
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return "cuda" if device == "auto" else device
    if device != "auto":
        logging.getLogger(__name__).warning(
            "ONNX Runtime cannot use %r here (pip install onnxruntime-gpu): the CPU does the same.",
            device,
        )
    return "cpu"


class NetworkFolder:
    """Loads each network of a folder, which `write_networks` made, when it is first used.

    Building one reads the card alone.

    Args:
        folder: Where the files lie.
        kind: Of the model, as it was written.
        device: Where they run; as of `usable_device`.
        remedy: What to do when a file is missing or damaged; ends the messages.

    Raises:
        EncoderUnavailableError: the card is missing, damaged or of another kind.
    """

    def __init__(self, folder: Path, kind: str, *, device: str = "cpu", remedy: str) -> None:
        self.folder = folder
        self.device = usable_device(device)
        self._remedy = remedy
        self._loaded: dict[str, OnnxModel] = {}
        file = folder / CARD_NAME
        written = read_weights(file, remedy)
        try:
            content = json.loads(written)
            found, self._checksums = content["format"], dict(content["networks"])
            self.card: dict[str, Any] = dict(content["card"])
        except (ValueError, KeyError, TypeError) as error:
            raise EncoderUnavailableError(
                f"{file} is not the card of a model of mmsearch. {remedy}"
            ) from error
        require_format(file, found, kind, remedy)

    @property
    def digest(self) -> str:
        """Return the SHA-256 over the checksums of all networks, in hex."""
        everything = json.dumps(sorted(self._checksums.items()))
        return hashlib.sha256(everything.encode()).hexdigest()

    def checksum(self, name: str) -> str:
        """Return the SHA-256 of one network, in hex."""
        return str(self._checksums[name])

    def __getitem__(self, name: str) -> OnnxModel:
        """Load a network, at its first use.

        Raises:
            EncoderUnavailableError: its file is missing, damaged or cannot be loaded here.
        """
        if name not in self._loaded:
            self._loaded[name] = OnnxModel(self._content(name), device=self.device)
        return self._loaded[name]

    def _content(self, name: str) -> bytes:
        file = self.folder / f"{name}.onnx"
        content = read_weights(file, self._remedy)
        require_digest(file, content, self._checksums.get(name), self._remedy)
        return content


def write_networks(
    folder: Path, kind: str, networks: Mapping[str, bytes], card: Mapping[str, Any]
) -> None:
    """Write networks that `NetworkFolder` reads; the card comes last.

    Args:
        folder: Where to; created if missing.
        kind: Of the model, as `NetworkFolder` compares it.
        networks: ONNX files' contents by name.
        card: What else there is to say, for JSON.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in networks.items():
        write_atomically(folder / f"{name}.onnx", content)
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in networks.items()}
    whole = {"format": kind, "card": dict(card), "networks": checksums}
    write_atomically(folder / CARD_NAME, (json.dumps(whole, indent=2) + "\n").encode())
