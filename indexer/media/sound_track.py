"""Read videos whole: their frames, then the windows of their sound track."""

from dataclasses import replace

from indexer.media import audio, video
from indexer.media.audio import SILENT, read_windows
from indexer.media.base import Decoded, ReadOptions
from retrieval.errors import UnreadableFileError
from retrieval.media import metadata_notes
from retrieval.media.audio import open_sound
from retrieval.media.video import open_video

_FIRST_WINDOW = -1
"""Where the sound track begins, among the places where a reading goes on: those of frames are
milliseconds from 0 on, that of the window with the number n is -1 - n."""


def read(path: str, start: int, options: ReadOptions) -> Decoded:
    """Read a video as the encoder takes it: frames, windows of sound, or both.

    A video without sound has no windows. Sound that cannot be decoded is noted; the frames stay.
    Raises as the readers of `indexer.media.base` do.
    """
    if start < 0:
        return _sound(path, _FIRST_WINDOW - start, options)
    if options.pictures:
        decoded = _frames(path, start, options)
        is_last = decoded.next is None and options.sound is not None
        return replace(decoded, next=_FIRST_WINDOW) if is_last else decoded
    try:
        with open_video(path, max_pixels=options.max_pixels) as opened:
            metadata, problems = video.read_metadata(opened, path)
    except UnreadableFileError:
        if not _is_sound_alone(path):
            raise
        return _without_pictures(path, options)
    decoded = Decoded((), metadata, notes=metadata_notes(problems))
    if options.sound is None:
        return decoded
    found = _sound(path, 0, options)
    return replace(found, metadata=metadata, notes=(*decoded.notes, *found.notes))


def _frames(path: str, start: int, options: ReadOptions) -> Decoded:
    try:
        return video.read(path, start, options)
    except UnreadableFileError:
        if start or not _is_sound_alone(path):
            raise
        return _without_pictures(path, options)


def _without_pictures(path: str, options: ReadOptions) -> Decoded:
    """Read what has the name of a video and is sound alone, as some `.mp4` and `.webm` are."""
    read = audio.read(path, 0, options)
    go_on = None if read.next is None else _FIRST_WINDOW - read.next
    return replace(read, next=go_on, notes=("it has sound and no pictures", *read.notes))


def _is_sound_alone(path: str) -> bool:
    try:
        with open_sound(path) as sound:
            return sound.is_alone
    except UnreadableFileError:
        return False


def _sound(path: str, first: int, options: ReadOptions) -> Decoded:
    assert options.sound is not None
    try:
        with open_sound(path) as sound:
            found = read_windows(sound, first, options.sound, options.seconds)
            if found is None:
                return Decoded((), notes=_damaged(sound.damage))
    except UnreadableFileError:  # no sound track
        return Decoded(())
    pieces, go_on, notes = found
    notes = tuple(note for note in notes if note != SILENT)
    return Decoded(pieces, next=None if go_on is None else _FIRST_WINDOW - go_on, notes=notes)


def _damaged(reason: str | None) -> tuple[str, ...]:
    return () if reason is None else (f"its sound could not be decoded: {reason}",)
