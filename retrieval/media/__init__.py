"""Kinds of files and modalities of items, and the metadata that files hold."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Protocol

UNTRUSTED_MTIME = -1
"""Recorded for a file just written when it was read: it may change again within the same time."""

FIRST_SECOND = -62_135_596_800
LAST_SECOND = 253_402_300_799
"""Seconds from 1970 of the years 1 and 9999; file systems and files can have others."""


class Modality(StrEnum):
    """What kind of thing an item is: of sound a window. Another one begins with a line here."""

    IMAGE = "image"
    TEXT = "text"
    AUDIO = "audio"

    @property
    def plural(self) -> str:
        """Name several items of it."""
        return "sounds" if self is Modality.AUDIO else f"{self}s"


class MediaKind(StrEnum):
    """The family of formats that a file belongs to.

    Nothing counts or lists the kinds: another one is one more line here, a `Format` of it in
    `retrieval.media.registry` and its reader in `indexer.decode`.
    """

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    DOCUMENT = "document"
    TEXT = "text"
    TABLE = "table"


SILENCE = 0.001
"""Peak amplitude, -60 dB, below which a sound is silent."""


@dataclass(frozen=True)
class SoundInput:
    """What an encoder hears at once: `length` samples at `rate` samples a second."""

    rate: int
    length: int


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata of a file; None where it has none.

    taken_at: an instant, seconds since 1970 (local time is taken as UTC where no zone is given).
    taken_local: the local date and time, which the camera's clock showed: its seconds since
    1970-01-01 00:00 by that clock; None also where only the instant is known.
    latitude, longitude: degrees, north and east positive.
    text: title, description and keywords, a line each; of sound also artist and album.
    place: names of the place, a line each, as `retrieval.media.places` gives them.
    date_source: what says the date: `exif`, `gps`, `xmp`, `iptc`, `text` (of PNG), `pdf`, `video`,
    `audio`, `sidecar`; None without a date of its own.
    columns: rating (number), label, keyword and person (lists), of sound artist, album and genre,
    as a table's row would say them.
    """

    taken_at: int | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    duration_s: float | None = None
    text: str | None = None
    taken_local: int | None = None
    place: str | None = None
    date_source: str | None = None
    columns: dict[str, Any] | None = field(default=None, hash=False)


NO_METADATA = Metadata()

METADATA_NOTE = "metadata: "
"""Begins the notes of what could not be read of metadata, which are renewed with it."""


def metadata_notes(problems: Iterable[str]) -> tuple[str, ...]:
    """Make notes of problems with the metadata of a file."""
    return tuple(METADATA_NOTE + problem for problem in dict.fromkeys(problems))


class HasSizeAndTime(Protocol):
    """The status of a file, as `os.stat` gives it."""

    @property
    def st_size(self) -> int:
        """Return its size in bytes."""
        ...

    @property
    def st_mtime_ns(self) -> int:
        """Return its modification time, nanoseconds since 1970."""
        ...


def is_as_read(status: HasSizeAndTime, size: int, mtime_ns: int) -> bool:
    """Check that a file has the size and modification time of when it was read, if trusted."""
    return status.st_size == size and mtime_ns in {UNTRUSTED_MTIME, status.st_mtime_ns}


def clock_seconds(moment: datetime) -> int:
    """Return the date and time that a clock shows, whatever its zone, as seconds since 1970."""
    return int(moment.replace(tzinfo=UTC).timestamp())


def local_clock_seconds(instant: int) -> int:
    """Return what a clock of this machine's time zone showed at an instant, as seconds since 1970.

    instant: seconds since 1970, UTC. It stays as it is where the system knows no zone for its year.
    Clipped to the years that can be written.
    """
    try:
        ahead = time.localtime(instant).tm_gmtoff
    except (OverflowError, OSError, ValueError):
        ahead = 0
    return min(max(instant + ahead, FIRST_SECOND), LAST_SECOND)
