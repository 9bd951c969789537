"""Parts of a sound: all of it, cut where it is quiet."""

import numpy as np
import pytest

from retrieval.media.audio import open_sound
from retrieval.recognition.sound_parts import RATE, cut, parts_of
from tests.made_speech import save_sound, save_video, silence

pytest.importorskip("av", reason="sound is read by PyAV")


@pytest.mark.parametrize("size", [1000, 16_000, 70_001])
def test_the_parts_together_are_the_whole(size):
    samples = np.random.default_rng(0).standard_normal(200_000).astype(np.float32)
    blocks = (samples[start : start + size] for start in range(0, len(samples), size))

    parts = list(cut(blocks, part_s=2.0))

    np.testing.assert_array_equal(np.concatenate(parts), samples)
    assert max(map(len, parts)) <= 2 * RATE
    assert min(map(len, parts[:-1])) >= RATE


def test_a_part_ends_in_a_pause():
    noise = np.random.default_rng(0).standard_normal(8 * RATE).astype(np.float32)
    noise[int(1.4 * RATE) : int(1.8 * RATE)] *= 0.01

    first = next(cut([noise], part_s=2.0))

    assert 1.4 * RATE < len(first) < 1.8 * RATE


def test_nothing_has_no_part():
    assert list(cut([])) == []


def test_a_sound_is_resampled_and_has_times(tmp_path):
    tone = np.sin(np.arange(3 * RATE) * 2 * np.pi * 440 / RATE).astype(np.float32) / 2
    path = save_sound(tmp_path / "tone.wav", silence(1.0), tone)

    with open_sound(str(path)) as sound:
        [(start_s, samples)] = parts_of(sound)

    assert start_s == 0.0
    assert len(samples) == 4 * RATE
    assert abs(samples[:RATE]).max() == 0
    assert abs(samples[RATE:]).max() == pytest.approx(0.5, abs=0.01)


def test_the_sound_of_a_video_is_as_long_as_it(tmp_path):
    path = save_video(tmp_path / "film.mp4", silence(2.0))

    with open_sound(str(path)) as sound:
        [(start_s, samples)] = parts_of(sound)

    assert start_s == 0.0
    assert len(samples) == pytest.approx(2 * RATE, abs=2048)
