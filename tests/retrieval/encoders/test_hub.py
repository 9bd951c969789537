"""The hub is never asked for real: a server of the test stands in its place, or nothing does."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from huggingface_hub import constants

from retrieval.encoders import hub
from retrieval.encoders.registry import RECOMMENDED, STARTER, choose_encoder, load_encoder
from retrieval.errors import EncoderUnavailableError, UsageError


@pytest.fixture
def answering():
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def silent():
    """An address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def closed():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def test_any_answer_counts(answering):
    assert hub.can_reach(answering)


def test_a_refused_connection_is_no_answer(closed):
    assert not hub.can_reach(closed)


def test_silence_ends_after_the_time_limit(silent):
    start = time.monotonic()
    assert not hub.can_reach(silent, timeout_s=0.3)
    assert time.monotonic() - start < 3


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
