import numpy as np
import pytest

from indexer.enrichment.run import enrich
from indexer.pipeline import index_sources
from retrieval.library import create_library
from retrieval.recognition.base import Recognized, Segment, Task
from retrieval.recognition.speech import SubtitlesAlone
from tests.block_codes import BlockEncoder, BlockReader, draw, save
from tests.made_speech import save_sound, save_video, silence


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


@pytest.mark.slow
def test_texts_are_listed_by_task_and_time(run, tmp_path, tiny_encoder):
    pytest.importorskip("av", reason="videos are read by PyAV")
    noise = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), np.uint8)
    films = tmp_path / "films"
    film = save_video(films / "film.mp4", seconds=6, pictures=[noise[n // 15] for n in range(30)])
    film.with_suffix(".srt").write_text("1\n00:00:01,000 --> 00:00:02,500\n两只狗\n")
    (films / "broken.mp4").write_bytes(b"no film")
    library = create_library(tmp_path / "library", tiny_encoder.space)
    library.set_enrichment({Task.SPEECH: "sidecar"})
    index_sources(library, tiny_encoder, [films], workers=1)
    enrich(library, tiny_encoder, Task.SPEECH, SubtitlesAlone)
    with library.catalog.transaction() as transaction:
        shots = transaction.pictures_to_enrich(tiny_encoder.space.id, Task.OCR, limit=9)
        assert len(shots) == 2
        read = {shot.picture_key: Recognized([Segment(f"at {shot.start_s:g}")]) for shot in shots}
        transaction.record_enrichments(Task.OCR, "blocks/1", read)
    texts = ("texts", "--library", library.path)

    told = run(*texts, film, "--json")
    assert [(one["task"], one["text"]) for one in told.json["texts"]] == [
        ("ocr", "at 0"),
        ("ocr", "at 3"),
        ("speech", "两只狗"),
    ]
    assert "两只狗" in told.out
    failed = run(*texts, films / "broken.mp4")
    assert (failed.code, "could not be indexed" in failed.err) == (2, True)
    assert run(*texts, films / "none.mp4").code == 1


@pytest.mark.slow
def test_texts_of_a_kind_are_forgotten(run, tmp_path):
    encoder = BlockEncoder()
    folder = tmp_path / "photos"
    save(folder / "sign.png", "Exit\nto the left")
    save(folder / "other.png", "Way in")
    library = create_library(tmp_path / "library", encoder.space)
    library.set_enrichment({Task.OCR: "blocks"})
    index_sources(library, encoder, [folder], workers=1)
    enrich(library, encoder, Task.OCR, BlockReader)
    texts = ("texts", "--library", library.path)
    assert run(*texts).code == run(*texts, folder / "sign.png", "--forget", "ocr").code == 2

    assert run("remove", folder / "other.png", "--library", library.path).code == 0
    with library.catalog.snapshot() as snapshot:
        assert len(snapshot.enrichment_counts()) == 1
    told = run(*texts, "--forget", "ocr", "--yes", "--json").json
    assert told["forgotten"] == {"task": "ocr", "looked_at": 1, "with_text": 1, "passages": 2}
    assert library.enrichment == {}
    with library.catalog.snapshot() as snapshot:
        assert snapshot.enrichment_counts() == {}
    assert "0 of 0 pictures" in run(*texts, "--forget", "ocr").out


@pytest.mark.slow
def test_what_is_said_is_printed_as_a_transcript(run, tmp_path, tiny_encoder):
    pytest.importorskip("av", reason="videos are read by PyAV")
    film = save_video(tmp_path / "films" / "talk.mp4")
    silent = save_video(tmp_path / "films" / "silent-film.mp4")
    hum = save_sound(tmp_path / "films" / "hum.wav", silence(1))
    said = "1\n00:00:01,000 --> 00:00:02,500\nTwo dogs run.\n"
    film.with_suffix(".srt").write_text(said)
    library = create_library(tmp_path / "library", tiny_encoder.space)
    library.set_enrichment({Task.SPEECH: "sidecar"})
    index_sources(library, tiny_encoder, [tmp_path / "films"], workers=1)
    enrich(library, tiny_encoder, Task.SPEECH, SubtitlesAlone)
    assert "nothing found" in run("texts", "--library", library.path, hum).out
    texts = ("texts", "--library", library.path, "--transcript")

    assert run(*texts, "srt", film).out == said
    assert run(*texts, "txt", film).out == "Two dogs run.\n"
    assert run(*texts, "vtt", silent).code == 1
    assert run(*texts, "vtt", film, "--json").code == 2


@pytest.mark.slow
def test_a_sound_in_which_nothing_is_said_was_listened_to(run, tmp_path, tiny_encoder):
    pytest.importorskip("av", reason="sound is read by PyAV")
    (tmp_path / "sounds").mkdir()
    sound = save_sound(tmp_path / "sounds" / "hum.wav", silence(1))
    library = create_library(tmp_path / "library", tiny_encoder.space)
    library.set_enrichment({Task.SPEECH: "sidecar"})
    index_sources(library, tiny_encoder, [tmp_path / "sounds"], workers=1)
    texts = ("texts", "--library", library.path, sound)
    assert "No model has looked" in run(*texts).out
    enrich(library, tiny_encoder, Task.SPEECH, SubtitlesAlone)
    printed = run(*texts).out
    assert "speech (sidecar)" in printed
    assert "nothing found" in printed
    searched = run("search", "a hum", "--modality", "audio", "--library", library.path)
    assert "clap:" in searched.err
