"""Modules as ONNX files give what they give in PyTorch."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from retrieval.encoders.runtimes import onnx_files
from retrieval.encoders.runtimes.onnx_files import (
    halved,
    joined,
    quantise_file,
    require_export_packages,
    to_onnx,
)
from retrieval.encoders.runtimes.onnx_runtime import OnnxModel
from retrieval.errors import EncoderUnavailableError

VARYING = {"x": [0], "y": [0]}


@pytest.fixture(scope="module")
def layer():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(24, 8)


def run(model, **inputs):
    return OnnxModel(model.SerializeToString())(inputs)


def test_a_file_takes_other_lengths_than_the_example(layer):
    model = to_onnx(layer, {"x": torch.randn(2, 24)}, ["y"], VARYING)
    x = torch.randn(5, 24)
    [y] = run(model, x=x.numpy())
    torch.testing.assert_close(torch.from_numpy(y), layer(x).detach())


def test_halved_weights_take_half_the_space_and_compute_in_float32(layer):
    model = to_onnx(layer, {"x": torch.randn(2, 24)}, ["y"], VARYING)
    whole = model.ByteSize()
    halved(model)
    assert model.ByteSize() < whole - 300
    rounded = nn.Linear(24, 8)
    rounded.load_state_dict({k: v.half().float() for k, v in layer.state_dict().items()})
    rounded.bias.data = layer.bias.data  # few numbers are kept as they are
    x = torch.randn(5, 24)
    [y] = run(model, x=x.numpy())
    torch.testing.assert_close(torch.from_numpy(y), rounded(x).detach())


def test_a_joined_model_reads_what_the_first_reads_and_gives(layer):
    class Second(nn.Module):
        def forward(self, x, y):
            return y * 2 + x[:, :8]

    first = to_onnx(layer, {"x": torch.randn(2, 24)}, ["y"], VARYING)
    inputs = {"x": torch.randn(2, 24), "y": torch.randn(2, 8)}
    second = to_onnx(Second(), inputs, ["z"], {**VARYING, "z": [0]})
    x = torch.randn(3, 24)
    found = run(joined(first, second, ["z", "y"]), x=x.numpy())
    y = layer(x).detach().numpy()
    np.testing.assert_allclose(found[0], y * 2 + x[:, :8].numpy(), atol=1e-5)
    np.testing.assert_allclose(found[1], y, atol=1e-5)


@pytest.mark.parametrize(("operations", "is_quantised"), [(None, True), (["Conv"], False)])
def test_weights_become_integers_where_asked(layer, tmp_path, operations, is_quantised):
    model = to_onnx(layer, {"x": torch.randn(2, 24)}, ["y"], VARYING)
    exact, quantised = tmp_path / "exact.onnx", tmp_path / "int8.onnx"
    exact.write_bytes(model.SerializeToString())
    x = np.random.default_rng(0).normal(size=(20, 24)).astype(np.float32)
    quantise_file(exact, quantised, ({"x": row[np.newaxis]} for row in x), operations=operations)
    kinds = {each.data_type for each in onnx.load(quantised).graph.initializer}
    assert (onnx.TensorProto.INT8 in kinds) == is_quantised
    [y], [expected] = OnnxModel(quantised)({"x": x}), run(model, x=x)
    assert np.abs(y - expected).max() < 0.05
    assert {file.name for file in tmp_path.iterdir()} == {"exact.onnx", "int8.onnx"}


def test_missing_packages_are_named(monkeypatch):
    lacking = {"onnx", "open_clip"}
    monkeypatch.setattr(onnx_files, "find_spec", lambda name: None if name in lacking else True)
    with pytest.raises(EncoderUnavailableError, match=r"needs onnx, .*mmsearch\[export\]"):
        require_export_packages()
    with pytest.raises(EncoderUnavailableError, match=r"needs open-clip-torch, onnx, "):
        require_export_packages("open_clip")
