"""Decode sound: files of it and the sound tracks of videos, mono at any rate, with times."""

import io
import wave
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import MissingExtraError, UnreadableFileError, import_errors_as
from retrieval.media import SILENCE, SoundInput
from retrieval.media.containers import OpenMedia, decoding_errors, open_container, reason_of
from retrieval.media.video import CONTAINER_FORMATS, is_cover

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.resampler import AudioResampler
    from av.audio.stream import AudioStream

Samples = NDArray[np.float32]
"""(n,) float32, mono, mostly from -1 to 1."""

_FORMATS = f"wav,w64,mp3,flac,aac,aiff,{CONTAINER_FORMATS}"
_ESTIMATED_DURATION = frozenset({"mp3", "aac"})
"""Formats whose duration may be a guess by the first bit rate."""

_LEADS_S = (1.0, 10.0)
"""How long before the requested time to seek, tried in turn: codecs need a few frames to settle."""
_GAP_S = 0.1
"""Times that differ by more from the number of samples before mean that some are missing."""
_SHORTEST_TAIL_S = 1.0
_LEAST_RATE = 1_000
"""Samples a second. A frame may claim one, and would be hours at the rate that is asked for."""

MAX_SECONDS = 48 * 3600
"""What is behind is not listened to."""


class NoSoundError(UnreadableFileError):
    """A file that can be opened and has no sound track."""


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of sound. number: counts from 0. start_s, end_s: seconds from the beginning."""

    number: int
    start_s: float
    end_s: float
    samples: Samples


class Sound(OpenMedia):
    """An open file of which the sound is decoded; see `open_sound`."""

    @property
    def duration_s(self) -> float | None:
        """Duration in seconds; None if unknown."""
        if self._stream.duration and self._stream.time_base:
            return float(self._stream.duration * self._stream.time_base)
        return self._container.duration / 1_000_000 if self._container.duration else None

    @property
    def is_duration_exact(self) -> bool:
        """Whether the file itself tells how long it is."""
        return self._container.format.name not in _ESTIMATED_DURATION

    @property
    def is_alone(self) -> bool:
        """Whether there is no video beside it; cover art is none."""
        video = self._container.streams.best("video")
        return video is None or is_cover(video)

    @property
    def tags(self) -> dict[str, str]:
        """Metadata of the container and the stream, by names in lower case."""
        both = {**self._stream.metadata, **self._container.metadata}
        return {name.lower(): value for name, value in both.items()}

    def samples(self, rate: int, start_s: float = 0.0) -> Iterator[tuple[int, Samples]]:
        """Decode from a time at or before `start_s` on, mixed to mono.

        Gives blocks of samples, each with the place of its first one, counted at `rate` from the
        beginning of the file. What cannot be decoded is passed over, so that the next block's place
        is further on, and noted in `damage`.
        """
        for lead in _LEADS_S:
            if start_s <= lead:
                break
            if not self._seek(start_s - lead):
                continue
            blocks = self._decode(rate, need_time=True)
            first = next(blocks, None)
            if first is not None and first[0] <= start_s * rate:
                yield first
                yield from blocks
                return
        self._container.close()
        self._file.seek(0)
        self._open()
        yield from self._decode(rate)

    def windows(self, heard: SoundInput, first: int = 0) -> Iterator[Window]:
        """Cut the sound into windows of an encoder's length, side by side, from one number on.

        The last window ends with the sound and begins earlier, inside of the one before, so that it
        is as long as the others; less than a second at the end makes none. Sound that is shorter
        than a window is one window with as many samples as there are. Stretches that cannot be
        decoded are silent.
        """
        length = heard.length
        number = max(first - 1, 0)  # the one before, of which the last one may need the end
        position = number * length
        held, filled = np.zeros(length, np.float32), 0
        before: Samples | None = None
        for block in _whole(self.samples(heard.rate, position / heard.rate), position, length):
            start = 0
            while start < len(block):
                step = min(len(block) - start, length - filled)
                held[filled : filled + step] = block[start : start + step]
                start, filled = start + step, filled + step
                if filled == length:
                    if number >= first:
                        yield _window(number, number * length, held, heard.rate)
                    before, held, filled = held, np.zeros(length, np.float32), 0
                    number += 1
            if number * length >= MAX_SECONDS * heard.rate:
                self.damage = f"only the first {MAX_SECONDS // 3600} hours are listened to"
                return
        if before is None and number == 0 and filled:
            yield _window(0, 0, held[:filled], heard.rate)
        elif before is not None and filled >= _SHORTEST_TAIL_S * heard.rate:
            last = np.concatenate([before, held[:filled]])[-length:]
            yield _window(number, number * length + filled - length, last, heard.rate)

    def _open(self) -> None:
        self._container = open_container(self._file, "sound", _FORMATS)
        stream = self._container.streams.best("audio")
        if stream is None:
            self._container.close()
            raise NoSoundError("has no sound")
        self._stream: AudioStream = stream  # type: ignore[assignment]
        if self._stream.codec_context is None:
            self._container.close()
            raise UnreadableFileError("no decoder is known for its sound")
        # Set before anything is decoded: one file takes one core.
        self._stream.codec_context.thread_count = 1
        self._begin = Fraction(self._container.start_time or 0, 1_000_000)

    def _seek(self, seconds: float) -> bool:
        unit = self._stream.time_base or Fraction(1, 1000)
        moment = self._begin + Fraction(seconds).limit_denominator(1000)
        try:
            self._container.seek(int(moment / unit), stream=self._stream)
        except decoding_errors():
            return False
        return True

    def _decode(self, rate: int, *, need_time: bool = False) -> Iterator[tuple[int, Samples]]:
        mixer: _Mixer | None = None
        for frame in self._frames():
            moment = self._moment(frame)
            if mixer is None:
                if moment is None and need_time:
                    return
                mixer = _Mixer(rate, max(moment or Fraction(0), Fraction(0)))
            try:
                yield from mixer.mix(frame, moment)
            except decoding_errors() as error:
                self.damage = reason_of(error)
            # Beside video a sound may pause.
            if mixer.has_gap and self.damage is None and self.is_alone:
                self.damage = "parts are missing"
        if mixer is not None:
            yield from mixer.rest()

    def _moment(self, frame: "AudioFrame") -> Fraction | None:
        """Return when a frame begins, in seconds from the beginning of the file."""
        if frame.pts is None or not frame.time_base:
            return None
        return frame.pts * frame.time_base - self._begin

    def _frames(self) -> Iterator["AudioFrame"]:
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
                frames: Any = packet.decode()
            except av.error.EOFError:
                continue
            except decoding_errors() as error:
                self.damage = reason_of(error)
                continue
            for frame in frames:
                if frame.samples and frame.sample_rate >= _LEAST_RATE:
                    yield frame
                elif frame.samples:
                    self.damage = f"it has {frame.sample_rate} samples a second, too few"


class _Mixer:
    """Mixes frames to mono at one rate, and tells the place of what it gives.

    start_s: when the first frame begins, in seconds from the beginning of the file. has_gap: frames
    were missing between others.
    """

    def __init__(self, rate: int, start_s: Fraction) -> None:
        self._rate = rate
        self._resampler: AudioResampler | None = None
        self._setup: tuple[str, str, int] | None = None
        self._place = round(start_s * rate)
        self._heard_s = start_s
        self.has_gap = False

    def mix(self, frame: "AudioFrame", moment: Fraction | None) -> Iterator[tuple[int, Samples]]:
        """Give what a frame adds. moment: when it begins; None: where the last one ended."""
        from av.audio.resampler import AudioResampler

        is_gap = moment is not None and moment - self._heard_s > _GAP_S
        setup = frame.format.name, frame.layout.name, frame.sample_rate
        if is_gap or setup != self._setup:
            yield from self.rest()
            self._resampler, self._setup = AudioResampler("flt", "mono", self._rate), setup
        if is_gap and moment is not None:
            self.has_gap = True
            self._heard_s, self._place = moment, round(moment * self._rate)
        self._heard_s += Fraction(frame.samples, frame.sample_rate)
        frame.pts = None  # the resampler would refuse times that jump
        yield from self._placed(_resampled(self._resampler, frame))

    def rest(self) -> Iterator[tuple[int, Samples]]:
        """Give what the resampler still holds."""
        if self._resampler is not None:
            held, self._resampler = self._resampler, None
            yield from self._placed(_resampled(held, None))

    def _placed(self, blocks: Iterable[Samples]) -> Iterator[tuple[int, Samples]]:
        for values in blocks:
            yield self._place, values
            self._place += len(values)


@contextmanager
def open_sound(source: str | BinaryIO) -> Iterator[Sound]:
    """Open a file to decode its sound, by its path; an open one is closed in the end.

    Raises UnreadableFileError for what has no sound (NoSoundError where it is a container all the
    same), MissingExtraError without PyAV, OSError when
    the file cannot be opened.
    """
    with import_errors_as(MissingExtraError("Sounds", "audio")):
        import av  # noqa: F401
    with Sound(source) as sound:
        yield sound


def cut_windows(samples: Samples, length: int, rate: int) -> list[Samples]:
    """Cut samples into windows of a length as `Sound.windows` does, without the silent ones."""
    tail = len(samples) % length
    starts = list(range(0, len(samples) - tail, length))
    if not starts:
        starts = [0]
    elif tail >= _SHORTEST_TAIL_S * rate:
        starts.append(len(samples) - length)
    found = (samples[start : start + length] for start in starts)
    return [window for window in found if np.abs(window).max(initial=0.0) >= SILENCE]


def read_samples(
    source: str | BinaryIO | bytes, rate: int, *, start_s: float = 0.0, seconds: float
) -> Samples:
    """Decode a stretch of a file's sound, mono at `rate`, at most some seconds from `start_s` on.

    Raises as `open_sound`, and UnreadableFileError where nothing can be decoded.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    first, wanted = round(start_s * rate), round(seconds * rate)
    blocks: list[Samples] = []
    count = 0
    with open_sound(file) as sound:
        for block in _whole(sound.samples(rate, start_s), first, wanted):
            blocks.append(block)
            count += len(block)
            if count >= wanted:
                break
        if not blocks:
            raise UnreadableFileError(why_no_sound(sound))
    return np.concatenate(blocks)[:wanted]


def why_no_sound(sound: Sound) -> str:
    """Explain why nothing of a sound could be decoded."""
    return f"no sound can be decoded: {sound.damage or 'it has none'}"


def resample(samples: Samples, rate: int, wanted: int) -> Samples:
    """Change the rate of a mono sound, by FFmpeg as `Sound.samples` does."""
    if rate == wanted:
        return samples
    from av.audio.frame import AudioFrame
    from av.audio.resampler import AudioResampler

    frame = AudioFrame.from_ndarray(samples[np.newaxis], format="flt", layout="mono")
    frame.sample_rate = rate
    resampler = AudioResampler("flt", "mono", wanted)
    blocks = [*_resampled(resampler, frame), *_resampled(resampler, None)]
    return np.concatenate([np.empty(0, np.float32), *blocks])


def as_wave(samples: Samples, rate: int) -> bytes:
    """Write a mono sound as a WAVE file of 16 bits; what is louder than 1 is cut off."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((32_767 * np.clip(samples, -1, 1)).round().astype("<i2").tobytes())
    return content.getvalue()


def _resampled(resampler: Any, frame: "AudioFrame | None") -> list[Samples]:
    found = [np.asarray(each.to_ndarray(), np.float32)[0] for each in resampler.resample(frame)]
    return [np.nan_to_num(values) for values in found if len(values)]


def _whole(blocks: Iterator[tuple[int, Samples]], position: int, most: int) -> Iterator[Samples]:
    """Give what follows a place without gaps: silence stands where blocks are missing.

    most: of samples in a block of silence.
    """
    for place, values in blocks:
        while place > position:
            gap = np.zeros(min(place - position, most), np.float32)
            position += len(gap)
            yield gap
        new = values[position - place :]
        position += len(new)
        if len(new):
            yield new


def _window(number: int, first: int, samples: Samples, rate: int) -> Window:
    return Window(number, first / rate, (first + len(samples)) / rate, samples)
