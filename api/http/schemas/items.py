"""Items over the wire."""

from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from api.http.schemas.text import MOST_IN_AN_ADDRESS, valid_text
from retrieval.catalog import FileDetails, Item, Modality
from retrieval.media import MediaKind

_FIRST_SECOND = -62_135_596_800
_LAST_SECOND = 253_402_300_799
"""Of the years 1 and 9999, since 1970; file systems can tell others."""

_FILTER = '{"kind": ["video"], "taken_at": {"since": "2024-01-01"}}'


class ThumbnailSize(IntEnum):
    """The longer side, in pixels. A fixed few, so that clients cannot fill the disk with others."""

    TINY = 160
    SMALL = 320
    MEDIUM = 640
    LARGE = 1280


class ThumbnailFormat(StrEnum):
    """How a thumbnail is coded; WebP is smaller, JPEG is understood everywhere."""

    WEBP = "webp"
    JPEG = "jpeg"


class ListRequest(BaseModel):
    """Which items to list."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=1000, description="How many at most.")] = 100
    cursor: Annotated[
        str | None,
        Field(pattern=r"^[0-9]{1,18}$", description="`next_cursor` of the last page."),
    ] = None
    modality: Annotated[
        Modality | None, Field(description="image: images, frames and pages; text: passages.")
    ] = None
    order: Annotated[
        Literal["oldest", "newest"], Field(description="Which come first, by when they were added.")
    ] = "oldest"
    where: Annotated[
        str | None,
        Field(
            max_length=MOST_IN_AN_ADDRESS,
            description=f"A filter as JSON, such as `{_FILTER}`.",
        ),
    ] = None


def has_picture(item: Item) -> bool:
    """Whether there is something to show of an item: not of a passage that is on no page."""
    return item.modality is Modality.IMAGE or (
        item.kind is MediaKind.DOCUMENT and item.page is not None
    )


def thumbnail_url(item: Item, size: ThumbnailSize = ThumbnailSize.SMALL) -> str | None:
    """Where an item's thumbnail is served, at an address that changes with its content."""
    if not has_picture(item):
        return None
    return f"/v1/items/{item.id}/thumbnail?size={int(size)}&v={quote(item.picture_key, safe='')}"


class ThumbnailRequest(BaseModel):
    """How to show an item small."""

    model_config = ConfigDict(extra="forbid")

    size: Annotated[ThumbnailSize, Field(description="The longer side at most, in pixels.")] = (
        ThumbnailSize.SMALL
    )
    format: Annotated[
        ThumbnailFormat | None, Field(description="If not given, what `Accept` says, else JPEG.")
    ] = None
    v: Annotated[
        str | None,
        Field(max_length=300, description="Of the addresses that the service gives: the content."),
    ] = None


class ListedItem(BaseModel):
    """A searchable thing. Sizes in pixels, upright."""

    item_id: int
    path: Annotated[str, Field(description="Bytes that are not valid UTF-8 are escaped.")]
    kind: MediaKind
    modality: Modality
    width: int | None
    height: int | None
    page: Annotated[int | None, Field(description="Of a document, from 1.")]
    time_s: Annotated[float | None, Field(description="Of a video's frame, in seconds.")]
    text: Annotated[str | None, Field(description="The passage, of a text.")]
    columns: Annotated[dict[str, Any] | None, Field(description="Other values of a table's row.")]
    bytes: Annotated[int, Field(description="Size of the file.")]
    thumbnail: Annotated[
        str | None, Field(description="Where to get it small, for ever; null: it has no picture.")
    ]

    @classmethod
    def facts_of(cls, item: Item) -> dict[str, Any]:
        """What an item of the catalog says, by field."""
        return {
            "item_id": item.id,
            "path": valid_text(item.path),
            "kind": item.kind,
            "modality": item.modality,
            "width": item.width,
            "height": item.height,
            "page": item.page,
            "time_s": item.time_s,
            "text": item.text,
            "columns": item.columns,
            "bytes": item.size,
            "thumbnail": thumbnail_url(item),
        }


class ItemList(BaseModel):
    """A page of items, by id."""

    items: list[ListedItem]
    next_cursor: Annotated[str | None, Field(description="null: these are the last.")]

    @classmethod
    def of(cls, items: list[Item], limit: int) -> Self:
        """Describe a page that ends before `limit` items only where the items end."""
        return cls(
            items=[ListedItem(**ListedItem.facts_of(item)) for item in items],
            next_cursor=str(items[-1].id) if len(items) == limit else None,
        )


class ItemSchema(ListedItem):
    """A searchable thing and what is known of its file."""

    taken_at: Annotated[
        datetime | None,
        Field(
            description="As the file says, else when it was last changed; null where that was only "
            "just when it was indexed, until the next run."
        ),
    ]
    camera: str | None
    latitude: float | None
    longitude: float | None
    duration_s: float | None
    description: Annotated[
        str | None, Field(description="Title, description and keywords in the file, a line each.")
    ]
    annotations: Annotated[
        list[dict[str, Any]], Field(description="What rows of tables say of the file.")
    ]

    @classmethod
    def of(cls, item: Item, details: FileDetails) -> Self:
        """Describe an item of the catalog."""
        metadata = details.metadata
        return cls(
            **cls.facts_of(item),
            taken_at=_moment(details.taken_at),
            camera=metadata.camera,
            latitude=metadata.latitude,
            longitude=metadata.longitude,
            duration_s=metadata.duration_s,
            description=metadata.text,
            annotations=details.annotations,
        )


def _moment(seconds: int | None) -> datetime | None:
    """A time in seconds since 1970; the nearest that can be written, if it cannot."""
    if seconds is None:
        return None
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
        seconds=min(max(seconds, _FIRST_SECOND), _LAST_SECOND)
    )
