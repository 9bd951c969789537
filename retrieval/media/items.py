"""The picture of an item, read from its file again: an image, a frame of a video, a page."""

import os
from typing import BinaryIO

from PIL import Image

from retrieval.catalog import FileEntry, Item, Modality
from retrieval.errors import UnreadableFileError
from retrieval.media import MediaKind, is_as_read
from retrieval.media.images import read_image, read_unchanged


def status_as_indexed(file: Item | FileEntry) -> os.stat_result | None:
    """The status of a file; None where it has changed or gone since it was indexed."""
    try:
        status = os.stat(file.path)  # noqa: PTH116 - names need not be valid text
    except (OSError, ValueError):
        return None
    return status if is_as_read(status, file.size, file.mtime_ns) else None


def read_picture(
    item: Item, file: BinaryIO | None = None, *, least_side: int | None = None
) -> Image.Image:
    """Read the picture of an item as upright RGB; of a passage, that of its page.

    file: the item's, opened already; it may be closed by this. least_side: images, not frames and
    pages, are made smaller by whole factors while both sides keep at least this many pixels.

    Raises UnreadableFileError when there is none or it cannot be read any more, OSError when the
    file cannot be opened.
    """
    if item.kind is MediaKind.VIDEO and item.time_s is not None:
        from retrieval.media.video import frame_at

        return frame_at(file or item.path, item.time_s)
    if item.kind is MediaKind.DOCUMENT and item.page is not None:
        from retrieval.media.pdf import render_page

        return render_page(file or item.path, item.page)
    if item.modality is Modality.TEXT:
        raise UnreadableFileError("a text has no picture")
    return read_image(file or item.path, name=item.path, least_side=least_side)


_LEAST_SIDE = 1024
"""Twice the input of the largest network that looks at candidates."""


def read_unchanged_picture(item: Item) -> Image.Image | None:
    """Read the picture of an item if its file is what was indexed; None if not, or unreadable.

    Images are compared by their hash, longer files by size and modification time. Large images are
    reduced by whole factors, for networks to look at.
    """
    if item.kind is MediaKind.IMAGE:
        return read_unchanged(item.path, item.content_hash, least_side=_LEAST_SIDE)
    if status_as_indexed(item) is None:
        return None
    try:
        return read_picture(item)
    except (OSError, UnreadableFileError):
        return None
