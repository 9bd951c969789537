"""What kinds of files and items there are, and what a file says of itself."""

import os
from dataclasses import dataclass
from enum import StrEnum

UNTRUSTED_MTIME = -1
"""Of a file that was too fresh when it was read: it may change again within the same time."""


class Modality(StrEnum):
    """What kind of thing an item is. Another modality begins with one more line here."""

    IMAGE = "image"
    TEXT = "text"


class MediaKind(StrEnum):
    """What family of formats a file is of."""

    IMAGE = "image"
    VIDEO = "video"
    DOCUMENT = "document"
    TEXT = "text"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a file says of itself; None where it does not.

    taken_at: seconds since 1970 (UTC; local time taken as UTC where no zone is told). Degrees,
    north and east positive. text: title, description and keywords, a line each.
    """

    taken_at: int | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    duration_s: float | None = None
    text: str | None = None


NO_METADATA = Metadata()


def is_as_read(status: os.stat_result, size: int, mtime_ns: int) -> bool:
    """Whether a file has the size and time that it was read with, as far as that is trusted."""
    return status.st_size == size and mtime_ns in {UNTRUSTED_MTIME, status.st_mtime_ns}
