"""Speech of sounds and videos, from the file to the search: subtitles, then a tiny Whisper."""

import numpy as np
import pytest

from indexer.enrichment.passages import utterances
from indexer.enrichment.run import enrich
from indexer.pipeline import index_sources
from retrieval.library import create_library
from retrieval.media import Modality
from retrieval.recognition.base import Segment, Task
from retrieval.recognition.registry import load_recognizer
from retrieval.search.joint import JointEngine, engine_of
from retrieval.search.query import JointQuery, Mode, Query, TextPart
from tests.made_speech import SAID, babble, save_sound, save_video, silence

pytest.importorskip("av", reason="sound is read by PyAV")

SRT = """1
00:00:01,000 --> 00:00:02,500
一只狗在沙滩上跑

2
00:00:02,600 --> 00:00:04,000
孩子们在公园里踢足球

3
00:01:10,000 --> 00:01:12,000
再见
"""


def library_of(tmp_path, encoder, name="sidecar"):
    library = create_library(tmp_path / "library", encoder.space)
    library.set_enrichment({Task.SPEECH: name})
    index_sources(library, encoder, [tmp_path / "files"])
    return library


def heard_by(library, encoder, name, **how):
    return enrich(library, encoder, Task.SPEECH, lambda: load_recognizer(Task.SPEECH, name), **how)


def found(library, text):
    """Find texts by their words, the best first."""
    query = Query((TextPart(text),), modality=Modality.TEXT, mode=Mode.TEXT)
    return [hit.item for hit in engine_of(library, device="cpu").search(query)]


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


@pytest.mark.slow
def test_subtitles_become_passages_with_their_times(files, tmp_path, tiny_encoder):
    save_video(files / "film.mp4")
    (files / "film.srt").write_text(SRT)
    library = library_of(tmp_path, tiny_encoder)

    summary = heard_by(library, tiny_encoder, "sidecar")

    assert (summary.looked_at, summary.with_text) == (1, 1)
    assert summary.passages > 1
    last, *_ = found(library, "再见")
    assert (last.text, last.found_by) == ("再见", Task.SPEECH)
    assert (last.time_s, last.start_s, last.end_s) == (70.0, 70.0, 72.0)
    first, *_ = found(library, "一只狗")
    assert first.text.startswith("一只狗在沙")
    assert first.start_s == 1.0
    with library.catalog.snapshot() as snapshot:
        [enrichment] = snapshot.enrichments_of(first)
    assert enrichment.model == "sidecar"
    assert [segment.start_s for segment in enrichment.segments] == [1.0, 2.6, 70.0]


TALK = """WEBVTT

00:00.500 --> 00:02.000
good morning

00:04.000 --> 00:05.000
harbour
"""


@pytest.mark.slow
def test_what_is_said_is_found_once_where_it_is_said(files, tmp_path, tiny_encoder):
    noise = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), np.uint8)
    save_video(files / "film.mp4", seconds=6, pictures=[noise[int(n >= 15)] for n in range(30)])
    (files / "film.vtt").write_text(TALK)
    library = library_of(tmp_path, tiny_encoder)
    heard_by(library, tiny_encoder, "sidecar")
    engine = JointEngine(library, device="cpu")

    def asked(words, mode, *modalities):
        query = Query((TextPart(words),), mode=mode, parse=False)
        return engine.search(JointQuery(query, modalities))

    # The passage holds both lines, and each shot one.
    early, late = sorted(
        (hit.item for hit in asked("film", Mode.VECTOR, Modality.IMAGE)), key=lambda i: i.start_s
    )
    [passage] = [hit.item for hit in asked("harbour", Mode.VECTOR, Modality.TEXT)]
    assert passage.text == "good morning\nharbour"
    assert (early.start_s, late.start_s, passage.start_s, passage.end_s) == (0.0, 3.0, 0.5, 5.0)

    [hit] = [h for h in asked("harbour", Mode.HYBRID, Modality.IMAGE, Modality.TEXT) if h.words]
    assert (hit.item.id, hit.item.start_s, hit.item.end_s) == (late.id, 4.0, late.end_s)
    assert (hit.item.text, hit.found_by) == (passage.text, Task.SPEECH)
    [hit] = asked("harbour", Mode.TEXT, Modality.IMAGE)
    assert (hit.item.id, hit.item.start_s) == (late.id, 4.0)
    [hit] = asked("harbour", Mode.TEXT, Modality.TEXT)
    assert (hit.item.id, hit.item.start_s, hit.item.end_s) == (passage.id, 4.0, 5.0)
    [hit] = asked("morning", Mode.TEXT, Modality.IMAGE)
    assert (hit.item.id, hit.item.start_s) == (early.id, 0.5)


@pytest.mark.slow
def test_subtitles_that_come_change_and_go_later_are_taken(files, tmp_path, tiny_encoder):
    save_video(files / "film.mp4")
    save_video(files / "other.mp4", seconds=3)
    (files / "other.srt").write_text(SRT)
    library = library_of(tmp_path, tiny_encoder)

    def heard():
        library_summary = index_sources(library, tiny_encoder, [files])
        summary = heard_by(library, tiny_encoder, "sidecar")
        with library.catalog.snapshot() as snapshot:
            [told] = snapshot.enrichments_of(film_shot)
            assert snapshot.enrichment_counts()[Task.SPEECH].models == ["sidecar"]
        return summary.looked_at, told.text, library_summary.endings

    heard_by(library, tiny_encoder, "sidecar")
    with library.catalog.snapshot() as snapshot:
        [film_shot] = [
            item
            for item in snapshot.items_of_ids(list(range(1, 9))).values()
            if item.path.endswith("film.mp4") and item.modality is Modality.IMAGE
        ]
    assert heard() == (0, None, {})
    (files / "film.en.vtt").write_text(TALK)
    (files / "lone.srt").write_text(SRT)
    assert heard() == (1, "good morning\nharbour", {".srt": 1})
    assert heard()[0] == 0
    (files / "film.en.vtt").write_text(TALK.replace("harbour", "the lighthouse"))
    assert heard()[:2] == (1, "good morning\nthe lighthouse")
    assert found(library, "lighthouse")
    (files / ".mmsearchignore").write_text("*.vtt\n")
    assert heard()[:2] == (1, None)
    assert not found(library, "lighthouse")
    assert heard()[0] == 0

    library.set_enrichment({Task.SPEECH: None})
    assert index_sources(library, tiny_encoder, [files]).endings == {".srt": 2, ".vtt": 1}


@pytest.mark.slow
def test_sounds_are_indexed_for_what_is_said_in_them(files, tmp_path, tiny_encoder):
    save_sound(files / "talk.wav", silence(1))
    (files / "talk.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:01.000\nhello harbour\n")
    library = create_library(tmp_path / "library", tiny_encoder.space)

    before = index_sources(library, tiny_encoder, [files])
    library.set_enrichment({Task.SPEECH: "sidecar"})
    after = index_sources(library, tiny_encoder, [files])
    heard_by(library, tiny_encoder, "sidecar")

    assert (before.added, after.added) == (0, 1)
    assert any("--transcribe" in note for note in before.notes)
    assert not after.notes
    [passage] = found(library, "harbour")
    assert passage.path == str(files / "talk.wav")


@pytest.mark.slow
def test_a_model_hears_what_has_no_subtitles(files, tmp_path, tiny_encoder, whisper_folder):
    save_sound(files / "talk.wav", silence(2), babble(4, 1))
    save_sound(files / "copy.wav", silence(2), babble(4, 1))
    save_video(files / "spoken.mp4", np.concatenate([silence(1), babble(4, 2)]), 5)
    save_video(files / "silent-film.mp4")
    save_video(files / "film.mp4", babble(2, 3))
    (files / "film.srt").write_text(SRT)
    name = str(whisper_folder)
    from retrieval.encoders.trust import trust_folder

    trust_folder(whisper_folder)
    library = library_of(tmp_path, tiny_encoder, name)
    told: list[str] = []

    def tell(event):
        told.append(event.detail)

    stopped = heard_by(
        library, tiny_encoder, name, on_progress=tell, should_stop=lambda: len(told) > 2
    )
    first = heard_by(library, tiny_encoder, name, on_progress=tell)
    again = heard_by(library, tiny_encoder, name)

    assert stopped.interrupted
    assert stopped.looked_at + first.looked_at == 4  # the copy is heard once
    assert first.failed == again.looked_at == 0
    assert any(detail.startswith("copy.wav at 0:0") for detail in told)
    names = {item.path.rpartition("/")[2]: item for item in found(library, "bridge")}
    assert set(names) == {"talk.wav", "copy.wav", "spoken.mp4"}
    assert names["talk.wav"].text in "\n".join(text for text, _, _ in SAID)
    assert 1.5 < names["talk.wav"].time_s < 4.5
    with library.catalog.snapshot() as snapshot:
        counts = snapshot.enrichment_counts()[Task.SPEECH]
    assert (counts.looked_at, counts.with_text, counts.failed) == (4, 3, 0)
    assert [model.partition(" ")[0] for model in counts.models] == [
        "sidecar",
        "whisper:tiny-whisper",
    ]


def segments(*times):
    return [Segment("so", start_s=start, end_s=end) for start, end in times]


@pytest.mark.parametrize(
    ("times", "sizes"),
    [
        ([], []),
        ([(0, 2), (2, 4), (4, 6)], [3]),
        ([(0, 2), (4.9, 6)], [2]),
        ([(0, 2), (5, 6)], [1, 1]),
        ([(0, 12), (12, 24), (24, 31), (31, 40)], [2, 2]),
        ([(0, 90), (90, 100)], [1, 1]),
    ],
)
def test_passages_of_speech_end_at_pauses_and_after_half_a_minute(times, sizes):
    assert list(map(len, utterances(segments(*times)))) == sizes


def test_segments_without_times_are_passages_of_their_own():
    assert list(map(len, utterances([Segment("a"), Segment("b")]))) == [1, 1]
