"""Write transcripts of speech as WebVTT, SubRip or plain text."""

import re
from collections.abc import Callable, Iterable
from enum import StrEnum
from html import escape

from retrieval.recognition.base import Segment

LEAST_CUE_S = 0.5
"""How long a segment is shown at least."""


def as_vtt(segments: Iterable[Segment]) -> str:
    """Write segments that have times as WebVTT (W3C), such as the `track` of a video takes."""
    cues = (
        f"{_time(start, '.')} --> {_time(end, '.')}\n{escape(text, quote=False)}\n"
        for start, end, text in _cues(segments)
    )
    return "WEBVTT\n\n" + "\n".join(cues)


def as_srt(segments: Iterable[Segment]) -> str:
    """Write segments that have times as SubRip (`.srt`)."""
    return "\n".join(
        f"{number}\n{_time(start, ',')} --> {_time(end, ',')}\n{text}\n"
        for number, (start, end, text) in enumerate(_cues(segments), start=1)
    )


def as_text(segments: Iterable[Segment]) -> str:
    """Write segments as lines of plain text."""
    return "".join(f"{_line(segment)}\n" for segment in segments)


class TranscriptForm(StrEnum):
    """Form of a transcript, as the ending of its file."""

    VTT = "vtt"
    SRT = "srt"
    TXT = "txt"


WRITERS: dict[TranscriptForm, tuple[str, Callable[[Iterable[Segment]], str]]] = {
    TranscriptForm.VTT: ("text/vtt; charset=utf-8", as_vtt),
    TranscriptForm.SRT: ("application/x-subrip; charset=utf-8", as_srt),
    TranscriptForm.TXT: ("text/plain; charset=utf-8", as_text),
}
"""Content type and function of each form."""


def _cues(segments: Iterable[Segment]) -> Iterable[tuple[float, float, str]]:
    for segment in segments:
        if segment.start_s is not None:
            end_s = max(segment.end_s or 0.0, segment.start_s + LEAST_CUE_S)
            yield segment.start_s, end_s, _line(segment)


def _line(segment: Segment) -> str:
    # An arrow or an empty line inside of a cue would end it.
    return " ".join(re.sub("--+>", "->", segment.text).split())


def _time(seconds: float, mark: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{mark}{rest % 1000:03}"
