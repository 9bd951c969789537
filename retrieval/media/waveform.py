"""Draw a sound as its waveform: light bars on a dark ground, which suits light and dark pages."""

from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from retrieval.media.audio import Samples, read_samples

_RATE = 8_000
"""Samples a second: enough for peaks."""
_MOST_SECONDS = 600.0
"""More of a sound without an end is not drawn."""
_SIZE = (640, 320)
_BARS = 80
_BAR_WIDTH = 5
_QUIETEST = 0.05
"""Peaks are drawn beside the highest one; a sound that is quieter than this is drawn quieter."""
_GROUND = (34, 38, 46)
_BAR = (198, 210, 228)


def draw_sound(source: str | BinaryIO, start_s: float, end_s: float | None) -> Image.Image:
    """Draw a sound from one time to another, RGB.

    Args:
        source: Path, or an open file, which is closed in the end.
        start_s: Seconds from the beginning.
        end_s: Seconds from the beginning; None: the end of the sound, or ten minutes.

    Raises:
        As `retrieval.media.audio.read_samples`.
    """
    seconds = _MOST_SECONDS if end_s is None else min(max(end_s - start_s, 0.1), _MOST_SECONDS)
    samples = read_samples(source, _RATE, start_s=start_s, seconds=seconds)
    return draw_waveform(samples)


def draw_waveform(samples: Samples) -> Image.Image:
    """Draw the peaks of some samples from left to right, RGB."""
    image = Image.new("RGB", _SIZE, _GROUND)
    draw = ImageDraw.Draw(image)
    width, height = _SIZE
    heights = peaks(samples, _BARS)
    heights /= max(float(heights.max(initial=0.0)), _QUIETEST)
    step = width / _BARS
    for place, share in enumerate(heights):
        left = round(place * step + (step - _BAR_WIDTH) / 2)
        half = max(2, round(0.42 * height * share))
        box = (left, height // 2 - half, left + _BAR_WIDTH - 1, height // 2 + half)
        draw.rounded_rectangle(box, radius=2, fill=_BAR)
    return image


def peaks(samples: Samples, count: int) -> NDArray[np.float32]:
    """Return the highest amplitude in each of `count` equal stretches, (count,) float32."""
    found = np.zeros(count, np.float32)
    edges = np.linspace(0, len(samples), count + 1).astype(np.int64)
    for place in range(count):
        stretch = samples[edges[place] : max(edges[place + 1], edges[place] + 1)]
        found[place] = np.abs(stretch).max(initial=0.0)
    return found
