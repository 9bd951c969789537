"""Small pictures of items, made when first asked for and kept in the library."""

import io
import tempfile
from contextlib import suppress
from pathlib import Path

from PIL import Image

from api.http.files import ItemFiles
from api.http.schemas.items import ThumbnailFormat, ThumbnailSize
from retrieval.catalog import Item
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
