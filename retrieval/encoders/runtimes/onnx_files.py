"""Write PyTorch modules as ONNX files, in float32 or with integers of 8 bits.

Free of torch and onnx until something is written: whoever lacks them can ask for it, and is told.
"""

import io
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retrieval.encoders.quiet_log import quiet_log
from retrieval.encoders.runtimes.onnx_runtime import Array
from retrieval.errors import EncoderUnavailableError

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import Tensor, nn

_OPSET = 17
_KEPT_WHOLE = 32
"""Tensors of fewer elements than this stay float32: a node for each costs more than it saves."""

_DISTRIBUTIONS = {"open_clip": "open-clip-torch"}


def require_export_packages(*others: str) -> None:
    """Raise EncoderUnavailableError, and say what to install, where a package is missing.

    others: modules that are needed besides torch and onnx.
    """
    needed = ("torch", *others, "onnx")
    missing = [_DISTRIBUTIONS.get(name, name) for name in needed if find_spec(name) is None]
    if missing:
        raise EncoderUnavailableError(
            f"Exporting needs {', '.join(missing)}, which is not installed: `pip install "
            "'mmsearch[export]'`. Once exported, a model runs without."
        )


def trace(
    module: "nn.Module",
    inputs: Mapping[str, "Tensor"],
    outputs: Sequence[str],
    varying: Mapping[str, Mapping[int, str]],
    target: str | io.BytesIO,
) -> None:
    """Trace a module in inference mode into an ONNX file.

    Args:
        module: what is called.
        inputs: examples, by name, in the order of the call's arguments.
        outputs: names, in the order of the call's results.
        varying: names of the axes whose lengths may be others than the examples', by input or
            output.
        target: the path of a file, or where its content is written; above 2 GB only a file can be.
    """
    import torch

    with warnings.catch_warnings(), torch.inference_mode(), _without_fast_path():
        warnings.simplefilter("ignore")  # of deprecation, and of lengths that are constant here
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            target,  # type: ignore[arg-type]
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: dict(axes) for name, axes in varying.items()},
            opset_version=_OPSET,
            dynamo=False,
        )


@contextmanager
def _without_fast_path() -> Iterator[None]:
    """Make attention compute by operations that ONNX has."""
    import torch

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def to_onnx(
    module: "nn.Module",
    inputs: Mapping[str, "Tensor"],
    outputs: Sequence[str],
    varying: Mapping[str, Sequence[int]],
) -> "ModelProto":
    """Trace a module of less than 2 GB into an ONNX model; arguments as of `trace`.

    varying: axes whose lengths may be others than the examples', by input or output.
    """
    import onnx

    written = io.BytesIO()
    named = {name: {axis: f"{name}_{axis}" for axis in axes} for name, axes in varying.items()}
    trace(module, inputs, outputs, named, written)
    return onnx.load_from_string(written.getvalue())


def quantise_file(
    source: Path,
    target: Path,
    samples: Iterable[Mapping[str, Array]],
    *,
    operations: Sequence[str] | None = None,
    options: Mapping[str, bool] | None = None,
) -> None:
    """Quantise a network to static int8 (QDQ): weights per output channel, activations per tensor.

    Args:
        source: an ONNX file in float32.
        target: the file to write.
        samples: inputs by name; the ranges of activations are those that they have.
        operations: which ones compute with integers. (default: all that ONNX Runtime has so)
        options: `extra_options` of ONNX Runtime's `quantize_static`.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader
    from onnxruntime.quantization.shape_inference import quant_pre_process

    left = iter(samples)

    class Samples(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> Mapping[str, Array] | None:
            return next(left, None)

    prepared = target.with_name("prepared.onnx")
    # It warns of what was done a line before.
    with quiet_log(logging.ERROR), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            Samples(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=operations,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options=dict(options or {}),
        )
    prepared.unlink()


def halved(model: "ModelProto") -> "ModelProto":
    """Store the weights as float16; they are made float32 again when the model is loaded."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < _KEPT_WHOLE:
            continue
        name, short = tensor.name, f"{tensor.name}.half"
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), short))
        casts.append(helper.make_node("Cast", [short], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def joined(first: "ModelProto", second: "ModelProto", outputs: Sequence[str]) -> "ModelProto":
    """Append a model that reads inputs and outputs of another by their names.

    Args:
        first: keeps its inputs.
        second: all of its inputs are inputs or outputs of `first`.
        outputs: of `first` or `second`; what the joined model gives.
    """
    from onnx import ModelProto, checker

    model = ModelProto()
    model.CopyFrom(first)
    shared = {each.name for part in (first.graph.input, first.graph.output) for each in part}
    given = {each.name: each for part in (first, second) for each in part.graph.output}

    def named(name: str) -> str:
        return name if not name or name in shared or name in outputs else f"{name}.joined"

    for tensor in second.graph.initializer:
        added = model.graph.initializer.add()
        added.CopyFrom(tensor)
        added.name = named(tensor.name)
    for node in second.graph.node:
        new = model.graph.node.add()
        new.CopyFrom(node)
        new.name = named(node.name)
        new.input[:] = [named(name) for name in node.input]
        new.output[:] = [named(name) for name in node.output]
    del model.graph.output[:]
    model.graph.output.extend(given[name] for name in outputs)
    checker.check_model(model)
    return model
