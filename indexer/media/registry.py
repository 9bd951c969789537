"""Which family of formats a file belongs to, by its name, and what reads it."""

import functools
import os

from indexer.media import document, image, table, text, video
from indexer.media.base import Reader
from retrieval.media import MediaKind
from retrieval.media.images import is_image_name

_READERS: dict[MediaKind, Reader] = {
    MediaKind.IMAGE: image.read,
    MediaKind.VIDEO: video.read,
    MediaKind.DOCUMENT: document.read,
    MediaKind.TEXT: text.read,
    MediaKind.TABLE: table.read,
}
_ENDINGS = {
    **dict.fromkeys(video.VIDEO_ENDINGS, MediaKind.VIDEO),
    **dict.fromkeys(document.DOCUMENT_ENDINGS, MediaKind.DOCUMENT),
    **dict.fromkeys(text.TEXT_ENDINGS, MediaKind.TEXT),
    **dict.fromkeys(table.TABLE_ENDINGS, MediaKind.TABLE),
}
"""Those of images are asked of `retrieval.media.images`, which loads many modules to know them."""


def kind_of(name: str) -> MediaKind | None:
    """The family that a file's name ends like, in any case; None: nothing that can be indexed."""
    return _kind_of_ending(os.path.splitext(name)[1].lower())  # noqa: PTH122


def reader_of(kind: MediaKind) -> Reader:
    """What reads files of a family. Packages that it needs are imported when it first reads."""
    return _READERS[kind]


# A folder can hold any number of endings (`.1`, `.2`, ...), most of them of no interest.
@functools.lru_cache(maxsize=1024)
def _kind_of_ending(ending: str) -> MediaKind | None:
    if ending in _ENDINGS:
        return _ENDINGS[ending]
    return MediaKind.IMAGE if is_image_name(f"name{ending}") else None
