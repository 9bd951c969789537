"""Cut the sound of a file into parts that a speech model takes one after the other."""

from collections.abc import Iterable, Iterator

import numpy as np

from retrieval.media.audio import MAX_SECONDS, Samples, Sound

RATE = 16_000
"""Samples a second, as Whisper takes them."""

PART_S = 300
_CUT_WITHIN_S = 30
_STEP_S = 0.1


def parts_of(sound: Sound) -> Iterator[tuple[float, Samples]]:
    """Cut a sound where it is quiet into parts of at most five minutes.

    Gives each part's beginning in seconds from that of the file, and its samples, 16,000 a second.
    Where the sound begins later than the file, as in many a video, or cannot be decoded, there is
    silence.
    """
    start = 0
    for samples in cut(_filled(sound.samples(RATE))):
        yield start / RATE, samples
        start += len(samples)


def cut(blocks: Iterable[Samples], part_s: float = PART_S) -> Iterator[Samples]:
    """Join blocks of samples and cut them into parts of at most `part_s` seconds.

    All parts but the last end within their last 30 seconds, or their second half where that is
    less, in the middle of the 0.3 s that are quietest there, so that hardly a word is cut in two.
    The parts together are the blocks together.
    """
    longest = round(part_s * RATE)
    searched = min(_CUT_WITHIN_S * RATE, longest // 2)
    held: list[Samples] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += len(block)
        if count < longest:
            continue
        joined = np.concatenate(held)
        while len(joined) >= longest:
            end = longest - searched + _quietest(joined[longest - searched : longest])
            yield joined[:end]
            joined = joined[end:]
        held, count = [joined], len(joined)
    if count:
        yield np.concatenate(held)


def _filled(blocks: Iterable[tuple[int, Samples]]) -> Iterator[Samples]:
    """Give blocks without gaps, up to `MAX_SECONDS`: silence stands where some are missing."""
    position = 0
    for place, values in blocks:
        if place >= MAX_SECONDS * RATE:
            return
        while position < place:
            silence = np.zeros(min(place - position, PART_S * RATE), np.float32)
            yield silence
            position += len(silence)
        new = values[position - place :]
        yield new
        position += len(new)


def _quietest(samples: Samples) -> int:
    """Return the middle of the three neighbouring steps of 0.1 s with the least energy."""
    step = round(_STEP_S * RATE)
    steps = len(samples) // step
    if steps < 3:
        return len(samples)
    energy = np.square(samples[: steps * step].reshape(steps, step)).mean(axis=1)
    first = int(np.argmin(np.convolve(energy, np.ones(3), "valid")))
    return first * step + step * 3 // 2
