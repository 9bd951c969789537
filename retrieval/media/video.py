"""Decode video files to upright RGB frames with timestamps."""

import itertools
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image

from retrieval.errors import MissingExtraError, UnreadableFileError, import_errors_as
from retrieval.media.containers import OpenMedia, decoding_errors, open_container, reason_of
from retrieval.media.hdr import tone_mapped

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter
    from av.video.stream import VideoStream

CONTAINER_FORMATS = "mov,matroska,webm,avi,mpeg,mpegts,mpegvideo,flv,asf,ogg"
"""Formats of one self-contained file. Playlists (HLS, DASH, concat) and scripts, which name other
files or addresses, are not among them."""

_LEADS_MS = (1_000, 10_000, 60_000)
"""How long before the requested time to seek a keyframe, tried in turn. The first is not zero
since containers find keyframes by decoding time, which runs ahead of the time of display."""

_TURNS = {
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}
"""The operation that makes a frame upright, by the signs of a, b, c and d of its display matrix
(ISO 14496-12, 6.2.2: x' = ax + cy, y' = bx + dy)."""


class Choice(StrEnum):
    """Which frames are decoded; skipped ones cost next to nothing."""

    ALL = "NONE"
    REFERENCED = "NONREF"
    """Without those that no other frame refers to, which are never far from one that is kept."""
    KEYFRAMES = "NONKEY"


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame. milliseconds: from the beginning of the video, rounded up."""

    milliseconds: int
    _decoded: "VideoFrame"
    _scaler: "VideoReformatter"
    _pixel_shape: Fraction = Fraction(1)

    @property
    def pixels(self) -> int:
        """Return the number of pixels."""
        return self._decoded.width * self._decoded.height

    def picture(self) -> Image.Image:
        """Convert the frame to upright RGB with square pixels."""
        width = max(1, round(self._decoded.width * self._pixel_shape))
        image: Image.Image = self._decoded.to_image(  # type: ignore[no-untyped-call]
            width=width, height=self._decoded.height
        )
        # PyAV tells these since its version 16.
        transfer = getattr(self._decoded, "color_trc", 0)
        image = tone_mapped(image, transfer, getattr(self._decoded, "color_primaries", 0))
        turn = _TURNS.get(_display_signs(self._decoded))
        return image if turn is None else image.transpose(turn)

    def sketch(self, side: int) -> np.ndarray[Any, np.dtype[np.int16]]:
        """Downscale the frame, without rotation: (side, side, 3) int16, 0 to 255."""
        small = self._scaler.reformat(
            self._decoded, width=side, height=side, format="rgb24", interpolation="AREA"
        )
        return small.to_ndarray().astype(np.int16)


class Video(OpenMedia):
    """An open video file.

    duration_s: None if the file does not tell. tags: what the file says of itself, by names in
    lower case.
    """

    def __init__(self, source: str | BinaryIO, *, max_pixels: int | None = None) -> None:
        """Open a file by its path, or take an open one; see `open_video`."""
        self._max_pixels = max_pixels or Image.MAX_IMAGE_PIXELS or 2**27
        super().__init__(source)
        if width_height := self._too_large():
            self.close()
            raise UnreadableFileError(
                f"its frames of {width_height} pixels are larger than the limit of "
                f"{self._max_pixels / 1e6:g} megapixels"
            )

    @property
    def duration_s(self) -> float | None:
        """Duration in seconds; None if unknown."""
        if self._container.duration:
            return self._container.duration / 1_000_000
        if self._stream.duration and self._stream.time_base:
            return float(self._stream.duration * self._stream.time_base)
        return None

    @property
    def tags(self) -> dict[str, str]:
        """Metadata of the container and the video stream, by names in lower case."""
        both = {**self._stream.metadata, **self._container.metadata}
        return {name.lower(): value for name, value in both.items()}

    def keyframes_at_least_every(self, seconds: float) -> bool:
        """Return whether the container's index has a keyframe in any interval of this length."""
        # Formats such as Matroska read their index only when somebody seeks.
        self._seek(0)
        # PyAV lists the index since its version 17.
        entries = getattr(self._stream, "index_entries", ())
        unit = self._stream.time_base
        if not unit or not self.duration_s:
            return False
        begin = float(self._begin)
        moments = [float(entry.timestamp * unit) for entry in entries if entry.is_keyframe]
        moments = [begin, *sorted(moments), begin + self.duration_s]
        return all(b - a <= seconds for a, b in itertools.pairwise(moments))

    def frames(self, start_ms: int = 0, choice: Choice = Choice.ALL) -> Iterator[Frame]:
        """Decode frames in the order of display, from one at or before `start_ms` on.

        The frames at and after `start_ms` are the same wherever decoding began; only MPEG program
        streams (.mpg), which tell the time now and then, may be off by a frame after a jump. What
        cannot be decoded is passed over and noted in `damage`.
        """
        for lead in _LEADS_MS:
            if start_ms <= lead:
                break
            found = self._frames_before(start_ms, start_ms - lead, choice)
            if found is not None:
                yield found[0]
                yield from found[1]
                return
        self._container.close()
        self._file.seek(0)
        self._open()
        yield from self._decode(choice)

    def _open(self) -> None:
        self._container = open_container(self._file, "a video", CONTAINER_FORMATS)
        stream = self._container.streams.best("video")
        if stream is None or is_cover(stream):
            self._container.close()
            raise UnreadableFileError("has no video")
        self._stream: VideoStream = stream  # type: ignore[assignment]
        if self._stream.codec_context is None:
            self._container.close()
            raise UnreadableFileError("no decoder is known for its video")
        self._begin = Fraction(self._container.start_time or 0, 1_000_000)

    def _too_large(self) -> str | None:
        width, height = self._stream.width or 0, self._stream.height or 0
        return f"{width} x {height}" if width * height > self._max_pixels else None

    def _seek(self, milliseconds: int) -> bool:
        unit = self._stream.time_base or Fraction(1, 1000)
        moment = self._begin + Fraction(milliseconds, 1000)
        try:
            self._container.seek(int(moment / unit), stream=self._stream)
        except decoding_errors():
            return False
        return True

    def _frames_before(
        self, start_ms: int, target_ms: int, choice: Choice
    ) -> tuple[Frame, Iterator[Frame]] | None:
        """Frames from a keyframe at or before `start_ms` on; None if seeking does not lead there.

        What comes before the first keyframe after a jump may refer to pictures never decoded.
        """
        if not self._seek(target_ms):
            return None
        frames = self._decode(choice, need_time=True)
        for frame in frames:
            if frame.milliseconds > start_ms:
                return None
            if frame._decoded.key_frame:
                return frame, frames
        return None

    def _decode(self, choice: Choice, *, need_time: bool = False) -> Iterator[Frame]:
        from av.video.reformatter import VideoReformatter

        self._prepare(choice)
        scaler = VideoReformatter()
        shape = self._stream.sample_aspect_ratio or Fraction(1)
        if not Fraction(1, 4) <= shape <= 4:
            shape = Fraction(1)
        step = 1 / (self._stream.guessed_rate or Fraction(25))
        moment: Fraction | None = None
        for decoded in self._decoded():
            stamp = decoded.pts if decoded.pts is not None else decoded.dts
            if stamp is not None and decoded.time_base:
                moment = stamp * decoded.time_base - self._begin
            elif moment is not None:
                moment += step
            elif need_time:
                return
            else:
                moment = Fraction(0)
            yield Frame(max(0, math.ceil(moment * 1000)), decoded, scaler, shape)

    def _prepare(self, choice: Choice) -> None:
        context = self._stream.codec_context
        context.skip_frame = choice.value
        if not context.is_open:
            context.thread_count = 1
            # Refuses frames that grow beyond what the header said.
            context.options = {"max_pixels": str(self._max_pixels)}

    def _decoded(self) -> Iterator["VideoFrame"]:
        import av

        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
            except decoding_errors() as error:
                self.damage = reason_of(error)
                return
            try:
                frames = packet.decode()
            except av.error.EOFError:
                continue
            except decoding_errors() as error:
                self.damage = reason_of(error)
                continue
            yield from (frame for frame in frames if not frame.is_corrupt)


@contextmanager
def open_video(source: str | BinaryIO, *, max_pixels: int | None = None) -> Iterator[Video]:
    """Open a video file to decode it, by its path; an open one is closed in the end.

    max_pixels: files with larger frames are refused by their header; None: Pillow's own limit.
    Raises UnreadableFileError for what is not a video, MissingExtraError without PyAV, OSError
    when the file cannot be opened.
    """
    with import_errors_as(MissingExtraError("Videos", "video")):
        import av  # noqa: F401
    with Video(source, max_pixels=max_pixels) as video:
        yield video


def frame_at(
    source: str | BinaryIO, time_s: float, *, max_pixels: int | None = None
) -> Image.Image:
    """Decode the frame that is shown at a time: the last at or before it, else the first.

    source, max_pixels: as for `open_video`. time_s: seconds from the beginning. Upright RGB. Raises
    as `open_video`, and UnreadableFileError when no frame can be decoded.
    """
    wanted_ms = max(0, round(time_s * 1000))
    shown: Frame | None = None
    with open_video(source, max_pixels=max_pixels) as video:
        for frame in video.frames(wanted_ms):
            if shown is not None and frame.milliseconds > wanted_ms:
                break
            shown = frame
        if shown is None:
            raise UnreadableFileError(why_no_frame(video))
        return shown.picture()


def why_no_frame(video: Video) -> str:
    """Explain why no frame of a video could be decoded."""
    return f"not one frame can be decoded: {video.damage or 'it has none'}"


def is_cover(stream: Any) -> bool:
    """Return whether a stream is the cover art of a piece of music."""
    import av

    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _display_signs(decoded: "VideoFrame") -> tuple[int, int, int, int]:
    matrix: Any = decoded.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return (1, 0, 0, 1)
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    scale = max(abs(value) for value in (a, b, c, d)) or 1
    return round(a / scale), round(b / scale), round(c / scale), round(d / scale)
