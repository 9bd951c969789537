import pytest

from indexer.media.base import ReadOptions
from indexer.media.sound_track import read
from retrieval.errors import UnreadableFileError
from retrieval.media import Modality, SoundInput
from tests.tiny_clap import RATE, tones, write_sound, write_video

pytest.importorskip("av", reason="videos are read by PyAV")

HEARD = SoundInput(RATE, RATE)


def read_all(path, options):
    steps = [read(str(path), 0, options)]
    while steps[-1].next is not None:
        steps.append(read(str(path), steps[-1].next, options))
    return [piece for step in steps for piece in step.pieces], steps


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    return write_video(path, tones(500, 1500, 2500, rate=48_000))


def test_a_video_gives_what_the_encoder_takes(video):
    heard, steps = read_all(video, ReadOptions(pictures=False, sound=HEARD))
    assert [piece.locator.part for piece in heard] == ["s0", "s1000", "s2000"]
    assert {piece.modality for piece in heard} == {Modality.AUDIO}
    assert steps[0].metadata.duration_s == pytest.approx(3, abs=0.1)
    shown, _ = read_all(video, ReadOptions())
    assert {piece.modality for piece in shown} == {Modality.IMAGE}
    both, _ = read_all(video, ReadOptions(sound=HEARD))
    keys = [(piece.modality, piece.locator.part) for piece in both]
    assert keys == [(p.modality, p.locator.part) for p in (*shown, *heard)]


def test_a_long_track_goes_on_where_it_ended(tmp_path):
    path = write_video(tmp_path / "long.mp4", tones(*range(400, 2400, 100), rate=48_000))
    heard, steps = read_all(path, ReadOptions(pictures=False, sound=HEARD))
    assert len(heard) == 20
    assert len({piece.locator.part for piece in heard}) == 20
    assert [len(step.pieces) for step in steps] == [8, 8, 4]


def test_a_mute_video_has_no_windows_and_is_no_failure(tmp_path):
    path = write_video(tmp_path / "mute.mp4", None)
    heard, [step] = read_all(path, ReadOptions(pictures=False, sound=HEARD))
    assert (heard, step.notes) == ([], ())


def test_a_video_file_with_sound_alone_is_heard_and_noted(tmp_path):
    sound = write_sound(
        tmp_path / "a.m4a", tones(400, 900, rate=44_100), 44_100, codec="aac", title="A talk"
    )
    path = sound.rename(tmp_path / "talk.mp4")
    heard, [step] = read_all(path, ReadOptions(pictures=False, sound=HEARD))
    assert len(heard) == 2
    assert step.notes == ("it has sound and no pictures",)
    assert step.metadata.text == "A talk"
    shown, [step] = read_all(path, ReadOptions())
    assert (shown, step.notes) == ([], ("it has sound and no pictures",))


def test_what_is_no_video_fails(tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    for options in (ReadOptions(), ReadOptions(pictures=False, sound=HEARD)):
        with pytest.raises(UnreadableFileError, match="cannot be opened as a video"):
            read(str(tmp_path / "text.mp4"), 0, options)
