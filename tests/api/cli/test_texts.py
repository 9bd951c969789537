import pytest

from indexer.enrichment.run import enrich
from indexer.pipeline import index_sources
from retrieval.library import create_library
from retrieval.recognition.base import Task
from tests.block_codes import BlockEncoder, BlockReader, draw, save


@pytest.mark.slow
def test_what_was_found_in_a_file_is_shown_and_counted(run, tmp_path):
    encoder = BlockEncoder()
    folder = tmp_path / "photos"
    save(folder / "sign.png", "Exit\nto the left")
    draw("").crop((100, 100, 150, 150)).save(folder / "plain.png")
    library = create_library(tmp_path / "library", encoder.space)
    index_sources(library, encoder, [folder], workers=1)
    texts = ("texts", "--library", library.path)
    assert "No model has looked" in run(*texts, folder / "sign.png").out
    enrich(library, encoder, Task.OCR, BlockReader)
    printed = run(*texts, folder / "sign.png").out
    assert "ocr (blocks/1)" in printed
    assert "  Exit\n  to the left" in printed
    told = run(*texts, folder / "sign.png", "--json").json
    [found] = told["texts"]
    assert (found["text"], found["page"], found["time_s"]) == ("Exit\nto the left", None, None)
    assert len(found["segments"]) == 2
    assert "nothing found" in run(*texts, folder / "plain.png").out
    assert run(*texts, tmp_path / "other.png").code == 1
    status = run("status", "--library", library.path, "--json").json
    assert status["found_texts"]["ocr"] == {
        "looked_at": 2,
        "with_text": 1,
        "failed": 0,
        "models": ["blocks/1"],
    }
    assert "in 1 of 2 (blocks/1)" in run("status", "--library", library.path).out
