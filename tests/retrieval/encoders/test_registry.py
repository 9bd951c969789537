"""Encoders by name; the hub is never asked for real."""

import subprocess
import sys

import pytest
from huggingface_hub import constants

from retrieval.encoders import registry, starter
from retrieval.encoders.registry import (
    FIRST_STARTER,
    RECOMMENDED,
    RECOMMENDED_XLM,
    STARTER,
    choose_encoder,
    list_encoders,
    load_encoder,
    load_runtimes,
    recommended_encoder,
)
from retrieval.encoders.starter_first import FirstStarterEncoder
from retrieval.encoders.weight_files import FIRST_STARTER_WEIGHTS
from retrieval.errors import EncoderUnavailableError, UsageError


def test_auto_takes_the_recommended_model_when_the_hub_answers(answering, empty_cache, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", answering)
    assert choose_encoder().name == RECOMMENDED


def test_auto_falls_back_to_starter_and_says_why(closed, empty_cache, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", closed)
    monkeypatch.setattr(starter, "missing_part", lambda: None)
    choice = choose_encoder()
    assert choice.name == STARTER
    assert "hub does not answer" in choice.reason


def test_auto_does_not_ask_when_told_to_stay_offline(answering, empty_cache, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", answering)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert choose_encoder().name in {STARTER, FIRST_STARTER}


def test_auto_depends_on_the_language(answering, empty_cache, monkeypatch):
    assert [recommended_encoder(code) for code in (None, "de", "zh", "xx")] == [
        RECOMMENDED,
        RECOMMENDED,
        RECOMMENDED_XLM,
        RECOMMENDED,
    ]
    monkeypatch.setattr(constants, "ENDPOINT", answering)
    choice = choose_encoder(language="zh")
    assert choice.name == RECOMMENDED_XLM
    assert "recommended for Chinese" in choice.reason
    assert choose_encoder("starter", "zh").name == "starter"


def test_encoders_of_a_language_are_listed_by_recall(empty_cache):
    listed = list_encoders("zh")
    assert listed[0].name == RECOMMENDED_XLM
    assert listed[0].note == "recommended"
    recalls = [one.recall for one in listed[1:] if one.recall is not None]
    assert recalls == sorted(recalls, reverse=True)
    assert all("zh" in one.languages or one.recall for one in listed)
    assert "open_clip:ViT-B-32/openai" not in {one.name for one in listed}


def test_all_encoders_are_listed_without_pytorch():
    code = (
        "import sys\n"
        "from retrieval.encoders.registry import list_encoders\n"
        "names = {one.name for one in list_encoders()}\n"
        "assert 'open_clip:ViT-B-32/openai' in names\n"
        "assert not {'torch', 'open_clip'} & sys.modules.keys()\n"
        "import safetensors\n"
        "assert sys.modules.get('safetensors.torch', safetensors) is not None\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_weights_that_cannot_be_had_say_the_ways_out(closed, empty_cache, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", closed)
    with pytest.raises(EncoderUnavailableError, match=r"hub does not answer.*starter"):
        load_encoder("open_clip:ViT-B-32/laion2b_s34b_b79k", "cpu")
    assert constants.HF_HUB_OFFLINE is False


def test_an_unknown_encoder_names_the_known_forms():
    with pytest.raises(UsageError, match=r"no encoder 'clip'.*open_clip:MODEL/PRETRAINED"):
        load_encoder("clip")


def test_without_open_clip_there_is_starter(monkeypatch):
    monkeypatch.setattr(registry, "find_spec", lambda _: None)
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in ("retrieval.encoders.open_clip", "open_clip"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    choice = choose_encoder()
    assert choice.name == STARTER
    assert "open-clip-torch" in choice.reason
    assert RECOMMENDED not in {listing.name for listing in list_encoders()}
    with pytest.raises(EncoderUnavailableError, match="pip install open-clip-torch"):
        load_encoder(RECOMMENDED)


def test_the_first_edition_stands_in_and_says_why(monkeypatch, caplog):
    monkeypatch.setattr(starter, "missing_part", lambda: "a part is not here")
    choice = choose_encoder(STARTER)
    assert choice.name == FIRST_STARTER
    assert choice.reason.endswith("since a part is not here")
    assert isinstance(load_encoder(STARTER, "cpu"), FirstStarterEncoder)
    assert "since a part is not here" in caplog.text


@pytest.mark.parametrize("missing", [None, "a part is not here"])
def test_the_weights_of_a_space_choose_the_edition(missing, monkeypatch, caplog):
    monkeypatch.setattr(starter, "missing_part", lambda: missing)
    for name, weights in ((STARTER, FIRST_STARTER_WEIGHTS), (FIRST_STARTER, None)):
        loaded = load_encoder(name, "cpu", weights)
        assert isinstance(loaded, FirstStarterEncoder)
        assert loaded.space.encoder == STARTER
        assert loaded.space.weights == FIRST_STARTER_WEIGHTS
    assert not caplog.records


def test_a_space_of_the_second_edition_is_never_opened_with_the_first(monkeypatch, tmp_path):
    monkeypatch.setattr(starter, "NETWORKS", tmp_path)
    with pytest.raises(EncoderUnavailableError, match="Reinstall mmsearch"):
        load_encoder(STARTER, "cpu", "sha256:" + "0" * 64)


def test_both_editions_are_listed(monkeypatch):
    monkeypatch.setattr(starter, "missing_part", lambda: "a part is not here")
    listed = {each.name: each for each in list_encoders()}
    assert "a part is not here" in listed[STARTER].note
    assert listed[FIRST_STARTER].local


def test_other_editions_are_unknown():
    with pytest.raises(UsageError, match="no encoder 'starter:3'"):
        load_encoder("starter:3")


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
