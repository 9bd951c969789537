"""Networks run by ONNX Runtime: on CPUs several times as fast as PyTorch, and light to install."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import EncoderUnavailableError
from retrieval.machine import threads_of_networks

Array = NDArray[Any]

# Official builds tell their maker what they run, and keep a number of this machine to do so.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_PROVIDERS = {"cuda": "CUDAExecutionProvider", "coreml": "CoreMLExecutionProvider"}


class OnnxModel:
    """A network in an ONNX file, loaded when it is built.

    May be called from several threads at once.

    Args:
        source: The file, or its content.
        device: "cpu", or "cuda", "cuda:1", "coreml" where ONNX Runtime has that provider.
        threads: Threads of one call; 0: as `limit_threads` said, else as many as there are cores.
        initializers: Weights that the file refers to by name and does not hold.

    Raises:
        EncoderUnavailableError: the file cannot be read, or this machine has no such provider.
    """

    def __init__(
        self,
        source: Path | bytes,
        *,
        device: str = "cpu",
        threads: int = 0,
        initializers: Mapping[str, Array] | None = None,
    ) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or threads_of_networks()
        options.log_severity_level = 3
        # Threads that wait for the next call by spinning take the cores from all other work.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        given = {k: np.ascontiguousarray(v) for k, v in (initializers or {}).items()}
        values = {k: onnxruntime.OrtValue.ortvalue_from_numpy(v) for k, v in given.items()}
        if values:
            options.add_external_initializers(list(values), list(values.values()))
        self._kept = given, values
        try:
            self._session = onnxruntime.InferenceSession(
                source if isinstance(source, bytes) else str(source),
                options,
                providers=_providers(device),
            )
        except Exception as error:
            name = source if isinstance(source, Path) else "given"
            raise EncoderUnavailableError(f"Cannot load the network {name}: {error}") from error
        self.outputs: tuple[str, ...] = tuple(each.name for each in self._session.get_outputs())

    def __call__(
        self, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> list[Array]:
        """Compute outputs by their names (all, if not told) of inputs by theirs."""
        found: list[Array] = self._session.run(outputs and list(outputs), dict(inputs))
        return found


def _providers(device: str) -> list[Any]:
    import onnxruntime

    kind, _, number = device.partition(":")
    if kind == "cpu":
        return ["CPUExecutionProvider"]
    name = _PROVIDERS.get(kind)
    if name not in onnxruntime.get_available_providers():
        raise EncoderUnavailableError(
            f"ONNX Runtime cannot use {device!r} here; it can use: "
            f"{', '.join(onnxruntime.get_available_providers())}."
        )
    return [(name, {"device_id": int(number)} if number else {}), "CPUExecutionProvider"]
