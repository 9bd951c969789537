"""Small pictures of items, made when first asked for and kept in the library."""

import io
from contextlib import suppress
from enum import IntEnum, StrEnum
from urllib.parse import quote

from PIL import Image

from api.http.files import ItemFiles
from retrieval.catalog import Item, Modality
from retrieval.files import write_atomically
from retrieval.library import Library
from retrieval.media import MediaKind


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


_OPTIONS = {
    ThumbnailFormat.WEBP: {"quality": 80, "method": 4},
    ThumbnailFormat.JPEG: {"quality": 85, "optimize": True},
}


def thumbnail(
    library: Library,
    files: ItemFiles,
    item: Item,
    size: ThumbnailSize = ThumbnailSize.SMALL,
    form: ThumbnailFormat = ThumbnailFormat.JPEG,
) -> bytes:
    """Return an item small, from the cache if it is there: no side is longer than `size`.

    Smaller pictures keep their size. Raises NotFoundError as `ItemFiles.picture`.
    """
    cached = library.thumbnails / f"{item.picture_key}-{int(size)}.{form}"
    with suppress(FileNotFoundError, NotADirectoryError):
        return cached.read_bytes()
    image = files.picture(item, least_side=2 * size)
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, form.upper(), **_OPTIONS[form])
    with suppress(OSError):  # a full disk or a read-only library costs the cache, not the answer
        library.thumbnails.mkdir(exist_ok=True)
        write_atomically(cached, stream.getvalue())
    return stream.getvalue()


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
