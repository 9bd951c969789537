"""Small pictures of items, made when first asked for and kept in the library."""

import io
import tempfile
from contextlib import suppress
from pathlib import Path

from retrieval.catalog import Item
from retrieval.library import Library
from retrieval.pictures import read_picture

THUMBNAIL_PIXELS = 320
"""The longer side."""


def thumbnail(library: Library, item: Item) -> bytes:
    """Return a JPEG of an item, its longer side at most 320 pixels, from the cache if it is there.

    Raises OSError when the file cannot be opened, UnreadableFileError when it cannot be decoded.
    """
    cached = library.thumbnails / f"{item.picture_key}-{THUMBNAIL_PIXELS}.jpg"
    with suppress(FileNotFoundError, NotADirectoryError):
        return cached.read_bytes()
    image = read_picture(item)
    image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=85)
    with suppress(OSError):  # a full disk or a read-only library costs the cache, not the answer
        _write_atomically(cached, stream.getvalue())
    return stream.getvalue()


def _write_atomically(file: Path, content: bytes) -> None:
    file.parent.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".tmp", delete=False) as temporary:
        try:
            temporary.write(content)
            temporary.close()
            Path(temporary.name).replace(file)
        except BaseException:
            Path(temporary.name).unlink(missing_ok=True)
            raise
