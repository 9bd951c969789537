"""The reader of each file format. To add a format, see `retrieval.media.registry`."""

from indexer.media import document, image, table, text, video
from indexer.media.base import Reader
from retrieval.media import MediaKind
from retrieval.media.registry import PDF, Format

READERS: dict[Format | MediaKind, Reader] = {
    MediaKind.IMAGE: image.read,
    MediaKind.VIDEO: video.read,
    PDF: document.read,
    MediaKind.TEXT: text.read,
    MediaKind.TABLE: table.read,
}
"""By format, or by kind where one function reads all formats of the kind."""


def reader_of(format_: Format) -> Reader:
    """Return the reader of a format. It imports the packages that it needs when it first reads."""
    return READERS.get(format_) or READERS[format_.kind]
