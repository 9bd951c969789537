import numpy as np
import pytest

from retrieval.errors import UnreadableFileError
from retrieval.media import SoundInput
from retrieval.media.audio import (
    as_wave,
    cut_windows,
    open_sound,
    read_samples,
    resample,
)
from tests.tiny_clap import RATE, tones, write_sound, write_video

pytest.importorskip("av", reason="sounds are read by PyAV")

HEARD = SoundInput(RATE, RATE)
CODECS = {
    "wav": ("pcm_s16le", RATE),
    "flac": ("flac", RATE),
    "mp3": ("libmp3lame", 44_100),
    "m4a": ("aac", 44_100),
    "opus": ("libopus", 48_000),
    "aac": ("aac", 44_100),
    "aiff": ("pcm_s16be", RATE),
}


def windows(path, first=0):
    with open_sound(str(path)) as sound:
        return list(sound.windows(HEARD, first)), sound.damage


def loudest_pitch(samples):
    return np.argmax(np.abs(np.fft.rfft(samples))) * RATE / len(samples)


@pytest.mark.parametrize("ending", CODECS)
def test_each_format_gives_the_same_sound(tmp_path, ending):
    codec, rate = CODECS[ending]
    path = tmp_path / f"sound.{ending}"
    write_sound(path, tones(400, 1200, 2000, rate=rate), rate, codec=codec)
    found, damage = windows(path)
    assert damage is None
    assert [(w.start_s, w.end_s) for w in found[:3]] == [(0, 1), (1, 2), (2, 3)]
    for window, pitch in zip(found, (400, 1200, 2000), strict=False):
        assert window.samples.dtype == np.float32
        assert len(window.samples) == RATE
        assert loudest_pitch(window.samples) == pytest.approx(pitch, abs=3)


def test_windows_are_the_same_wherever_reading_begins(tmp_path):
    path = write_sound(tmp_path / "long.flac", tones(*range(300, 3300, 200)), codec="flac")
    whole, _ = windows(path)
    for first in (1, 5, 14):
        rest, _ = windows(path, first)
        assert [w.number for w in rest] == [w.number for w in whole[first:]]
        for one, other in zip(rest, whole[first:], strict=True):
            assert one.start_s == other.start_s
            np.testing.assert_allclose(one.samples, other.samples, atol=1e-4)


def test_the_last_window_ends_with_the_sound(tmp_path):
    samples = np.concatenate([tones(300, 700), tones(1100, seconds=1.5)])
    path = write_sound(tmp_path / "tail.wav", samples)
    heard = SoundInput(RATE, 2 * RATE)
    with open_sound(str(path)) as sound:
        found = list(sound.windows(heard))
    assert [(w.start_s, w.end_s) for w in found] == [(0, 2), (1.5, 3.5)]
    assert all(len(w.samples) == 2 * RATE for w in found)
    with open_sound(str(path)) as sound:
        [again] = sound.windows(heard, 1)
    np.testing.assert_allclose(again.samples, found[1].samples, atol=1e-4)
    assert [len(w) for w in cut_windows(samples, 2 * RATE, RATE)] == [2 * RATE] * 2


def test_a_short_sound_is_one_window_and_a_short_end_none(tmp_path):
    [only], _ = windows(write_sound(tmp_path / "short.wav", tones(500, seconds=0.3)))
    assert (only.start_s, only.end_s, len(only.samples)) == (0, 0.3, 0.3 * RATE)
    path = write_sound(tmp_path / "end.wav", tones(500, seconds=1.4))
    assert [(w.start_s, w.end_s) for w in windows(path)[0]] == [(0, 1)]


def test_a_damaged_sound_keeps_what_can_be_decoded_at_its_time(tmp_path):
    path = write_sound(tmp_path / "hurt.flac", tones(400, 1200, 2000, 2800), codec="flac")
    content = bytearray(path.read_bytes())
    middle = len(content) * 3 // 8
    content[middle : middle + 2000] = bytes(2000)
    path.write_bytes(content)
    found, damage = windows(path)
    assert damage
    assert loudest_pitch(found[0].samples) == pytest.approx(400, abs=3)
    assert loudest_pitch(found[3].samples) == pytest.approx(2800, abs=3)


def test_what_has_no_sound_says_so(tmp_path):
    with (
        pytest.raises(UnreadableFileError, match="has no sound"),
        open_sound(str(write_video(tmp_path / "mute.mp4", None))),
    ):
        pass
    (tmp_path / "text.mp3").write_text("no sound")
    with pytest.raises(UnreadableFileError, match="cannot be opened as sound"):
        read_samples(str(tmp_path / "text.mp3"), RATE, seconds=1)
    (tmp_path / "empty.wav").write_bytes(b"")
    with pytest.raises(UnreadableFileError, match="the file is empty"):
        read_samples(str(tmp_path / "empty.wav"), RATE, seconds=1)


def test_a_playlist_opens_no_other_file(tmp_path):
    write_sound(tmp_path / "secret.mp3", tones(400, rate=44_100), 44_100, codec="libmp3lame")
    playlist = tmp_path / "list.mp3"
    playlist.write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path}/secret.mp3\n#EXT-X-ENDLIST\n")
    with pytest.raises(UnreadableFileError):
        read_samples(str(playlist), RATE, seconds=1)


def test_a_stretch_is_read_from_its_start(tmp_path):
    path = write_sound(tmp_path / "three.wav", tones(400, 1200, 2000))
    middle = read_samples(path.read_bytes(), RATE, start_s=1.25, seconds=0.5)
    assert len(middle) == RATE // 2
    assert loudest_pitch(middle) == pytest.approx(1200, abs=4)


def test_waves_and_rates_there_and_back():
    samples = tones(440)
    again = read_samples(as_wave(samples, RATE), RATE, seconds=2)
    np.testing.assert_allclose(again, np.clip(samples, -1, 1), atol=1e-3)
    assert resample(samples, RATE, RATE) is samples
    higher = resample(samples, RATE, 3 * RATE)
    assert len(higher) == pytest.approx(3 * RATE, rel=0.01)
    assert np.argmax(np.abs(np.fft.rfft(higher))) == pytest.approx(440, abs=5)


def test_silent_windows_of_a_query_are_left_out():
    samples = np.concatenate([tones(440), np.zeros(RATE, np.float32)])
    assert len(cut_windows(samples, RATE, RATE)) == 1
    assert not cut_windows(np.zeros(RATE, np.float32), RATE, RATE)


def test_a_frame_that_claims_to_last_for_hours_is_not_decoded(tmp_path):
    path = write_sound(tmp_path / "slow.wav", tones(400)[:500], 1)
    with pytest.raises(UnreadableFileError, match="1 samples a second"):
        read_samples(str(path), RATE, seconds=1)
