"""What kinds of files there are, and what a file says of itself."""

from dataclasses import dataclass
from enum import StrEnum


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
