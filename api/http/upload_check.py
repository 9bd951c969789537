"""What an uploaded file is, by its content; what may be kept, and under which name.

Runs in a process of its own (`indexer.decoder_pool`), since it decodes what strangers send.
"""

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from indexer.media.base import ReadOptions
from indexer.media.registry import kind_of, reader_of
from indexer.media.video import VIDEO_ENDINGS
from retrieval.errors import MissingExtraError, UnreadableFileError
from retrieval.media import MediaKind
from retrieval.media.images import UnreadableImageError, open_image, read_picture, readable_formats
from retrieval.media.raw import is_raw_name
from retrieval.media.svg import is_svg

_IMAGE_ENDINGS = {
    "AVIF": ".avif",
    "BMP": ".bmp",
    "GIF": ".gif",
    "HEIF": ".heic",
    "JPEG": ".jpg",
    "JPEG2000": ".jp2",
    "MPO": ".jpg",
    "PNG": ".png",
    "TIFF": ".tif",
    "WEBP": ".webp",
}
"""Formats that are taken, of all that can be read: those that people have pictures in."""
_TEXT_ENDINGS = frozenset({".txt", ".text", ".md", ".markdown", ".rst"})
"""Not HTML, which runs scripts where it is shown, nor tables, which speak about other files."""

_HEAD_BYTES = 4096
_LEAST_SIDE = 512
_LONGEST_STEM_BYTES = 150
_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in "0123456789")}
)
"""Names of devices on Windows, with any ending."""
_FORBIDDEN = frozenset('<>:"|?*')
_JOINERS = frozenset("\u200c\u200d")
"""Format characters that scripts such as Persian and Hindi need."""


class UnacceptableFileError(UnreadableFileError):
    """A kind of file that is not taken; the message is the reason."""


@dataclass(frozen=True)
class Accepted:
    """A file that is taken. name: safe, and ending as its content is."""

    kind: MediaKind
    name: str


def check(path: str, name: str, max_pixels: int) -> Accepted:
    """Decode a file that a client called `name`, and say under which name it is kept.

    Raises UnacceptableFileError for a kind that is not taken, UnreadableFileError for what is
    broken or too large, OSError when the file cannot be opened.
    """
    asked = safe_name(name)
    with Path(path).open("rb") as file:
        head = file.read(_HEAD_BYTES)
        kind, ending = _what_it_is(head, asked, path)
        if kind is MediaKind.IMAGE:
            file.seek(0)
            named = f"picture{ending}"
            read_picture(file, name=named, least_side=_LEAST_SIDE, max_pixels=max_pixels)
    if kind is not MediaKind.IMAGE:
        reader_of(kind)(path, 0, ReadOptions(_LEAST_SIDE, max_pixels))
    return Accepted(kind, _with_ending(asked, ending))


def safe_name(name: str) -> str:
    """Make of any text the name of a file: in any script, but of one part, and harmless anywhere.

    Without folders, control and direction characters, a leading dot, what Windows forbids or
    reserves; at most some 150 bytes before its ending; never empty.
    """
    last = unicodedata.normalize("NFC", name).replace("\\", "/").rpartition("/")[2]
    kept = "".join(
        c for c in last if c in _JOINERS or unicodedata.category(c)[0] not in "CZ" or c == " "
    )
    kept = "".join("_" if c in _FORBIDDEN else c for c in kept).strip(" .")
    stem, ending = _split(kept)
    stem = stem.encode()[:_LONGEST_STEM_BYTES].decode(errors="ignore").strip(" .")
    if stem.partition(".")[0].strip().lower() in _RESERVED:
        stem = f"_{stem}"
    return f"{stem or 'upload'}{ending}"


def _what_it_is(head: bytes, name: str, path: str) -> tuple[MediaKind, str]:
    """The kind of a file by its content, and the ending that it is kept with."""
    ending = _split(name)[1].lower()
    if not head:
        raise UnreadableFileError("the file is empty")
    if is_svg(head, name):
        raise UnacceptableFileError("is an SVG drawing, which can carry scripts")
    image_format = _image_format(head, path)
    if is_raw_name(name) and image_format in {None, "TIFF"}:
        return MediaKind.IMAGE, ending
    if image_format in _IMAGE_ENDINGS:
        known = readable_formats().get(ending)
        is_right = known is not None and _IMAGE_ENDINGS.get(known) == _IMAGE_ENDINGS[image_format]
        return MediaKind.IMAGE, ending if is_right else _IMAGE_ENDINGS[image_format]
    if image_format is not None:
        raise UnacceptableFileError(f"is an image in {image_format}, which is not taken")
    if b"%PDF-" in head[:1024]:
        return MediaKind.DOCUMENT, ".pdf"
    if (video_ending := _video_ending(head)) is not None:
        return MediaKind.VIDEO, ending if ending in VIDEO_ENDINGS else video_ending
    if ending in _TEXT_ENDINGS:
        return MediaKind.TEXT, ending
    raise UnacceptableFileError(
        "is no image, video, PDF document or text (.txt, .md, .rst) that can be read"
    )


def _image_format(head: bytes, path: str) -> str | None:
    try:
        with Path(path).open("rb") as file, open_image(file) as image:
            return image.format
    except MissingExtraError:
        raise
    except (UnreadableImageError, OSError, ValueError):
        return None


def _video_ending(head: bytes) -> str | None:
    if head[4:8] == b"ftyp":
        return ".mp4"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return ".avi"
    marks = {
        b"\x1a\x45\xdf\xa3": ".mkv",
        b"\x00\x00\x01\xba": ".mpg",
        b"\x00\x00\x01\xb3": ".mpg",
        b"OggS": ".ogv",
        b"FLV\x01": ".flv",
        b"\x30\x26\xb2\x75": ".wmv",
        b"\x47": ".mts",
    }
    return next((ending for mark, ending in marks.items() if head.startswith(mark)), None)


def _split(name: str) -> tuple[str, str]:
    """A name without and with its ending; an ending that nothing here reads belongs to the name."""
    stem, ending = os.path.splitext(name)  # noqa: PTH122 - a name, not a path
    return (stem, ending) if kind_of(name) is not None else (name, "")


def _with_ending(name: str, ending: str) -> str:
    stem, own = _split(name)
    return name if own.lower() == ending else f"{stem}{ending}"
