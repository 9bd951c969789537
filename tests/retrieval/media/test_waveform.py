import numpy as np
import pytest

from retrieval.media.waveform import draw_sound, draw_waveform, peaks
from tests.tiny_clap import RATE, tones, write_sound


def test_peaks_are_the_highest_amplitudes_of_equal_stretches():
    samples = np.array([0.1, -0.5, 0.2, 0.3, 0, 0, -1, 0.9], np.float32)
    np.testing.assert_allclose(peaks(samples, 4), [0.5, 0.3, 0, 1])
    assert peaks(samples[:1], 3).shape == (3,)
    assert not peaks(samples[:0], 3).any()


def test_bars_are_as_high_as_the_sound_is_loud():
    samples = np.concatenate([np.full(800, 0.1), np.full(800, 0.8)]).astype(np.float32)
    shown = np.asarray(draw_waveform(samples).convert("L"))
    heights = (shown > 128).sum(axis=0)
    assert heights[: shown.shape[1] // 2].max() < heights[shown.shape[1] // 2 :].max() / 4
    silent = np.asarray(draw_waveform(np.zeros(100, np.float32)).convert("L"))
    assert (silent > 128).sum(axis=0).max() <= 5


def test_the_waveform_of_a_window_shows_that_window(tmp_path):
    pytest.importorskip("av", reason="sounds are read by PyAV")
    samples = np.concatenate([tones(400), np.zeros(RATE, np.float32)])
    path = str(write_sound(tmp_path / "half.wav", samples))
    loud, silent, whole = (draw_sound(path, *of) for of in ((0, 1), (1.1, 1.9), (0, None)))
    bright = [(np.asarray(one.convert("L")) > 128).sum() for one in (loud, silent, whole)]
    assert bright[1] < bright[2] < bright[0]
