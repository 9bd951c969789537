"""What type a file is of, told by its first bytes: names lie, and parsers can be attacked."""

from typing import BinaryIO

from retrieval.media import MediaKind
from retrieval.media.svg import is_svg

UNKNOWN = "application/octet-stream"
TEXT = "text/plain; charset=utf-8"

_HEAD = 4096

_SIGNATURES = (
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"BM", "image/bmp"),
    (0, b"II*\x00", "image/tiff"),
    (0, b"MM\x00*", "image/tiff"),
    (4, b"ftypavif", "image/avif"),
    (4, b"ftypavis", "image/avif"),
    (4, b"ftyphei", "image/heic"),
    (4, b"ftyphev", "image/heic"),
    (4, b"ftypmif1", "image/heif"),
    (4, b"ftypqt  ", "video/quicktime"),
    (4, b"ftyp", "video/mp4"),
    (8, b"AVI ", "video/x-msvideo"),
    (0, b"OggS", "video/ogg"),
    (0, b"FLV\x01", "video/x-flv"),
    (0, b"\x00\x00\x01\xba", "video/mpeg"),
    (0, b"\x00\x00\x01\xb3", "video/mpeg"),
    (0, b"%PDF-", "application/pdf"),
)
"""Where in a file, what, and the type of which that is the sign; the first that fits."""


def content_type(file: BinaryIO, kind: MediaKind) -> str:
    """Tell the media type of an open file, which is rewound.

    kind: the family of formats it was indexed as. Markup, HTML too, is plain text; SVG is known by
    its type, since no `<img>` shows it otherwise.
    """
    file.seek(0)
    head = file.read(_HEAD)
    file.seek(0)
    if kind in {MediaKind.TEXT, MediaKind.TABLE}:
        return UNKNOWN if b"\x00" in head else TEXT
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "video/webm" if b"webm" in head[:64] else "video/x-matroska"
    for offset, sign, name in _SIGNATURES:
        if head.startswith(sign, offset):
            return name
    return "image/svg+xml" if kind is MediaKind.IMAGE and is_svg(head, "") else UNKNOWN
