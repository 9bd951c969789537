"""Encoders by name; the hub is never asked for real."""

import pytest
from huggingface_hub import constants

from retrieval.encoders.registry import (
    RECOMMENDED,
    STARTER,
    choose_encoder,
    load_encoder,
    load_runtimes,
)
from retrieval.errors import EncoderUnavailableError, UsageError


def test_auto_takes_the_recommended_model_when_the_hub_answers(answering, empty_cache, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", answering)
    assert choose_encoder().name == RECOMMENDED


def test_auto_falls_back_to_starter_and_says_why(closed, empty_cache, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", closed)
    choice = choose_encoder()
    assert choice.name == STARTER
    assert "hub does not answer" in choice.reason


def test_auto_does_not_ask_when_told_to_stay_offline(answering, empty_cache, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", answering)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert choose_encoder().name == STARTER


def test_weights_that_cannot_be_had_say_the_ways_out(closed, empty_cache, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", closed)
    with pytest.raises(EncoderUnavailableError, match=r"hub does not answer.*starter"):
        load_encoder("open_clip:ViT-B-32/laion2b_s34b_b79k", "cpu")
    assert constants.HF_HUB_OFFLINE is False


def test_an_unknown_encoder_names_the_known_forms():
    with pytest.raises(UsageError, match=r"no encoder 'clip'.*open_clip:MODEL/PRETRAINED"):
        load_encoder("clip")


@pytest.fixture
def exports(monkeypatch, tmp_path):
    from retrieval.encoders.exports import store

    monkeypatch.setattr(store, "exports_directory", lambda: tmp_path / "exports")
    return store


def test_an_encoder_without_export_is_run_by_pytorch_alone(exports, tiny_encoder):
    [only] = load_runtimes(tiny_encoder.space.encoder, "cpu")
    assert only.runtime == "PyTorch float32"


def test_an_int8_encoder_that_is_not_here_says_how_to_make_it(exports):
    with pytest.raises(EncoderUnavailableError, match=r"encoders export open_clip:a/b --int8"):
        load_encoder("open_clip:a/b@int8", "cpu", "xxh3-128:00")


def test_without_export_core_ml_and_light_environments_say_the_way_out(exports, monkeypatch):
    name = "open_clip:ViT-B-32/openai"
    with pytest.raises(EncoderUnavailableError, match=r"Core ML.*encoders export"):
        load_encoder(name, "coreml")
    monkeypatch.setattr("retrieval.encoders.registry.has_pytorch", lambda: False)
    with pytest.raises(EncoderUnavailableError, match=r"PyTorch is not installed"):
        load_encoder(name, "cpu")


@pytest.mark.slow
def test_every_runtime_of_an_export_is_loaded(exports, tiny_encoder):
    from retrieval.encoders.exports.maker import export_model

    name = tiny_encoder.space.encoder
    export_model(tiny_encoder)
    pytorch, onnx = load_runtimes(name, "cpu")
    assert (pytorch.runtime, onnx.runtime) == ("PyTorch float32", "ONNX Runtime float32")
    assert pytorch.space == onnx.space
