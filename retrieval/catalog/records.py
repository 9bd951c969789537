"""Values that go into the catalog and come out of it: files, items and their metadata."""

import functools
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from enum import StrEnum
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import DamagedLibraryError
from retrieval.files import require_plain_name, valid_text
from retrieval.media import NO_METADATA, MediaKind, Metadata, Modality
from retrieval.media.registry import format_of_indexed
from retrieval.recognition.base import Recognized, Segment, Task

_Record = TypeVar("_Record")

_EPOCH = datetime(1970, 1, 1)


def local_time(seconds: int) -> datetime:
    """Return a date and time without a zone, from its seconds since 1970 by its own clock."""
    return _EPOCH + timedelta(seconds=seconds)


_FOUND_PART = re.compile(rf"([^-]*)-({'|'.join(Task)})(\d*)")


def found_part(origin: str, task: Task, number: int) -> str:
    """Name a found text inside its file: the part that it was found in, task and number."""
    return f"{origin}-{task}{number}"


def found_in_part(part: str) -> tuple[str, Task | None]:
    """Split what `found_part` gives into the part of the origin and the task; None: it is none."""
    found = _FOUND_PART.fullmatch(part)
    return (found[1], Task(found[2])) if found else (part, None)


def picture_part(part: str) -> str:
    """Return the part of the picture that a text was found in; of other items their own."""
    origin, task = found_in_part(part)
    return origin if task is not None and task.is_of_pictures else part


def folded_name(name: str) -> str:
    """Fold the name of a collection or a saved search to what it is compared by."""
    return unicodedata.normalize("NFKC", name.strip().casefold())


class TakenFrom(StrEnum):
    """Where the date of a file comes from: its metadata or, without any, its modification time."""

    METADATA = "metadata"
    MTIME = "mtime"


class FileState(StrEnum):
    """Whether the items of a file can be found, and if not, why."""

    INDEXED = "indexed"
    FAILED = "failed"
    REMOVED = "removed"


def require_types(record: _Record) -> _Record:
    """Return a dataclass of values from a database, if each has the type of its field.

    A column of SQLite may hold a value of any type. Raises TypeError.
    """
    kind: Any = type(record)
    for name, types in _types_of(kind):
        if not isinstance(value := getattr(record, name), types):
            raise TypeError(f"{name} {value!r:.40}")
    return record


@functools.cache
def _types_of(kind: Any) -> tuple[tuple[str, tuple[type, ...]], ...]:
    hints = get_type_hints(kind)
    return tuple((each.name, _runtime_types(hints[each.name])) for each in fields(kind))


def _runtime_types(hint: Any) -> tuple[type, ...]:
    parts = get_args(hint) if get_origin(hint) is UnionType else (hint,)
    types = {get_origin(part) or part for part in parts}
    return tuple(types | {int} if float in types else types)


@dataclass(frozen=True, slots=True)
class Item:
    """A searchable thing and the file that it is in.

    size, mtime_ns: of the file, in bytes, and nanoseconds since 1970. part: names it inside its
    file, "" for the whole. width, height: pixels, upright. page: counts from 1. text: the chunk, of
    a text. columns: values of a table's row. time_s: the moment that is shown; start_s, end_s: from
    when to when it lasts; in seconds from the beginning of its file. taken_local: date and time of
    the file by the clock of its camera, without a zone; None if its date is unknown. taken_from:
    where that comes from.
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
    start_s: float | None = None
    end_s: float | None = None
    taken_local: datetime | None = None
    taken_from: TakenFrom | None = None

    def __repr__(self) -> str:
        place = ""
        if self.page is not None:
            place = f", page {self.page}"
        elif self.time_s is not None:
            place = f", {self.time_s:g} s"
        return f"Item({self.id}, {self.path!r}, {self.modality}{place})"

    @property
    def has_picture(self) -> bool:
        """Whether there is an image of it: of sound its waveform, of a text on a page the page.

        A text that a model found has the picture that it was found in.
        """
        return self.modality is not Modality.TEXT or (
            (self.page is not None or self.found_by is not None)
            and format_of_indexed(self.path).render is not None
        )

    @property
    def found_by(self) -> Task | None:
        """The task whose recogniser found this text; None for what a file itself holds."""
        return found_in_part(self.part)[1] if self.modality is Modality.TEXT else None

    @property
    def picture_key(self) -> str:
        """Identify its picture by content; usable as a file name.

        Raises DamagedLibraryError where it is none.
        """
        part = picture_part(self.part) if self.found_by else self.part
        return require_plain_name(f"{self.content_hash}-{part}" if part else self.content_hash)

    @property
    def origin_part(self) -> str:
        """The part of what a found text was found in; of other items their own."""
        return self.part if self.found_by is None else found_in_part(self.part)[0]


@dataclass(frozen=True, eq=False)
class ItemTable:
    """The current items of a space and modality as arrays, by row, file and id.

    rows, file_ids: (n,) int64, of each item. Several items have the same row where files have the
    same content. is_current: of all rows of the catalog, which are of these items.
    """

    rows: NDArray[np.int64]
    file_ids: NDArray[np.int64]
    is_current: NDArray[np.bool_]

    def row_set(
        self, row_count: int, is_wanted: NDArray[np.bool_] | None = None
    ) -> NDArray[np.bool_]:
        """Return which of the first rows hold such an item, or one of those wanted, (n,) bool.

        Raises DamagedLibraryError for an item past those.
        """
        rows = self.rows if is_wanted is None else self.rows[is_wanted]
        if rows.max(initial=-1) >= row_count:
            raise DamagedLibraryError(
                f"The catalog names the row {rows.max()}, but {row_count:,} are committed. Restore "
                "the library from a backup, or index the sources into a new one (`--library "
                "NEW_DIR`)."
            )
        found = np.zeros(row_count, np.bool_)
        found[rows] = True
        return found


def is_in(values: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.bool_]:
    """As `np.isin`, for ids, in a fraction of the time."""
    is_wanted = np.zeros(int(values.max(initial=-1)) + 1, np.bool_)
    is_wanted[wanted[wanted < len(is_wanted)]] = True
    return is_wanted[values]


@dataclass
class Seen:
    """What the last walk of sources met but did not take in.

    endings: number of files of other kinds, by ending. system_folders: number of folders that
    systems and programs keep for themselves, by name. mounts: folders that are, or were while
    something was indexed there, other file systems.
    """

    endings: Counter[str] = field(default_factory=Counter)
    system_folders: Counter[str] = field(default_factory=Counter)
    mounts: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Give it as JSON has it; paths in the spelling of `valid_text` would not lead back."""
        return {
            "endings": dict(self.endings),
            "system_folders": {valid_text(n): count for n, count in self.system_folders.items()},
            "mounts": [os.fsencode(path).hex() for path in self.mounts],
        }

    @classmethod
    def joined(cls, stored: Iterable[dict[str, Any] | None]) -> "Seen":
        """Join what `to_json` gave of some sources."""
        seen = cls()
        for one in stored:
            if one:
                seen.endings.update(one["endings"])
                seen.system_folders.update(one["system_folders"])
                seen.mounts += [os.fsdecode(bytes.fromhex(path)) for path in one["mounts"]]
        return seen


@dataclass(frozen=True, slots=True)
class KnownFile:
    """A file as a scan compares it with the disk.

    embedded: its content was embedded completely in the space. mtime_ns: -1 if not to be trusted.
    sidecars: their state when they were read. metadata_version: what was read of it. etag: what its
    server said of its state, of an object.
    """

    path: str
    state: FileState
    size: int
    mtime_ns: int
    content_hash: str | None
    embedded: bool
    sidecars: int | None = None
    metadata_version: int = 0
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file as it is recorded.

    sidecars: the state of those that its metadata was read with. etag: as of `KnownFile`.
    """

    path: str
    kind: MediaKind
    size: int
    mtime_ns: int
    content_hash: str
    metadata: Metadata = NO_METADATA
    sidecars: int | None = None
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class ItemEntry:
    """An item as it is recorded, with the row of its vector; fields as those of `Item`."""

    modality: Modality
    row: int
    part: str = ""
    width: int | None = None
    height: int | None = None
    page: int | None = None
    time_s: float | None = None
    text: str | None = None
    columns: dict[str, Any] | None = None
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True, slots=True)
class Enrichment:
    """What a recogniser found in one picture or file; see `Recognized`.

    key: `Item.picture_key` of a picture, the content hash of a file. model: its `identity`.
    """

    task: Task
    key: str
    model: str
    segments: Sequence[Segment] = ()
    failure: str | None = None

    @property
    def text(self) -> str | None:
        """All that was found, a line a segment; None where nothing was."""
        return Recognized(self.segments).text


@dataclass(frozen=True, slots=True)
class EnrichmentCounts:
    """Numbers of pictures, or files for speech, of the files that can be found.

    looked_at: what a recogniser was given. with_text: in which it found some. failed: where it
    could not look. models: by whom, sorted.
    """

    looked_at: int = 0
    with_text: int = 0
    failed: int = 0
    models: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class FileUpdate:
    """Consecutive items of a file, all of one content.

    is_first, is_complete: whether these begin and end the file; its metadata comes with the first.
    annotations: image path and columns, of a table's rows. notes: what could not be read of it.
    """

    file: FileEntry
    items: Sequence[ItemEntry] = ()
    is_first: bool = True
    is_complete: bool = True
    annotations: Sequence[tuple[str, dict[str, Any]]] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class FileDetails:
    """Metadata of an item's file for filters and display.

    taken_at: capture time or, without one, modification time, seconds since 1970; None where that
    is not to be trusted. size: bytes. annotations: what tables say of the file. notes: what could
    not be read of it.
    """

    metadata: Metadata
    taken_at: int | None
    size: int
    annotations: list[dict[str, Any]]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class MapPoint:
    """Files that were taken near each other.

    latitude, longitude: degrees, their mean. count: number of files. item_id: an item of one.
    """

    latitude: float
    longitude: float
    count: int
    item_id: int


@dataclass(frozen=True, slots=True)
class WordMatch:
    """A row that holds telling words of a query.

    score: sum of the weights of the words that it holds (inverse document frequency), above 0.
    share: of the weights of all words of the query, each times its rarity, 0..1.
    """

    row: int
    score: float
    share: float


@dataclass(frozen=True, slots=True)
class FailedFile:
    """A file that could not be read, and why.

    mtime_ns: -1 to try again at the next run, but of an object with an etag.
    """

    path: str
    failure: str
    size: int = -1
    mtime_ns: int = -1
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class NotedFile:
    """A file that is indexed, and what could not be read of it."""

    path: str
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Relocated:
    """What a relocation did, in files: re-rooted; and hidden, since the new path was known."""

    files: int
    hidden: int


@dataclass(frozen=True, slots=True)
class Collection:
    """A named collection. created_at: seconds since 1970. items: how many of it can be found."""

    id: int
    name: str
    created_at: int
    items: int


@dataclass(frozen=True, slots=True)
class SavedSearch:
    """A search with a name. query: what it asks, as JSON. created_at: seconds since 1970."""

    id: int
    name: str
    query: dict[str, Any]
    created_at: int


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of files by state, and of items of one space that can be found, by modality.

    noted: of the indexed files, those of which something could not be read. dated_by_mtime: images
    and videos without a date of their own, which have that of their last modification. hidden: of
    the items, those that are hidden.
    """

    indexed: int
    failed: int
    removed: int
    items: Mapping[Modality, int]
    noted: int = 0
    dated_by_mtime: int = 0
    hidden: int = 0
