"""Encoders by name; the hub is never asked for real."""

import sys

import pytest
from huggingface_hub import constants

from retrieval.encoders import registry
from retrieval.encoders.registry import (
    RECOMMENDED,
    STARTER,
    choose_encoder,
    list_encoders,
    load_encoder,
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


def test_without_open_clip_there_is_starter(monkeypatch):
    monkeypatch.setattr(registry, "find_spec", lambda _: None)
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in ("retrieval.encoders.open_clip", "open_clip"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    choice = choose_encoder()
    assert choice.name == STARTER
    assert "open-clip-torch" in choice.reason
    assert RECOMMENDED not in {listing.name for listing in list_encoders()}
    with pytest.raises(EncoderUnavailableError, match="needs the package torch, which is not"):
        load_encoder(RECOMMENDED)
