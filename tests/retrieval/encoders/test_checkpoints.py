import json
import socket
import time
from types import SimpleNamespace

import pytest
from huggingface_hub import constants

from retrieval.encoders.checkpoints import (
    CheckpointKind,
    checkpoint_digest,
    missing_part,
    read_config,
)
from retrieval.errors import EncoderUnavailableError, UsageError

KIND = CheckpointKind("model", "--model", "someone/model", "`--model none`")


@pytest.fixture
def folder(tmp_path):
    for name in ("model.safetensors", "preprocessor_config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "toy"}))
    return tmp_path


def test_folders_and_repositories(folder, monkeypatch):
    assert KIND.local_folder(str(folder)) == folder
    assert KIND.local_folder("someone/model") is None
    monkeypatch.chdir(folder)
    for name in ("", "/nowhere", "nowhere", "../model", "a/b/c"):
        with pytest.raises(UsageError, match=f"model:{name}: there is no folder"):
            KIND.local_folder(name)


def test_a_hub_that_does_not_answer_is_said_within_seconds(monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    start = time.monotonic()
    with pytest.raises(
        EncoderUnavailableError, match=r"hub does not answer.*--model model:DIR.*--model none"
    ):
        KIND.hub_folder("someone/model")
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("file", "part"),
    [
        ("config.json", r"configuration \(config\.json\)"),
        ("model.safetensors", "weights in safetensors format"),
        ("preprocessor_config.json", "image preprocessing"),
        ("tokenizer.json", "tokenizer"),
    ],
)
def test_what_a_folder_lacks_is_named(file, part, folder, monkeypatch):
    monkeypatch.setattr(CheckpointKind, "import_transformers", lambda *_: SimpleNamespace())
    assert missing_part(folder) is None
    (folder / file).unlink()
    with (
        pytest.raises(EncoderUnavailableError, match=f"has no {part}"),
        KIND.loading("model:x", folder),
    ):
        pytest.fail("an incomplete folder was loaded")


def test_errors_while_loading_are_explained_and_others_pass(folder):
    with (
        pytest.raises(EncoderUnavailableError, match=r"cannot be loaded: no such thing\. Check"),
        KIND.loading("model:x", folder),
    ):
        raise RuntimeError("no such thing.\nand a long list")
    with (
        pytest.raises(EncoderUnavailableError, match=r"lacks 2 weights .* such as a"),
        KIND.loading("model:x", folder),
    ):
        KIND.require_weights("model:x", folder, ["b", "a"])
    KIND.require_weights("model:x", folder, [])


def test_configurations(folder):
    assert read_config(folder) == {"model_type": "toy"}
    (folder / "config.json").write_text("[]")
    with pytest.raises(TypeError, match="no JSON object"):
        read_config(folder)


def test_the_digest_follows_content_and_settings(folder, tmp_path_factory):
    before = checkpoint_digest(folder, 1)
    assert checkpoint_digest(folder, 1) == before
    assert checkpoint_digest(folder, 2) != before
    (folder / "README.md").write_text("a model")
    assert checkpoint_digest(folder, 1) == before
    (folder / "model.safetensors").write_text("other weights")
    assert checkpoint_digest(folder, 1) != before


def test_weights_in_several_files_are_all_there_and_inside_of_the_folder(tmp_path):
    for name in ("config.json", "preprocessor_config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    index = tmp_path / "model.safetensors.index.json"
    (tmp_path / "model-1.safetensors").write_bytes(b"")
    for shards, lacks in (
        ({"a": "model-1.safetensors", "b": "model-2.safetensors"}, "model-2"),
        ({"a": "../model-1.safetensors"}, "list of weights"),
        ({}, "list of weights"),
        ({"a": "model-1.safetensors"}, None),
    ):
        index.write_text(json.dumps({"weight_map": shards}))
        missing = missing_part(tmp_path)
        assert missing is None if lacks is None else lacks in (missing or "")
