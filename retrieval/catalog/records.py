"""What goes into the catalog and comes out of it: files, items and what is known of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from retrieval.media import NO_METADATA, MediaKind, Metadata, Modality


class FileState(StrEnum):
    """Whether a file's items can be found, and if not, why."""

    INDEXED = "indexed"
    FAILED = "failed"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Item:
    """A searchable thing and the file that it lives in. Sizes in pixels, upright.

    size, mtime_ns: of the file, in bytes, and nanoseconds since 1970. part: names it inside its
    file, "" for the whole. page counts from 1. text: the passage, of a text. columns: values of a
    table's row.
    """

    id: int
    path: str
    kind: MediaKind
    modality: Modality
    content_hash: str
    size: int
    mtime_ns: int
    part: str = ""
    width: int | None = None
    height: int | None = None
    page: int | None = None
    time_s: float | None = None
    text: str | None = None
    columns: dict[str, Any] | None = None

    @property
    def picture_key(self) -> str:
        """What its picture is, whatever its file is called: fit for a file name."""
        return f"{self.content_hash}-{self.part}" if self.part else self.content_hash


@dataclass(frozen=True, slots=True)
class KnownFile:
    """What the catalog remembers of a file.

    embedded: its content was read to the end in the space. A mtime_ns of -1: not to be trusted.
    """

    path: str
    state: FileState
    size: int
    mtime_ns: int
    content_hash: str | None
    embedded: bool


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A file that was read: what the catalog keeps of it."""

    path: str
    kind: MediaKind
    size: int
    mtime_ns: int
    content_hash: str
    metadata: Metadata = NO_METADATA


@dataclass(frozen=True, slots=True)
class ReadItem:
    """An item that was read, and the row of its vector; fields as those of `Item`."""

    modality: Modality
    row: int
    part: str = ""
    width: int | None = None
    height: int | None = None
    page: int | None = None
    time_s: float | None = None
    text: str | None = None
    columns: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class FileUpdate:
    """Some items of a file, all of one content, from the first to the last of them.

    is_first, is_complete: whether these begin and end the file; what is known of the file itself
    comes with the first. annotations: image path and columns, of a table's rows.
    """

    file: ReadFile
    items: Sequence[ReadItem] = ()
    is_first: bool = True
    is_complete: bool = True
    annotations: Sequence[tuple[str, dict[str, Any]]] = ()


@dataclass(frozen=True, slots=True)
class FileDetails:
    """What is known of an item's file for filters and display.

    taken_at: of the file itself or, where it does not tell, its modification time, seconds since
    1970; None where that is not trusted yet. annotations: what tables say of the file.
    """

    metadata: Metadata
    taken_at: int | None
    size: int
    annotations: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class FailedFile:
    """A file that could not be read, and why. A `mtime_ns` of -1: try again at the next run."""

    path: str
    failure: str
    size: int = -1
    mtime_ns: int = -1


@dataclass(frozen=True, slots=True)
class Counts:
    """What a library holds: files by state, found items by modality in one space."""

    indexed: int
    failed: int
    removed: int
    images: int
    texts: int
