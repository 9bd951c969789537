"""Options of `index` that choose models which look for texts."""

import sys
from types import SimpleNamespace

import pytest

from api.cli.enrichment import as_facts, chosen_models, sentence
from indexer.enrichment.run import EnrichmentSummary
from retrieval.encoders.registry import LOADERS as ENCODERS
from retrieval.errors import UsageError
from retrieval.recognition.base import Task
from retrieval.recognition.registry import LOADERS
from tests.block_codes import BlockEncoder, BlockReader, save


@pytest.mark.parametrize(
    ("options", "models"),
    [
        ((None, None, False, None, False), {}),
        ((True, "small", False, None, False), {Task.OCR: "rapidocr", Task.SPEECH: "small"}),
        ((False, None, True, None, True), dict.fromkeys(Task)),
        ((None, None, False, "blip", False), {Task.CAPTION: "blip"}),
    ],
)
def test_options_choose_models(options, models):
    assert chosen_models(*options) == models


@pytest.mark.parametrize(
    "options", [(None, "small", True, None, False), (None, None, False, "blip", True)]
)
def test_options_that_contradict_each_other_are_refused(options):
    with pytest.raises(UsageError, match="contradict"):
        chosen_models(*options)


def test_a_sentence_says_what_was_found():
    summary = EnrichmentSummary(Task.OCR, looked_at=1, with_text=1, failed=2, seconds=1.25)
    assert sentence(summary) == "Text found in 1 of 1 picture, 2 failed in 1.2 s."
    summary = EnrichmentSummary(Task.SPEECH, looked_at=2_000, with_text=3, seconds=1.0)
    assert sentence(summary) == "Speech found in 3 of 2,000 files in 1.0 s."
    assert as_facts([summary])[0]["task"] == "speech"


@pytest.mark.slow
def test_index_looks_for_texts_from_then_on(run, tmp_path, monkeypatch):
    monkeypatch.setitem(ENCODERS, "blocks", lambda *_: BlockEncoder())
    module = SimpleNamespace(load_recognizer=lambda _: BlockReader())
    monkeypatch.setitem(sys.modules, LOADERS[Task.OCR], module)
    save(tmp_path / "photos" / "receipt.png", "Supermarket")
    index = ("index", "--library", tmp_path / "library", "--json", "--workers", "1")
    told = run(*index, tmp_path / "photos", "--encoder", "blocks", "--ocr").json
    [texts] = told["texts"]
    assert (texts["task"], texts["looked_at"], texts["with_text"]) == ("ocr", 1, 1)
    save(tmp_path / "photos" / "sign.png", "Exit")
    assert run(*index).json["texts"][0]["looked_at"] == 1
    found = run("search", "exit", "--library", tmp_path / "library", "--json", "--mode", "text")
    assert [hit["path"] for hit in found.json["hits"]] == [str(tmp_path / "photos" / "sign.png")]
    save(tmp_path / "photos" / "door.png", "Door")
    assert run(*index, "--no-ocr").json["texts"] == []
