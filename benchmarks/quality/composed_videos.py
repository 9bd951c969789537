"""Videos that are composed of photos, so that it is known what each second shows."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retrieval.errors import MissingExtraError, import_errors_as
from retrieval.media.images import read_image

SIZE = (320, 240)
FRAMES_A_SECOND = 12

_FADE_S = 0.5
_ZOOM = 0.8
"""The smallest part of a photo that a shot shows, of its width or height."""
_CODECS = ("libx264", "mpeg4")

_Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Lengths:
    """Seconds that shots last: evenly distributed from `least` to `most`.

    still: of the one shot of each video that does not move, as of a talk; 0: there is none.
    """

    least: float = 2.0
    most: float = 5.0
    still: float = 0.0


@dataclass(frozen=True)
class ComposedShot:
    """What a video shows from one second to another: the photo of this number."""

    photo: int
    start_s: float
    end_s: float


@dataclass(frozen=True)
class ComposedVideo:
    """A video and its shots in order; each ends where the next one begins."""

    path: Path
    shots: tuple[ComposedShot, ...]


def compose_videos(
    photos: Sequence[Path], folder: Path, *, shots: int, lengths: Lengths, seed: int = 0
) -> list[ComposedVideo]:
    """Write videos that show each photo for some seconds, slowly panned and zoomed.

    About half of the shots begin with a cut, the others with a cross-fade of half a second, in the
    middle of which the one ends and the other begins.

    Args:
        photos: What is shown, in this order; those left over after the last whole video are not.
        folder: For the videos.
        shots: Number of shots of a video.
        lengths: Of the shots.
        seed: Of lengths, movements and transitions.

    Raises:
        MissingExtraError: PyAV is not installed.
        UnreadableFileError: A photo cannot be read.
    """
    random = np.random.default_rng(seed)
    videos = []
    for first in range(0, len(photos) - shots + 1, shots):
        seconds = random.uniform(lengths.least, lengths.most, shots)
        still = int(random.integers(shots)) if lengths.still else -1
        if still >= 0:
            seconds[still] = lengths.still
        counts = [round(FRAMES_A_SECOND * float(each)) for each in seconds]
        moving = [
            _MovingPhoto(read_image(photos[first + place]), random, is_still=place == still)
            for place in range(shots)
        ]
        fades = [False, *(random.random(shots - 1) < 0.5).tolist()]
        path = folder / f"{first // shots:04}.mp4"
        write_video(path, _pictures(moving, counts, fades))
        ends = [0.0, *(np.cumsum(counts) / FRAMES_A_SECOND).tolist()]
        told = [ComposedShot(first + n, ends[n], ends[n + 1]) for n in range(shots)]
        videos.append(ComposedVideo(path, tuple(told)))
    return videos


class _MovingPhoto:
    """A photo under a camera that moves from one part of it to another."""

    def __init__(self, photo: Image.Image, random: np.random.Generator, *, is_still: bool) -> None:
        self._photo = photo
        begin = _part(photo, random)
        self._boxes = begin, begin if is_still else _part(photo, random)

    def at(self, share: float) -> Image.Image:
        """Return the picture at a moment: 0 is the first of the shot, 1 the last."""
        begin, end = self._boxes
        share = min(1.0, max(0.0, share))
        box = tuple(a + share * (b - a) for a, b in zip(begin, end, strict=True))
        return self._photo.resize(SIZE, Image.Resampling.BILINEAR, box, reducing_gap=2.0)  # type: ignore[arg-type]


def _part(photo: Image.Image, random: np.random.Generator) -> _Box:
    """Choose a part of a photo, of the shape of the video."""
    scale = min(photo.width / SIZE[0], photo.height / SIZE[1]) * random.uniform(_ZOOM, 1)
    width, height = scale * SIZE[0], scale * SIZE[1]
    left = random.uniform(0, 1) * (photo.width - width)
    top = random.uniform(0, 1) * (photo.height - height)
    return left, top, left + width, top + height


def _pictures(
    photos: Sequence[_MovingPhoto], counts: Sequence[int], fades: Sequence[bool]
) -> Iterator[Image.Image]:
    """Give the frames of a video. counts: of each shot. fades: whether it begins with a fade."""
    half = _FADE_S / 2 * FRAMES_A_SECOND
    for place, (photo, count) in enumerate(zip(photos, counts, strict=True)):
        fades_out = place + 1 < len(photos) and fades[place + 1]
        for number in range(count):
            picture = photo.at(number / max(1, count - 1))
            if fades[place] and number < half:
                picture = Image.blend(photos[place - 1].at(1), picture, 0.5 + number / half / 2)
            elif fades_out and count - number < half:
                share = 0.5 - (count - number) / half / 2
                picture = Image.blend(picture, photos[place + 1].at(0), share)
            yield picture


def write_video(path: Path, pictures: Iterator[Image.Image]) -> None:
    """Write pictures of `SIZE` as a video, `FRAMES_A_SECOND`; raises MissingExtraError."""
    with import_errors_as(MissingExtraError("Videos", "video")):
        import av
    codec = next(name for name in _CODECS if name in av.codecs_available)
    with av.open(os.fspath(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=FRAMES_A_SECOND)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.options = {"preset": "veryfast"} if codec == "libx264" else {}
        for number, picture in enumerate(pictures):
            frame: Any = av.VideoFrame.from_image(picture)  # type: ignore[no-untyped-call]
            frame.pts, frame.time_base = number, Fraction(1, FRAMES_A_SECOND)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
