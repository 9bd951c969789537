"""Take subtitles as given transcripts: files beside a video or sound, and tracks inside of it."""

import io
import os
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, BinaryIO

import xxhash

from indexer.ignore_files import IgnoreRules, rules_inside
from indexer.media.text import guess_encoding, marked_encoding
from retrieval.errors import MissingExtraError, UnreadableFileError, import_errors_as
from retrieval.media.containers import decoding_errors, open_container
from retrieval.media.video import CONTAINER_FORMATS
from retrieval.objects.opening import open_path, status_of
from retrieval.objects.paths import is_uri, shard_of
from retrieval.recognition.base import MOST_SEGMENTS, Segment

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.subtitles.stream import SubtitleStream

_FORMATS = {".srt": "srt", ".vtt": "webvtt", ".ass": "ass", ".ssa": "ass"}
"""FFmpeg's names of the formats, by the ending of files."""

_MOST_BYTES = 20_000_000
_TEXT_CODECS = frozenset({"subrip", "srt", "webvtt", "ass", "ssa", "mov_text", "text"})
"""Of tracks that hold text; others are pictures."""

_OVERRIDES = re.compile(r"\{\\[^{}]*\}")
_BREAKS = re.compile(r"\\[Nnh]")


class SubtitleNames:
    """The subtitles of a folder, to be found by the names of the videos and sounds beside them."""

    def __init__(self, names: Iterable[str]) -> None:
        self._by_stem: dict[str, list[str]] = {}
        for name in sorted(filter(is_subtitle, names)):
            stem = os.path.splitext(name)[0]  # noqa: PTH122 - names need not be valid text
            while stem:  # of `talk.en.forced.srt` also `talk.en` and `talk`
                self._by_stem.setdefault(stem, []).append(name)
                stem = stem.rpartition(".")[0]

    def of(self, name: str) -> Sequence[str]:
        """Return the names of a file's subtitles: `talk.srt`, `talk.en.srt`, `talk.mp4.srt`."""
        return self._by_stem.get(os.path.splitext(name)[0], ())  # noqa: PTH122


def is_subtitle(name: str) -> bool:
    """Return whether a name ends as those of subtitles do."""
    return os.path.splitext(name)[1].lower() in _FORMATS  # noqa: PTH122


def state_beside(path: str, *, ignore_files: bool = True) -> str:
    """Return what changes with the subtitles beside a file: their names, sizes and times.

    "" without any. ignore_files: pass over those that `.mmsearchignore` names.
    """
    digest = xxhash.xxh3_64()
    is_any = False
    for each in sorted(_beside(path, None, ignore_files)):
        with suppress(OSError):
            status = os.stat(each)  # noqa: PTH116
            digest.update(os.fsencode(each))
            digest.update(struct.pack("<qq", status.st_size, status.st_mtime_ns))
            is_any = True
    return digest.hexdigest() if is_any else ""


def subtitles_of(
    path: str, language: str | None = None, *, ignore_files: bool = True
) -> list[Segment] | None:
    """Read the subtitles of a file: those beside it, else a track inside of it.

    Beside `talk.mp4`, `talk.srt` is taken before `talk.en.srt`, and SubRip before WebVTT and SSA.

    Args:
        path: of a video or a sound; objects on servers and in archives have tracks alone.
        language: code of the language, such as `zh`, of which subtitles are preferred.
        ignore_files: pass over files that `.mmsearchignore` names.

    Returns:
        Segments with times and without confidence; None where there are no subtitles with text.
    """
    with import_errors_as(MissingExtraError("Subtitles", "video")):
        import av  # noqa: F401
    for beside in _beside(path, language, ignore_files):
        if found := _read(beside):
            return found
    return _track_inside(path, language) or None


def _beside(path: str, language: str | None, ignore_files: bool) -> list[str]:
    """List subtitles with the name of a file, the best first."""
    if is_uri(path) or shard_of(path) is not None:
        return []
    folder, name = os.path.split(path)  # names need not be valid text
    stem = os.path.splitext(name)[0]  # noqa: PTH122
    try:
        changed = os.stat(folder or ".").st_mtime_ns  # noqa: PTH116
    except OSError:
        return []
    endings = list(_FORMATS)
    found = []
    for each in _subtitles_in(folder, changed).of(name):
        middle, ending = os.path.splitext(each)  # noqa: PTH122
        is_plain = middle in {stem, name}
        marks = [] if is_plain else middle[len(stem) + 1 :].lower().split(".")
        is_other = language is not None and not _is_of(marks[0] if marks else "", language)
        rank = is_other, "forced" in marks, len(marks), endings.index(ending.lower()), each
        found.append((rank, os.path.join(folder, each)))  # noqa: PTH118
    rules = rules_inside(folder) if found and ignore_files else IgnoreRules()
    return [each for _, each in sorted(found) if not rules.ignores(each, is_directory=False)]


@lru_cache(maxsize=8)
def _subtitles_in(folder: str, _changed: int) -> SubtitleNames:
    """List the names of subtitles in a folder, which is asked for once for all of its videos."""
    return SubtitleNames(os.listdir(folder or "."))  # noqa: PTH208


def _read(path: str) -> list[Segment]:
    """Read a file of subtitles in any encoding; nothing of one that is broken or none."""
    try:
        status_of(path)  # a pipe of such a name would never end
        with open_path(path) as file:
            raw = file.read(_MOST_BYTES + 1)
        if len(raw) > _MOST_BYTES:
            return []
        marked, mark_bytes = marked_encoding(raw[:4])
        text = raw[mark_bytes:].decode(marked or guess_encoding(raw), "replace")
    except (OSError, UnreadableFileError):
        return []
    format_ = _FORMATS[os.path.splitext(path)[1].lower()]  # noqa: PTH122
    return _segments(io.BytesIO(text.encode()), format_, None)


def _track_inside(path: str, language: str | None) -> list[Segment]:
    try:
        with open_path(path) as file:
            return _segments(file, CONTAINER_FORMATS, language)
    except (OSError, UnreadableFileError):
        return []


def _segments(file: BinaryIO, formats: str, language: str | None) -> list[Segment]:
    try:
        container = open_container(file, "subtitles", formats)
    except UnreadableFileError:
        return []
    with container:
        track = _best_track(container, language)
        if track is None:
            return []
        begin = (container.start_time or 0) / 1e6 if container.streams.video else 0.0
        found: list[Segment] = []
        for segment in _decoded(container, track, begin):
            if len(found) == MOST_SEGMENTS:
                break
            # Captions that roll say each line twice or more.
            if not found or found[-1].text != segment.text:
                found.append(segment)
    return sorted(found, key=lambda segment: segment.start_s or 0.0)


def _best_track(container: "InputContainer", language: str | None) -> "SubtitleStream | None":
    import av

    tracks = [
        track
        for track in container.streams.subtitles
        if track.codec_context and track.codec_context.name in _TEXT_CODECS
    ]

    def rank(track: "SubtitleStream") -> tuple[bool, bool, int]:
        is_other = language is not None and not _is_of(track.language or "", language)
        forced = bool(track.disposition & av.stream.Disposition.forced)
        return is_other, forced, track.index

    return min(tracks, key=rank, default=None)


def _decoded(
    container: "InputContainer", track: "SubtitleStream", begin: float
) -> Iterator[Segment]:
    try:
        for packet in container.demux(track):
            if packet.pts is None or not packet.time_base:
                continue
            start_s = float(packet.pts * packet.time_base) - begin
            seconds = float((packet.duration or 0) * packet.time_base)
            parts = (getattr(part, "dialogue", b"") for part in packet.decode())
            text = " ".join(_plain(part) for part in parts).strip()
            if text and start_s >= 0:
                yield Segment(text, start_s=start_s, end_s=start_s + seconds)
    except decoding_errors():
        return


def _plain(dialogue: bytes) -> str:
    """Strip the marks of SSA, which FFmpeg turns other formats into, and line breaks."""
    text = _OVERRIDES.sub("", dialogue.decode("utf-8", "replace"))
    return " ".join(_BREAKS.sub(" ", text).split())


def _is_of(mark: str, language: str) -> bool:
    """Return whether a mark such as `zh-Hans`, `en_US` or `eng` names a language."""
    code = re.split(r"[-_]", mark.lower())[0]
    return code == language or _LONG_CODES.get(code) == language


_LONG_CODES = {
    "ara": "ar", "chi": "zh", "zho": "zh", "cze": "cs", "dut": "nl", "nld": "nl", "eng": "en",
    "fra": "fr", "fre": "fr", "deu": "de", "ger": "de", "gre": "el", "heb": "he", "hin": "hi",
    "hun": "hu", "ind": "id", "ita": "it", "jpn": "ja", "kor": "ko", "pol": "pl", "por": "pt",
    "rum": "ro", "rus": "ru", "spa": "es", "swe": "sv", "tur": "tr", "ukr": "uk", "vie": "vi",
}  # fmt: skip
"""Codes of three letters (ISO 639-2), which containers have, of languages with many subtitles."""
