"""A network in an ONNX file gives what it should, and says what is wrong with it."""

import os
import subprocess
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper

from retrieval.encoders.runtimes.onnx_runtime import OnnxModel
from retrieval.errors import EncoderUnavailableError


@pytest.fixture
def affine():
    """y = x @ w, z = y + 1, with w outside the file."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [3, 2], np.zeros(6, np.float32))
    weight.ClearField("float_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="elsewhere")
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["y"]),
            helper.make_node("Add", ["y", "one"], ["z"]),
        ],
        "affine",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "yz"],
        [weight, helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def test_weights_may_lie_outside_the_file(affine):
    weight = np.arange(6, dtype=np.float32).reshape(2, 3).T  # not contiguous
    x = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    model = OnnxModel(affine, initializers={"w": weight})
    assert model.outputs == ("y", "z")
    y, z = model({"x": x})
    np.testing.assert_allclose(y, x @ weight)
    np.testing.assert_allclose(z, y + 1)
    [only] = model({"x": x[:0]}, ["z"])
    assert only.shape == (0, 2)


def test_a_file_that_is_no_network_is_an_error(tmp_path):
    damaged = tmp_path / "network.onnx"
    damaged.write_bytes(b"not a network")
    for source in (damaged, tmp_path / "missing.onnx", b"not a network"):
        with pytest.raises(EncoderUnavailableError, match="Cannot load the network"):
            OnnxModel(source)


def test_a_device_that_is_not_there_is_an_error(affine):
    with pytest.raises(EncoderUnavailableError, match="CPUExecutionProvider"):
        OnnxModel(affine, device="quantum:1", initializers={"w": np.zeros((3, 2), np.float32)})


@pytest.mark.slow
def test_nothing_is_told_to_the_maker_of_the_runtime(tmp_path):
    code = (
        "from retrieval.encoders.runtimes.onnx_runtime import OnnxModel\n"
        "try:\n    OnnxModel(b'')\nexcept Exception: pass"
    )
    environment = os.environ | {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(tmp_path.rglob("*")) == []
