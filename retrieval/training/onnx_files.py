"""Write PyTorch modules as ONNX files."""

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from retrieval.errors import UsageError

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 17
_KEPT_WHOLE = 32
"""Tensors of fewer elements than this stay float32: a node for each costs more than it saves."""


def require_onnx() -> None:
    """Raise UsageError where the package that writes ONNX files is not installed."""
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "Writing ONNX files needs the package onnx: pip install 'mmsearch[export]'."
        ) from error


def to_onnx(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    varying: Mapping[str, Sequence[int]],
) -> "ModelProto":
    """Trace a module in inference mode into an ONNX model.

    Args:
        module: what is called.
        inputs: examples, by name, in the order of the call's arguments.
        outputs: names, in the order of the call's results.
        varying: axes whose lengths may be others than the examples', by input or output.
    """
    require_onnx()
    import onnx

    written = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of deprecation, and of lengths that are constant here
        torch.onnx.export(
            module.eval(),
            tuple(inputs.values()),
            written,  # type: ignore[arg-type]
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={k: {axis: f"{k}_{axis}" for axis in v} for k, v in varying.items()},
            opset_version=OPSET,
            dynamo=False,
        )
    return onnx.load_from_string(written.getvalue())


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
