"""Kinds of files and modalities of items, and the metadata that files hold."""

import os
from dataclasses import dataclass
from enum import StrEnum

UNTRUSTED_MTIME = -1
"""Recorded for a file just written when it was read: it may change again within the same time."""


class Modality(StrEnum):
    """What kind of thing an item is. Another modality begins with one more line here."""

    IMAGE = "image"
    TEXT = "text"


class MediaKind(StrEnum):
    """The family of formats that a file belongs to.

    Nothing counts or lists the kinds: another one is one more line here, a `Format` of it in
    `retrieval.media.registry` and its reader in `indexer.decode`.
    """

    IMAGE = "image"
    VIDEO = "video"
    DOCUMENT = "document"
    TEXT = "text"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata of a file; None where it has none.

    taken_at: seconds since 1970 (UTC; local time is taken as UTC where no zone is given).
    latitude, longitude: degrees, north and east positive.
    text: title, description and keywords, a line each.
    place: names of the place, a line each, as `retrieval.media.places` gives them.
    """

    taken_at: int | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    duration_s: float | None = None
    text: str | None = None
    place: str | None = None


NO_METADATA = Metadata()


def is_as_read(status: os.stat_result, size: int, mtime_ns: int) -> bool:
    """Check that a file has the size and modification time of when it was read, if trusted."""
    return status.st_size == size and mtime_ns in {UNTRUSTED_MTIME, status.st_mtime_ns}
