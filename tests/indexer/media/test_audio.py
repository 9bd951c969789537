import numpy as np
import pytest

from indexer.media.audio import SILENT, read
from indexer.media.base import ReadOptions
from retrieval.errors import UnreadableFileError
from retrieval.media import Modality, SoundInput
from tests.tiny_clap import RATE, tones, write_sound, write_video

pytest.importorskip("av", reason="sounds are read by PyAV")

HEARING = ReadOptions(sound=SoundInput(RATE, RATE))


def read_all(path, options=HEARING):
    steps = [read(str(path), 0, options)]
    while steps[-1].next is not None:
        steps.append(read(str(path), steps[-1].next, options))
    return steps


def test_windows_come_in_calls_of_bounded_size(tmp_path):
    pitches = range(300, 4300, 200)
    path = write_sound(tmp_path / "long.flac", tones(*pitches), codec="flac")
    steps = read_all(path)
    assert [len(step.pieces) for step in steps] == [8, 8, 4]
    pieces = [piece for step in steps for piece in step.pieces]
    assert {piece.modality for piece in pieces} == {Modality.AUDIO}
    assert [piece.locator.part for piece in pieces[:3]] == ["s0", "s1000", "s2000"]
    assert [(p.locator.start_s, p.locator.end_s) for p in pieces[:2]] == [(0, 1), (1, 2)]
    assert all(piece.locator.time_s == piece.locator.start_s for piece in pieces)
    assert all(step.metadata.duration_s is None for step in steps[1:])
    assert steps[0].metadata.duration_s == 20


def test_tags_become_words_columns_and_a_date(tmp_path):
    path = write_sound(
        tmp_path / "song.flac",
        tones(400),
        codec="flac",
        title="Thunder in May",
        artist="Sky",
        album="Weather",
        genre="Field",
        date="2021-03-04",
    )
    metadata = read(str(path), 0, HEARING).metadata
    assert metadata.text == "Thunder in May\nSky\nWeather"
    assert metadata.columns == {"artist": "Sky", "album": "Weather", "genre": "Field"}
    assert (metadata.taken_local, metadata.date_source) == (1_614_816_000, "audio")


def test_silent_windows_are_no_items(tmp_path):
    quiet = np.zeros(RATE, np.float32)
    mixed = write_sound(tmp_path / "mixed.wav", np.concatenate([quiet, tones(400), quiet]))
    [step] = read_all(mixed)
    assert [piece.locator.part for piece in step.pieces] == ["s1000"]
    assert not step.notes
    [step] = read_all(write_sound(tmp_path / "silent.wav", quiet))
    assert (step.pieces, step.notes) == ((), (SILENT,))


def test_a_file_that_ends_early_has_a_note(tmp_path):
    path = write_sound(tmp_path / "cut.wav", tones(400, 800, 1200, 1600))
    path.write_bytes(path.read_bytes()[: 2 * RATE + 100])
    [step] = read_all(path)
    assert len(step.pieces) == 1
    # Some versions of FFmpeg take the length of a cut file from its size.
    assert not step.notes or "the file ends early" in step.notes[0]


def test_what_has_no_sound_fails_with_a_plain_reason(tmp_path):
    mute = write_video(tmp_path / "mute.mp4", None)
    with pytest.raises(UnreadableFileError, match="has no sound"):
        read(str(mute.rename(tmp_path / "mute.m4a")), 0, HEARING)


def test_where_no_encoder_hears_only_the_metadata_is_read(tmp_path):
    path = write_sound(tmp_path / "a.wav", tones(400), title="A")
    decoded = read(str(path), 0, ReadOptions())
    assert (decoded.pieces, decoded.next, decoded.metadata.text) == ((), None, "A")
