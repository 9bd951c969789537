"""What recognisers take and give: tasks, segments of found text, the two protocols."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from PIL import Image

Box = tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]
"""Four corners (x, y), clockwise from the upper left one of the text, as fractions 0..1 of the
upright picture's width and height."""

MOST_SEGMENTS = 20_000
"""Of one picture or one file: what a model finds beyond them is left out."""
MOST_CHARACTERS = 5_000
"""Of one segment; the rest is left out."""
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What would be a command to a terminal, and NUL, which PostgreSQL refuses."""


class Task(StrEnum):
    """What an enrichment looks for: written text, speech, or what a picture shows."""

    OCR = "ocr"
    SPEECH = "speech"
    CAPTION = "caption"

    @property
    def is_of_pictures(self) -> bool:
        """Whether its recogniser looks at pictures; else it hears a whole file."""
        return self is not Task.SPEECH


SETTINGS = {Task.OCR: "ocr", Task.SPEECH: "speech", Task.CAPTION: "captions"}
"""What the models of the tasks are called where a library remembers them."""


SIDECAR = "sidecar"
"""In place of a model: subtitles that lie beside files, or in them, are all that is taken."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of found text with its place.

    confidence: of the model, 0..1. box: where it is in a picture. start_s, end_s: when it is said,
    in seconds from the beginning of the file. None: not known, or not of this task.
    """

    text: str
    confidence: float | None = None
    box: Box | None = None
    start_s: float | None = None
    end_s: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON has it, with null for what it lacks."""
        return {
            "text": self.text,
            "confidence": self.confidence,
            "box": None if self.box is None else [list(corner) for corner in self.box],
            "start_s": self.start_s,
            "end_s": self.end_s,
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Segment":
        """Read what `to_json` gave; raises ValueError, TypeError or KeyError for anything else."""
        if not isinstance(text := told["text"], str):
            raise TypeError(f"text {text!r:.40}")
        numbers = [_number(told.get(name)) for name in ("confidence", "start_s", "end_s")]
        box = told.get("box")
        corners = None if box is None else tuple((_real(x), _real(y)) for x, y in box)
        if corners is not None and len(corners) != 4:
            raise ValueError(f"a box of {len(corners)} corners")
        confidence, start_s, end_s = numbers
        return cls(text, confidence, corners, start_s, end_s)


@dataclass(frozen=True, slots=True)
class Recognized:
    """What a recogniser found in one picture or file, in reading order.

    No segments: it looked and found nothing. failure: why it could not look, as a sentence without
    a full stop; then there are no segments.
    """

    segments: Sequence[Segment] = ()
    failure: str | None = None

    @property
    def text(self) -> str | None:
        """All that was found, a line a segment; None where nothing was."""
        lines = (" ".join(segment.text.split()) for segment in self.segments)
        return "\n".join(line for line in lines if line) or None


@runtime_checkable
class PictureRecognizer(Protocol):
    """Finds text in pictures, or says what they show.

    identity: model and version, by which the library knows whose texts it has; at most 200
    characters.
    """

    task: Task
    identity: str

    def recognize(self, images: "Sequence[Image.Image]") -> list[Recognized]:
        """Look at upright RGB pictures, at most a batch; one result a picture, in order."""
        ...


@runtime_checkable
class SpeechRecognizer(Protocol):
    """Writes down what is said in a file of sound, or the sound track of a video."""

    task: Task
    identity: str

    def transcribe(
        self,
        path: str,
        *,
        on_progress: Callable[[float], None] = lambda _: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Recognized | None:
        """Hear a file from its beginning; segments have times.

        Args:
            path: of the file, as the library names it; `retrieval.objects.opening.open_path` opens
                it.
            on_progress: called with the seconds of sound that are done.
            should_stop: asked between segments; None is returned as soon as it says so.
        """
        ...


Recognizer = PictureRecognizer | SpeechRecognizer


def tidy(recognized: Recognized) -> Recognized:
    """Bring what a model gave into the limits: no blank text, finite numbers, boxes inside.

    Models are a stranger's: what they give is data.
    """
    segments = []
    for segment in recognized.segments[:MOST_SEGMENTS]:
        text = _CONTROLS.sub("", segment.text)[:MOST_CHARACTERS].strip()
        text = text.encode("utf-8", "replace").decode()
        if not text:
            continue
        confidence = _finite(segment.confidence)
        box = segment.box
        if box is not None and all(math.isfinite(value) for corner in box for value in corner):
            corners = [tuple(round(min(max(v, 0.0), 1.0), 5) for v in corner) for corner in box]
            box = (corners[0], corners[1], corners[2], corners[3])  # type: ignore[assignment]
        else:
            box = None
        segments.append(
            Segment(
                text,
                None if confidence is None else round(min(max(confidence, 0.0), 1.0), 4),
                box,
                _seconds(segment.start_s),
                _seconds(segment.end_s),
            )
        )
    return Recognized(segments, recognized.failure)


def _seconds(value: float | None) -> float | None:
    found = _finite(value)
    return None if found is None else round(max(found, 0.0), 3)


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _number(value: Any) -> float | None:
    return None if value is None else _real(value)


def _real(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"number {value!r:.40}")
    return float(value)
