"""Read sounds: windows as long as an encoder hears at once, and what tags say."""

import time
from collections.abc import Callable

import numpy as np

from indexer.media.base import Decoded, Locator, Piece, ReadOptions
from indexer.media.video import parse_moment
from retrieval.errors import UnreadableFileError
from retrieval.media import SILENCE, Metadata, Modality, SoundInput
from retrieval.media.audio import Sound, Window, open_sound, why_no_sound

_WINDOWS_A_CALL = 8
"""About 15 MB of samples, of windows of ten seconds at 48 kHz."""

SILENT = "it is silent"
"""Note of a sound without any window that is not silent."""

_MISSING_S = 1.0
_MOST_TEXT = 10_000
_LONGEST_VALUE = 200


def read(path: str, start: int, options: ReadOptions) -> Decoded:
    """Cut a sound into windows, from the window of a number on, at most eight a call.

    Where the encoder takes no sound, there are no pieces and only the metadata is read. Raises as
    the readers of `indexer.media.base` do.
    """
    with open_sound(path) as sound:
        metadata = read_metadata(sound) if start == 0 else Metadata()
        if options.sound is None:
            return Decoded((), metadata)
        decoded = read_windows(sound, start, options.sound, options.seconds)
        if start == 0 and decoded is None:
            raise UnreadableFileError(why_no_sound(sound))
        pieces, go_on, notes = decoded or ((), None, ())
        return Decoded(pieces, metadata, go_on, notes=notes)


def read_windows(
    sound: Sound, first: int, heard: SoundInput, seconds: float | None = None
) -> tuple[tuple[Piece, ...], int | None, tuple[str, ...]] | None:
    """Read some windows of a sound.

    Args:
        sound: The open sound.
        first: Number of the first window.
        heard: What the encoder hears at once.
        seconds: After which no further window is read.

    Returns:
        Pieces of the windows that are not silent, the number of the next window or None, and notes;
        None if nothing can be decoded.
    """
    pieces: list[Piece] = []
    last: Window | None = None
    is_late = _clock(seconds)
    for window in sound.windows(heard, first):
        if len(pieces) == _WINDOWS_A_CALL or (last is not None and is_late()):
            return tuple(pieces), window.number, ()
        last = window
        if np.abs(window.samples).max(initial=0.0) >= SILENCE:
            pieces.append(_piece(window))
    if last is None and first == 0:
        return None
    is_silent = first == 0 and not pieces
    return tuple(pieces), None, (*_notes(sound, last), *([SILENT] if is_silent else []))


def read_metadata(sound: Sound) -> Metadata:
    """Read what the tags of a sound say: ID3, Vorbis comments, those of MP4 and RIFF."""
    tags = sound.tags
    title, album, genre = (_first(tags, name) for name in ("title", "album", "genre"))
    artist = _first(tags, "artist", "album_artist", "composer")
    described = (_first(tags, name) for name in ("description", "comment", "lyrics"))
    lines = dict.fromkeys(line for line in (title, artist, album, *described) if line)
    taken = _first(tags, "creation_time", "date", "tdrc")
    taken_at, taken_local = parse_moment(taken or "") or (None, None)
    columns = {"artist": artist, "album": album, "genre": genre}
    return Metadata(
        taken_at=taken_at,
        duration_s=sound.duration_s,
        text="\n".join(lines)[:_MOST_TEXT] or None,
        taken_local=taken_local,
        date_source=None if taken_at is None else "audio",
        columns={name: value[:_LONGEST_VALUE] for name, value in columns.items() if value} or None,
    )


def _first(tags: dict[str, str], *names: str) -> str | None:
    """Return the first tag of some names that says anything, in one line; None: none does."""
    found = (" ".join(tags.get(name, "").split()) for name in names)
    shown = ("".join(filter(str.isprintable, value)) for value in found)
    return next(filter(None, shown), None)


def _clock(seconds: float | None) -> Callable[[], bool]:
    """Return what tells whether some seconds have passed; None: never."""
    deadline = None if seconds is None else time.monotonic() + seconds
    return lambda: deadline is not None and time.monotonic() > deadline


def _piece(window: Window) -> Piece:
    part = f"s{round(1000 * window.start_s)}"
    start, end = round(window.start_s, 3), round(window.end_s, 3)
    locator = Locator(part, time_s=start, start_s=start, end_s=end)
    return Piece(Modality.AUDIO, window.samples, locator)


def _notes(sound: Sound, last: Window | None) -> list[str]:
    """Say what of a sound that was read to its end is missing."""
    notes = [f"some of its sound could not be decoded: {sound.damage}"] if sound.damage else []
    if last is not None and sound.is_duration_exact and sound.duration_s:
        missing = sound.duration_s - last.end_s
        if missing > _MISSING_S:
            notes.append(f"the last {missing:.0f} s are missing: the file ends early")
    return notes
