"""Schemas of items."""

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Annotated, Any, Self
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from api.http.root_path import at_root_path
from retrieval.catalog import FileDetails, Item, TakenFrom
from retrieval.errors import UsageError
from retrieval.files import valid_text
from retrieval.media import FIRST_SECOND, LAST_SECOND, MediaKind, Modality, clock_seconds
from retrieval.recognition.base import Task
from retrieval.search.item_order import Order, Place
from retrieval.search.query import MAX_ITEM_ID

MOST_IN_AN_ADDRESS = 10_000
"""Maximum characters of a value in a URL: the server accepts 64 KiB, a character has up to six."""

_NO_DATE = "none"
_NAME = "name-"
"""Before the path in a cursor, its bytes in base64."""

_ITEM_FIELDS = [field.name for field in fields(Item)]
_FILTER = '{"kind": ["video"], "taken_at": {"since": "2024-01-01"}}'
FilterText = Annotated[
    str | None,
    Field(max_length=MOST_IN_AN_ADDRESS, description=f"A filter as JSON, such as `{_FILTER}`."),
]


class ListRequest(BaseModel):
    """Selection of items to list."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=1000, description="Maximum number of items.")] = 100
    cursor: Annotated[
        str | None,
        Field(
            pattern=r"^(([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}|none"
            r"|name-[A-Za-z0-9_-]{0,10000})\.)?[0-9]{1,18}$",
            description="`next_cursor` of the last page.",
        ),
    ] = None
    offset: Annotated[
        int,
        Field(ge=0, le=MAX_ITEM_ID, description="Number of items to skip, after the cursor."),
    ] = 0
    modality: Annotated[
        Modality | None,
        Field(description="image: images, frames, pages; text: chunks of text; audio: sounds."),
    ] = None
    order: Annotated[
        Order,
        Field(
            description="oldest, newest: by the time when they were added; date, date-asc: newest "
            "or oldest photo first, items without a date last; name: by path; "
            "collection: as they were added to the `collection` of the filter."
        ),
    ] = Order.OLDEST
    where: FilterText = None

    @property
    def after(self) -> Place | None:
        """The last item of the page before; None for the first page.

        Raises UsageError for a cursor of another order.
        """
        if self.cursor is None:
            return None
        date, has_date, item_id = self.cursor.rpartition(".")
        if self.order.is_by_date != bool(has_date):
            raise _other_order()
        if date in {"", _NO_DATE}:
            return Place(int(item_id))
        try:
            return Place(int(item_id), clock_seconds(datetime.fromisoformat(date)))
        except ValueError:
            raise _other_order() from None

    @property
    def last_path_and_id(self) -> tuple[str, int] | None:
        """Path and id of the last item of the page before; None for the first page.

        Raises UsageError for a cursor of another order.
        """
        if self.cursor is None:
            return None
        path, _, item_id = self.cursor.removeprefix(_NAME).rpartition(".")
        try:
            if not self.cursor.startswith(_NAME):
                raise _other_order()
            return os.fsdecode(urlsafe_b64decode(path + "=" * (-len(path) % 4))), int(item_id)
        except ValueError:
            raise _other_order() from None


def _other_order() -> UsageError:
    return UsageError("The cursor belongs to another `order`. Repeat the one that it came from.")


class FileRequest(BaseModel):
    """How a file is served."""

    model_config = ConfigDict(extra="forbid")

    download: Annotated[
        bool, Field(description="Offer it as a download, whether a browser could show it or not.")
    ] = False
    ticket: Annotated[
        str | None,
        Field(max_length=200, description="Instead of an API key, of `POST .../link`."),
    ] = None


class FileLink(BaseModel):
    """An address of a file that needs no API key."""

    url: Annotated[str, Field(description="Add `&download=true` or `?download=true` to save it.")]
    expires_at: Annotated[
        datetime | None,
        Field(description="When it stops to be valid; null: the service has no keys."),
    ]


class NeighboursRequest(BaseModel):
    """How many neighbours of an item are listed."""

    model_config = ConfigDict(extra="forbid")

    before: Annotated[int, Field(ge=0, le=100, description="Maximum number before it.")] = 1
    after: Annotated[int, Field(ge=0, le=100, description="Maximum number after it.")] = 1


class ThumbnailSize(IntEnum):
    """The longer side, in pixels. A fixed few, so that clients cannot fill the disk with others."""

    TINY = 160
    SMALL = 320
    MEDIUM = 640
    LARGE = 1280
    HUGE = 2560


class ThumbnailFormat(StrEnum):
    """How a thumbnail is coded; WebP is smaller, JPEG is understood everywhere."""

    WEBP = "webp"
    JPEG = "jpeg"


class ThumbnailRequest(BaseModel):
    """Size and format of a thumbnail."""

    model_config = ConfigDict(extra="forbid")

    size: Annotated[
        ThumbnailSize, Field(description="Maximum length of the longer side in pixels.")
    ] = ThumbnailSize.SMALL
    format: Annotated[
        ThumbnailFormat | None, Field(description="Default: by the `Accept` header, else JPEG.")
    ] = None
    v: Annotated[
        str | None,
        Field(max_length=300, description="Version of the content, from URLs of the service."),
    ] = None


def item_facts(item: Item) -> dict[str, Any]:
    """Fields of an item by their names in answers; models ignore those that they lack."""
    facts = {name: getattr(item, name) for name in _ITEM_FIELDS}
    return facts | {
        "item_id": item.id,
        "found_by": item.found_by,
        "bytes": item.size,
        "thumbnail": thumbnail_url(item),
    }


ServedPath = Annotated[
    str,
    AfterValidator(valid_text),
    Field(description="Bytes that are not valid UTF-8 are escaped."),
]


TakenLocal = Annotated[
    datetime | None,
    Field(description="Date and time that the camera's clock showed, without a time zone."),
    # Not of the format `date-time`, which has a time zone.
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}]}),
]
DateSource = Annotated[
    TakenFrom | None,
    Field(description="metadata: of the file; mtime: its modification time, for want of a date."),
]


FoundBy = Annotated[
    Task | None,
    Field(
        description="Of a text that a model found: in a picture (ocr), in speech, or of what a "
        "picture shows (caption); null: it stands in the file."
    ),
]


class ListedItem(BaseModel):
    """An item. Sizes are in pixels, upright."""

    item_id: int
    path: ServedPath
    kind: MediaKind
    modality: Modality
    width: int | None
    height: int | None
    page: Annotated[int | None, Field(description="Page of a document, from 1.")]
    time_s: Annotated[float | None, Field(description="Time of a video frame in seconds.")]
    start_s: Annotated[float | None, Field(description="When it begins, in seconds of its file.")]
    end_s: Annotated[float | None, Field(description="When it ends, in seconds of its file.")]
    text: Annotated[str | None, Field(description="The chunk of text.")]
    found_by: FoundBy
    columns: Annotated[dict[str, Any] | None, Field(description="Other values of the table row.")]
    taken_local: TakenLocal
    taken_from: DateSource
    bytes: Annotated[int, Field(description="Size of the file.")]
    thumbnail: Annotated[
        str | None, Field(description="URL of the thumbnail, cacheable for ever; null: none.")
    ]


class ItemList(BaseModel):
    """A page of items."""

    items: list[ListedItem]
    next_cursor: Annotated[str | None, Field(description="null: this is the last page.")]

    @classmethod
    def of(cls, items: list[Item], limit: int, order: str = "oldest") -> Self:
        """Build a page; one with fewer than `limit` items is the last."""
        cursor = None
        if len(items) == limit:
            last = items[-1]
            cursor = str(last.id)
            if order == "name":
                path = urlsafe_b64encode(os.fsencode(last.path)).decode().rstrip("=")
                cursor = f"{_NAME}{path}.{cursor}"
            elif order.startswith("date"):
                taken = last.taken_local
                cursor = f"{taken.isoformat() if taken else _NO_DATE}.{cursor}"
        return cls(items=[ListedItem(**item_facts(item)) for item in items], next_cursor=cursor)


class Neighbours(BaseModel):
    """Items of the same file and modality, in the order in which they lie in it."""

    before: list[ListedItem]
    after: list[ListedItem]

    @classmethod
    def of(cls, before: list[Item], after: list[Item]) -> Self:
        """Build from items of the catalog."""
        listed = [[ListedItem(**item_facts(item)) for item in side] for side in (before, after)]
        return cls(before=listed[0], after=listed[1])


class ItemSchema(ListedItem):
    """An item and the metadata of its file."""

    taken_at: Annotated[
        datetime | None,
        Field(
            description="Instant of the date in the file (taken as UTC where it tells no time "
            "zone), else its modification time; null until the next run if "
            "the file had only just changed when it was indexed."
        ),
    ]
    date_source: Annotated[
        str | None,
        Field(
            description="What tells the date: exif, gps, xmp, iptc, text (of a PNG), pdf, video, "
            "sidecar; null: nothing does."
        ),
    ] = None
    camera: str | None
    latitude: float | None
    longitude: float | None
    place: Annotated[
        str | None,
        Field(description="Names of the place, one per line: cities, county, region, country."),
    ]
    duration_s: float | None
    description: Annotated[
        str | None, Field(description="Title, description and keywords of the file, one per line.")
    ]
    annotations: Annotated[list[dict[str, Any]], Field(description="Table rows about the file.")]
    notes: Annotated[list[str], Field(description="What of the file could not be read.")] = []

    @classmethod
    def of(cls, item: Item, details: FileDetails) -> Self:
        """Build from an item of the catalog."""
        metadata = details.metadata
        return cls(
            **item_facts(item),
            taken_at=_moment(details.taken_at),
            date_source=metadata.date_source,
            camera=metadata.camera,
            latitude=metadata.latitude,
            longitude=metadata.longitude,
            place=metadata.place,
            duration_s=metadata.duration_s,
            description=metadata.text,
            annotations=details.annotations,
            notes=[valid_text(note) for note in details.notes],
        )


def thumbnail_url(item: Item, size: ThumbnailSize = ThumbnailSize.SMALL) -> str | None:
    """Where an item's thumbnail is served, at an address that changes with its content."""
    if not item.has_picture:
        return None
    version = quote(item.picture_key, safe="")
    return at_root_path(f"/v1/items/{item.id}/thumbnail?size={int(size)}&v={version}")


def _moment(seconds: int | None) -> datetime | None:
    """Convert a Unix time, clipped to the years that can be written."""
    if seconds is None:
        return None
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
        seconds=min(max(seconds, FIRST_SECOND), LAST_SECOND)
    )
