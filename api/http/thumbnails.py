"""Thumbnails of items, made when first asked for and cached in the library."""

import io
from contextlib import suppress

from PIL import Image

from api.http.files import ItemFiles
from api.http.schemas.items import ThumbnailFormat, ThumbnailSize
from retrieval.catalog import Item
from retrieval.files import make_directories, sealed, write_atomically
from retrieval.integrity.thumbnails import read_thumbnail
from retrieval.library import Library

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
    """Return the thumbnail of an item, cached if possible: no side is longer than `size`.

    Smaller pictures keep their size. One in the cache that is damaged is made again. Raises
    NotFoundError as `ItemFiles.picture`.
    """
    cached = library.thumbnails / f"{item.picture_key}-{int(size)}.{form}"
    if (content := read_thumbnail(cached)) is not None:
        return content
    image = files.picture(item, least_side=2 * size)
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, form.upper(), **_OPTIONS[form])
    with suppress(OSError):  # a full disk or a read-only library costs the cache, not the answer
        make_directories(library.thumbnails)
        write_atomically(cached, sealed(stream.getvalue()))
        library.kept_thumbnail(len(stream.getvalue()))
    return stream.getvalue()
