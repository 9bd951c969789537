"""Encoders by name; the hub is never asked for real."""

import subprocess
import sys

import pytest
from huggingface_hub import constants

from retrieval.encoders.registry import (
    RECOMMENDED,
    RECOMMENDED_XLM,
    STARTER,
    choose_encoder,
    list_encoders,
    load_encoder,
    recommended_encoder,
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
