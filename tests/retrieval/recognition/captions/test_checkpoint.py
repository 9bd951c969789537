import json
import socket
import time

import pytest
from huggingface_hub import constants

from retrieval.errors import EncoderUnavailableError, UsageError
from retrieval.recognition.captions.checkpoint import (
    Family,
    absolute_name,
    digest,
    family_of,
    find_checkpoint,
    weight_bytes,
)

PARTS = {
    "config.json": '{"model_type": "blip", "architectures": ["BlipForConditionalGeneration"]}',
    "model.safetensors": "weights",
    "preprocessor_config.json": "{}",
    "tokenizer.json": "{}",
}


@pytest.fixture
def folder(tmp_path):
    """The files of a checkpoint, by name alone."""
    made = tmp_path / "checkpoint"
    made.mkdir()
    for name, content in PARTS.items():
        (made / name).write_text(content)
    return made


def write_config(folder, **config):
    (folder / "config.json").write_text(json.dumps(config))


def test_a_folder_is_named_by_its_whole_path(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert absolute_name("checkpoint") == str(folder)
    assert absolute_name("somebody/model") == "somebody/model"
    with pytest.raises(UsageError, match=r"There is no folder \.\./nothing"):
        absolute_name("../nothing")


@pytest.mark.parametrize("part", PARTS)
def test_a_folder_without_a_part_is_refused_with_the_name_of_the_file(folder, part):
    assert find_checkpoint(str(folder)) == folder
    (folder / part).unlink()
    with pytest.raises(EncoderUnavailableError, match=part):
        find_checkpoint(str(folder))


def test_pickled_weights_are_no_weights(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(EncoderUnavailableError, match="no weights in safetensors format"):
        find_checkpoint(str(folder))


def test_every_shard_of_the_index_must_be_there(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = folder / "model.safetensors.index.json"
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index.write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(EncoderUnavailableError, match="model-00002-of-00002"):
        find_checkpoint(str(folder))
    (folder / "model-00002-of-00002.safetensors").write_text("more")
    assert find_checkpoint(str(folder)) == folder
    assert weight_bytes(folder) == len("weights") + len("more")


def test_a_shard_outside_of_the_folder_is_refused(folder):
    (folder / "model.safetensors").rename(folder.parent / "elsewhere.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../elsewhere.safetensors"}}))
    with pytest.raises(EncoderUnavailableError, match="list of weights"):
        find_checkpoint(str(folder))


@pytest.mark.parametrize(
    ("config", "family"),
    [
        (
            {"model_type": "blip", "architectures": ["BlipForConditionalGeneration"]},
            Family.BLIP_CAPTIONS,
        ),
        (
            {"model_type": "blip", "architectures": ["BlipForQuestionAnswering"]},
            Family.BLIP_ANSWERS,
        ),
        ({"model_type": "vision-encoder-decoder"}, Family.ENCODER_DECODER),
    ],
)
def test_the_configuration_tells_the_family(folder, config, family):
    write_config(folder, **config)
    assert family_of(folder) is family


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("chat_template.jinja", "{{ messages }}"),
        ("chat_template.json", "{}"),
        ("tokenizer_config.json", '{"chat_template": "{{ messages }}"}'),
    ],
)
def test_a_vision_language_model_needs_a_chat_template(folder, file, content):
    write_config(folder, model_type="qwen2_vl")
    with pytest.raises(ValueError, match="it has none"):
        family_of(folder)
    (folder / file).write_text(content)
    assert family_of(folder) is Family.CHAT


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "blip", "architectures": ["BlipForImageTextRetrieval"]}, "writes no text"),
        ({"model_type": "bert"}, "no image-to-text model of the type 'bert'"),
        ({}, "no image-to-text model of the type None"),
    ],
)
def test_other_models_are_refused(folder, config, said):
    write_config(folder, **config)
    with pytest.raises(ValueError, match=said):
        family_of(folder)


def test_the_digest_is_of_what_is_loaded(folder):
    before = digest(folder)
    (folder / "README.md").write_text("about it")
    assert digest(folder) == before
    (folder / "tokenizer.json").write_text('{"other": 1}')
    assert digest(folder) != before


def test_without_a_network_a_repository_fails_within_seconds(monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    started = time.monotonic()
    with pytest.raises(EncoderUnavailableError, match="hub does not answer"):
        find_checkpoint("somebody/model")
    assert time.monotonic() - started < 60  # a machine may be busy; no name is looked up here
