"""Small pictures of items, made when first asked for and kept in the library."""

import os
import tempfile
from pathlib import Path

from retrieval.catalog import Item
from retrieval.images import read_image
from retrieval.library import Library

THUMBNAIL_PIXELS = 320
"""The longer side."""


def thumbnail(library: Library, item: Item) -> bytes:
    """Return a JPEG of an item, its longer side at most 320 pixels, from the cache if it is there.

    Raises OSError when the file cannot be opened, UnreadableImageError when it cannot be decoded.
    """
    cached = library.thumbnails / f"{item.content_hash}-{THUMBNAIL_PIXELS}.jpg"
    try:
        return cached.read_bytes()
    except FileNotFoundError:
        pass
    image = read_image(item.path)
    image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    cached.parent.mkdir(exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=cached.parent, suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            image.save(file, "JPEG", quality=85)
        Path(temporary).replace(cached)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return cached.read_bytes()
