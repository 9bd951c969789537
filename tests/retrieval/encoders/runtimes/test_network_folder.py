"""Networks in a folder are loaded when they are used, and only if they are the right ones."""

import json

import numpy as np
import pytest
from onnx import TensorProto, helper

from retrieval.encoders.runtimes.network_folder import (
    CARD_NAME,
    NetworkFolder,
    usable_device,
    write_networks,
)
from retrieval.errors import EncoderUnavailableError


def adding(number):
    """A network that adds a number."""
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "number"], ["y"])],
        "adding",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor("number", TensorProto.FLOAT, [1], [number])],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


@pytest.fixture
def folder(tmp_path):
    write_networks(tmp_path / "f", "kind-1", {"one": adding(1), "two": adding(2)}, {"said": [3]})
    return tmp_path / "f"


def opened(folder, kind="kind-1"):
    return NetworkFolder(folder, kind, remedy="Do this.")


def test_what_was_written_is_run(folder):
    networks = opened(folder)
    assert networks.card == {"said": [3]}
    for name, number in (("one", 1), ("two", 2)):
        [found] = networks[name]({"x": np.array([1, 5], np.float32)})
        assert found.tolist() == [1 + number, 5 + number]


def test_a_network_is_read_at_its_first_use_and_checked(folder):
    (folder / "one.onnx").unlink()
    two = folder / "two.onnx"
    two.write_bytes(two.read_bytes() + b"\0")
    networks = opened(folder)
    with pytest.raises(EncoderUnavailableError, match=r"Cannot read .*one\.onnx.*Do this\."):
        networks["one"]
    with pytest.raises(EncoderUnavailableError, match=r"two\.onnx are damaged .*Do this\."):
        networks["two"]


def test_the_digest_follows_the_networks(folder, tmp_path):
    digest = opened(folder).digest
    write_networks(folder, "kind-1", {"two": adding(2), "one": adding(1)}, {"said": "more"})
    assert opened(folder).digest == digest
    write_networks(folder, "kind-1", {"one": adding(1), "two": adding(2.5)}, {})
    assert opened(folder).digest != digest


def test_other_folders_are_refused(folder, tmp_path):
    with pytest.raises(EncoderUnavailableError, match=r"Cannot read .*Do this\."):
        opened(tmp_path)
    with pytest.raises(EncoderUnavailableError, match="has the format kind-1; expected is kind-2"):
        opened(folder, "kind-2")
    for content in ("", "[]", "{}", json.dumps({"format": "kind-1", "networks": 1, "card": {}})):
        (folder / CARD_NAME).write_text(content)
        with pytest.raises(EncoderUnavailableError, match="is not the card of a model"):
            opened(folder)


def test_a_device_that_is_not_there_is_replaced_and_said(monkeypatch, caplog):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert [usable_device(name) for name in ("cpu", "auto")] == ["cpu", "cpu"]
    assert not caplog.records
    assert usable_device("cuda:1") == "cpu"
    assert "cannot use 'cuda:1' here" in caplog.text
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    assert [usable_device(name) for name in ("auto", "cuda:1")] == ["cuda", "cuda:1"]
