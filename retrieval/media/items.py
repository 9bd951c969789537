"""Read the image of an item from its file again: an image file, a video frame, a page."""

from typing import BinaryIO

from PIL import Image

from retrieval.catalog import FileEntry, Item
from retrieval.errors import UnreadableFileError
from retrieval.media import MediaKind, is_as_read
from retrieval.media.images import LEAST_SIDE, read_unchanged
from retrieval.media.registry import format_of_indexed
from retrieval.objects.base import FileStatus
from retrieval.objects.opening import status_of


def status_as_indexed(file: Item | FileEntry) -> FileStatus | None:
    """Return the status of a file; None if it was changed or removed since it was indexed."""
    try:
        status = status_of(file.path)
    except (OSError, UnreadableFileError, ValueError):
        return None
    return status if is_as_read(status, file.size, file.mtime_ns) else None


def read_item_image(
    item: Item,
    file: BinaryIO | None = None,
    *,
    least_side: int | None = None,
    max_pixels: int | None = None,
) -> Image.Image:
    """Read the image of an item as upright RGB; of a chunk of text, that of its page.

    Args:
        item: What to show.
        file: The item's file, opened already; it may be closed by this.
        least_side: Image files, not frames, are made smaller by whole factors while both sides keep
            at least this many pixels; pages are rendered larger, up to `pdf.MAX_LONGER_SIDE`.
        max_pixels: Limit of its pixels, which `Library.max_pixels` tells; None: the default.

    Raises:
        UnreadableFileError: There is no image, or it cannot be read any more.
        OSError: The file cannot be opened.
    """
    render = format_of_indexed(item.path).render
    if render is None or not item.has_picture:
        raise UnreadableFileError("a text has no picture")
    return render(file or item.path, item, least_side, max_pixels)


def read_item_image_if_unchanged(item: Item, max_pixels: int | None = None) -> Image.Image | None:
    """Read the image of an item if its file is what was indexed; None if not, or unreadable.

    Images are compared by their hash, longer files by size and modification time. Large images are
    reduced by whole factors, for networks to look at. max_pixels: as for `read_item_image`.
    """
    if item.kind is MediaKind.IMAGE:
        return read_unchanged(
            item.path,
            item.content_hash,
            least_side=LEAST_SIDE,
            max_pixels=max_pixels,
            page=item.page or 1,
        )
    if status_as_indexed(item) is None:
        return None
    try:
        return read_item_image(item, max_pixels=max_pixels)
    except (OSError, UnreadableFileError):
        return None
