"""Read videos: the best frame of each shot."""

import math
import re
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from indexer.media.base import Decoded, Locator, Piece, ReadOptions
from indexer.media.shots import Shot, find_shots
from retrieval.errors import UnreadableFileError
from retrieval.media import NO_METADATA, Metadata, Modality, clock_seconds, metadata_notes
from retrieval.media.blocks import find_blocks
from retrieval.media.exif import descriptions_of, joined, metadata_of
from retrieval.media.images import reduced
from retrieval.media.video import Choice, Frame, Video, open_video, why_no_frame
from retrieval.objects.opening import open_path

_DENSE_KEYFRAMES_S = 3.0
_LAST_FRAME_MS = 3_000
"""Most that is left behind the last frame that was looked at, as with keyframes alone."""

_SHOTS_A_CALL = 32
_MILLISECONDS_A_CALL = 120_000
_PIXELS_A_CALL = 2**26

_MOST_TEXT = 10_000
_ISO_6709 = re.compile(r"([+-])(\d{2,6})(\.\d+)?([+-])(\d{3,7})(\.\d+)?")


def read(path: str, start: int, options: ReadOptions) -> Decoded:
    """Give the best frame of each shot of a video, from a time in milliseconds on.

    `start` is 0, or where a call said to go on: there a shot begins. Gives at most 32 shots a call,
    and none that begins two minutes after the first. Where the file's index shows a keyframe at
    least every three seconds, keyframes alone are looked at: encoders put them at cuts. A damaged
    video gives what can be decoded; so does one that takes too long, of large frames with few
    keyframes, whose shot ends where the time does if it is the only one: a call that gives no frame
    in its time is the last. Raises as the readers of `indexer.media.base` do.
    """
    pieces: list[Piece] = []
    held_pixels = 0
    go_on: int | None = None
    notes: tuple[str, ...] = ()
    with open_video(path, max_pixels=options.max_pixels) as video:
        dense = video.keyframes_at_least_every(_DENSE_KEYFRAMES_S)
        choice = Choice.KEYFRAMES if dense else Choice.REFERENCED
        clock = _Clock(options.seconds)
        for shot in find_shots(clock.limited(video.frames(start, choice)), start):
            end_ms = shot.end_ms
            if end_ms is None:
                end_ms = clock.ended_at
                if end_ms is not None and pieces:
                    go_on = shot.start_ms
                    break
                go_on = end_ms
            pieces.append(_piece(shot, end_ms or _end_of(video, clock), options.least_side))
            held_pixels += pieces[-1].payload.width * pieces[-1].payload.height
            if shot.end_ms is not None and (
                len(pieces) == _SHOTS_A_CALL
                or shot.end_ms - start >= _MILLISECONDS_A_CALL
                or held_pixels >= _PIXELS_A_CALL
            ):
                go_on = shot.end_ms
                break
        if clock.ended_at is not None and go_on is None:
            at = max(start, clock.ended_at) // 1000
            notes = (f"the rest from {at // 60}:{at % 60:02} on takes too long to decode",)
        if not pieces and start == 0:
            raise UnreadableFileError(notes[0] if notes else why_no_frame(video))
        metadata: Metadata = NO_METADATA
        if start == 0:
            metadata, problems = read_metadata(video, path)
            notes += metadata_notes(problems)
        return Decoded(tuple(pieces), metadata, go_on, notes=notes)


class _Clock:
    """Ends a sequence of frames after some seconds; milliseconds from the beginning of the video.

    ended_at: of the first frame left; None: none was. latest: of the last one given.
    """

    def __init__(self, seconds: float | None) -> None:
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self.ended_at: int | None = None
        self.latest = 0

    def limited(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Give the frames until the time is over."""
        for frame in frames:
            if self._deadline is not None and time.monotonic() > self._deadline:
                self.ended_at = frame.milliseconds
                return
            self.latest = frame.milliseconds
            yield frame


def _end_of(video: Video, clock: _Clock) -> int:
    """Return when the last shot ends: as the file says, if it does not end early."""
    told = math.ceil((video.duration_s or 0) * 1000)
    return max(clock.latest, min(told, clock.latest + _LAST_FRAME_MS))


def read_metadata(video: Video, path: str) -> tuple[Metadata, list[str]]:
    """Read the metadata of a video from the tags of QuickTime, Android and Matroska, and from XMP.

    path: of the file, which is read for XMP. Returns what of it is damaged, too.
    """
    with open_path(path) as file:
        blocks = find_blocks(file)
    return joined(metadata_of(descriptions_of(blocks)), _of_tags(video)), blocks.problems


def _of_tags(video: Video) -> Metadata:
    tags = video.tags
    apple = "com.apple.quicktime."
    place = _first(tags, f"{apple}location.iso6709", "location", "location-eng")
    latitude, longitude = parse_iso6709(place or "") or (None, None)
    make = _first(tags, f"{apple}make", "com.android.manufacturer", "make")
    model = _first(tags, f"{apple}model", "com.android.model", "model")
    taken = _first(tags, f"{apple}creationdate", "creation_time", "date")
    described = (
        _first(tags, f"{apple}{name}", name)
        for name in ("title", "description", "comment", "keywords")
    )
    text = "\n".join(dict.fromkeys(line for line in described if line))[:_MOST_TEXT]
    taken_at, taken_local = parse_moment(taken or "") or (None, None)
    return Metadata(
        taken_at=taken_at,
        camera=_camera(make, model),
        latitude=latitude,
        longitude=longitude,
        duration_s=video.duration_s,
        text=text or None,
        taken_local=taken_local,
        date_source=None if taken_at is None else "video",
    )


def parse_moment(text: str) -> tuple[int, int | None] | None:
    """Read a date and time as ISO 8601 writes them: `taken_at` and `taken_local` of `Metadata`.

    The instant is UTC where no zone is given; `Z`, which QuickTime's own clock always says, tells
    nothing of the local time. None for what is not a date, and for what is not after 1970: cameras
    without a clock say 1904.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
        taken_at = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
        taken_local = None if text.strip().endswith(("Z", "z")) else clock_seconds(moment)
    except (ValueError, OverflowError):
        return None
    return (taken_at, taken_local) if taken_at > 0 and "-" in text else None


def parse_iso6709(text: str) -> tuple[float, float] | None:
    """Read latitude and longitude in degrees from ISO 6709, such as `+48.8577+002.2950/`.

    Degrees, degrees and minutes, or degrees, minutes and seconds; None for anything else, and for
    0, 0, which phones write that know no place.
    """
    found = _ISO_6709.match(text.strip())
    if not found:
        return None
    latitude = _degrees(*found.group(1, 2, 3), whole=2)
    longitude = _degrees(*found.group(4, 5, 6), whole=3)
    if latitude is None or longitude is None:
        return None
    is_place = abs(latitude) <= 90 and abs(longitude) <= 180 and (latitude or longitude)
    return (latitude, longitude) if is_place else None


def _degrees(sign: str, digits: str, fraction: str | None, *, whole: int) -> float | None:
    """Sum degrees, minutes and seconds, of which the last may have a fraction."""
    parts = [digits[:whole], *re.findall("..?", digits[whole:])]
    if len(parts) > 3 or any(len(part) != 2 for part in parts[1:]):
        return None
    parts[-1] += fraction or ""
    value = sum(float(part) / 60**power for power, part in enumerate(parts))
    return math.copysign(value, -1 if sign == "-" else 1)


def _piece(shot: Shot, end_ms: int, least_side: int | None) -> Piece:
    image = shot.frame.picture()
    width, height = image.size
    best_ms = shot.frame.milliseconds
    locator = Locator(
        f"t{best_ms}",
        width,
        height,
        time_s=best_ms / 1000,
        start_s=shot.start_ms / 1000,
        end_s=end_ms / 1000,
    )
    return Piece(Modality.IMAGE, reduced(image, least_side), locator)


def _first(tags: dict[str, str], *names: str) -> str | None:
    for name in names:
        if value := " ".join(tags.get(name, "").split()):
            return "".join(character for character in value if character.isprintable())
    return None


def _camera(make: str | None, model: str | None) -> str | None:
    if make and model and model.lower().startswith(make.lower()):
        return model
    return " ".join(part for part in (make, model) if part) or None
