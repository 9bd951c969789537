"""Cut the frames of a video into shots, and choose the best frame of each."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.media.video import Frame

SHORTEST_MS = 1_000
"""Least length of a shot but the last."""

LONGEST_MS = 120_000
"""Greatest length of a shot, so that a talk without a cut can be searched by time."""

_LONG_MS = 15_000
"""Longer shots end where less has changed, such as the text of a slide."""

_CHANGE = 0.8
_SMALL_CHANGE = 0.25
"""Least mean absolute difference of a frame's sketch from the mean of its shot, in units of their
contrast (standard deviation), so that dark scenes end, too. Of 254 cuts and cross-fades between
moving photos 0.8 finds 98 %, half a second away at most, and 3 % of those found are none. The
content detector of PySceneDetect 0.7 finds 91 % with its threshold at 15, 60 % at its default of
27, and none that is none, but looks at every frame: it takes more than twice the time."""

_LEAST_CONTRAST = 10.0
"""Of 255; what has less is noise in the dark."""

_LOOK_MS = 200
_SKETCH_SIDE = 16
_DETAIL = 4
"""Pixels along each side of a cell of the sketch, by which sharpness is told."""

_HELD_FRAMES = 8
_HELD_PIXELS = 2**25
_LEAST_SHARPNESS = 0.8
"""Of the upper quartile of a shot's frames; below are those blurred by movement, and blends."""

Sketch = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Shot:
    """What a video shows without a large change; milliseconds from its beginning.

    frame: the best one, which stands for all. end_ms: where the next shot begins; None: it lasts as
    long as there are frames.
    """

    frame: Frame
    start_ms: int
    end_ms: int | None


@dataclass(frozen=True, slots=True)
class _Look:
    """A frame that was looked at.

    sketch: (s, s, 3) float32, 0 to 255. contrast: its standard deviation. sharpness: mean absolute
    difference of neighbouring pixels.
    """

    frame: Frame
    sketch: Sketch
    contrast: float
    sharpness: float


def find_shots(frames: Iterable[Frame], start_ms: int = 0) -> Iterator[Shot]:
    """Cut frames into shots, from the first frame at or after `start_ms` on.

    A frame begins the next shot if at least a second has passed and its sketch (16 x 16 pixels,
    RGB) differs from the mean of those of its shot by 0.8 of their contrast; after 15 seconds by
    0.25; after two minutes in any case. Five frames a second are looked at. No decision depends on
    an earlier shot, so the shots are the same wherever reading begins with one. Frames whose time
    does not grow are passed over.
    """
    shot: _OpenShot | None = None
    latest = start_ms - 1
    for frame in frames:
        now = frame.milliseconds
        if now <= latest:
            continue
        latest = now
        if shot is not None and now - shot.looked_ms < _LOOK_MS:
            continue
        look = _look(frame)
        if shot is not None and shot.ends_before(look):
            yield Shot(shot.best(), shot.start_ms, now)
            shot = None
        if shot is None:
            shot = _OpenShot(now)
        shot.add(look)
    if shot is not None:
        yield Shot(shot.best(), shot.start_ms, None)


def _look(frame: Frame) -> _Look:
    detailed = frame.sketch(_SKETCH_SIDE * _DETAIL).astype(np.float32)
    cells = detailed.reshape(_SKETCH_SIDE, _DETAIL, _SKETCH_SIDE, _DETAIL, 3)
    grey = detailed.mean(axis=2)
    across, down = np.abs(np.diff(grey, axis=1)), np.abs(np.diff(grey, axis=0))
    sketch = cells.mean(axis=(1, 3))
    return _Look(frame, sketch, float(sketch.std()), float(across.mean() + down.mean()))


class _OpenShot:
    """A shot whose end is not known yet."""

    def __init__(self, start_ms: int) -> None:
        self.start_ms = self.looked_ms = start_ms
        self._sum: Any = np.zeros((_SKETCH_SIDE, _SKETCH_SIDE, 3), np.float64)
        self._contrast = 0.0
        self._count = 0
        self._stride = 1
        self._held: list[_Look] = []

    def ends_before(self, look: _Look) -> bool:
        """Return whether a frame belongs to the next shot."""
        lasted = look.frame.milliseconds - self.start_ms
        if lasted < SHORTEST_MS:
            return False
        contrast = max(_LEAST_CONTRAST, min(self._contrast / self._count, look.contrast))
        change = _difference(look.sketch, self._mean()) / contrast
        return (
            change >= _CHANGE
            or (lasted >= _LONG_MS and change >= _SMALL_CHANGE)
            or lasted >= LONGEST_MS
        )

    def add(self, look: _Look) -> None:
        """Take in a frame. Of all frames a few are held, at even distances."""
        self.looked_ms = look.frame.milliseconds
        if self._count % self._stride == 0:
            self._held.append(look)
            if len(self._held) > _most_held(look.frame):
                self._held = self._held[::2]
                self._stride *= 2
        self._sum += look.sketch
        self._contrast += look.contrast
        self._count += 1

    def best(self) -> Frame:
        """Choose the frame nearest to the mean of the shot, among the held ones that are sharp."""
        usual = float(np.quantile([look.sharpness for look in self._held], 0.75))
        mean = self._mean()
        sharp = [look for look in self._held if look.sharpness >= _LEAST_SHARPNESS * usual]
        return min(sharp, key=lambda look: _difference(look.sketch, mean)).frame

    def _mean(self) -> Sketch:
        mean: Sketch = (self._sum / self._count).astype(np.float32)
        return mean


def _difference(one: Sketch, other: Sketch) -> float:
    return float(np.abs(one - other).mean())


def _most_held(frame: Frame) -> int:
    """Return how many frames are held in memory, decoded."""
    return max(2, min(_HELD_FRAMES, math.floor(_HELD_PIXELS / frame.pixels)))
