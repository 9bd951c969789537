"""Models of speech by name: folders, the hub, and what is told where there is none."""

import time

import pytest

from retrieval.encoders import hub
from retrieval.errors import EncoderUnavailableError, UsageError
from retrieval.recognition.base import Task
from retrieval.recognition.registry import load_recognizer, without_downloads
from retrieval.recognition.whisper_files import digest_of, find_model
from tests.made_speech import save_model

pytest.importorskip("faster_whisper", reason="speech is heard by faster-whisper")


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


def test_a_folder(tmp_path):
    assert find_model(str(save_model(tmp_path / "mine"))) == tmp_path / "mine"


@pytest.mark.parametrize("missing", ["model.bin", "config.json", "tokenizer.json"])
def test_a_folder_that_lacks_a_part_says_how_to_convert(tmp_path, missing):
    folder = save_model(tmp_path / "mine", **{missing: None})

    with pytest.raises(EncoderUnavailableError, match=rf"has no .*{missing}.*ct2-transformers"):
        find_model(str(folder))


def test_a_vocabulary_may_be_text(tmp_path):
    folder = save_model(tmp_path / "mine", **{"vocabulary.json": None, "vocabulary.txt": "a"})

    assert find_model(str(folder)) == folder


@pytest.mark.parametrize("name", ["/nowhere/whisper", "./nowhere", "no-such-size", "a/b/c"])
def test_what_is_no_model_is_told_with_what_there_is(name):
    with pytest.raises(UsageError, match=r"no such folder.*large-v3.*sidecar"):
        find_model(name)


@pytest.mark.parametrize("name", ["base", "someone/whisper-ct2"])
def test_a_hub_that_does_not_answer_is_told_within_seconds(no_hub, name):
    begin = time.monotonic()

    with pytest.raises(EncoderUnavailableError, match=r"hub does not answer.*--transcribe sidecar"):
        find_model(name)

    assert time.monotonic() - begin < 2 * hub.HUB_TIMEOUT_S


def test_what_a_library_names_is_not_downloaded(no_hub, monkeypatch):
    monkeypatch.setattr(hub, "can_reach", lambda *_: pytest.fail("the network was asked"))

    named_by_library = pytest.raises(
        EncoderUnavailableError, match="Name it yourself to download it"
    )
    with named_by_library, without_downloads():
        load_recognizer(Task.SPEECH, "base")


def test_a_model_in_the_cache_of_the_hub_needs_no_network(no_hub, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "can_reach", lambda *_: pytest.fail("the network was asked"))
    repository = tmp_path / "cache" / "models--Systran--faster-whisper-base"
    snapshot = save_model(repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")

    assert find_model("base") == snapshot


def test_a_folder_with_the_name_of_a_size_counts_if_it_is_a_model(tmp_path, monkeypatch, no_hub):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    with pytest.raises(EncoderUnavailableError, match="hub does not answer"):
        find_model("base")

    save_model(tmp_path / "base")

    assert find_model("base") == tmp_path / "base"


def test_the_digest_is_of_the_content(tmp_path):
    first, same = save_model(tmp_path / "a"), save_model(tmp_path / "b")
    other = save_model(tmp_path / "c", **{"model.bin": "others!"})

    assert digest_of(first) == digest_of(same) != digest_of(other)
