"""Read the metadata of image files: EXIF, IPTC, XMP and PNG texts."""

import io
import itertools
import math
import os
import re
import struct
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO, ParamSpec, TypeVar
from xml.etree import ElementTree

from PIL import ExifTags, Image, IptcImagePlugin

from retrieval.errors import UnreadableFileError
from retrieval.media import Metadata, clock_seconds
from retrieval.media.images import Source, open_image, opened
from retrieval.media.raw import CameraRaw
from retrieval.media.registry import RAW, format_of, is_svg, read_head
from retrieval.media.svg import MOST_SVG_BYTES, parse_svg, parse_xml

MOST_CHARACTERS = 10_000
"""Maximum length of a title, a description or all keywords."""

_MOST_XMP_BYTES = 1 << 20
_MOST_HEADER_BYTES = 16 << 20
_MOST_KEYWORDS = 1000

_FIRST_PHOTOGRAPH = 1826

_DATE_TIME = re.compile(r"(\d{4})\D(\d\d)\D(\d\d)[ T](\d\d):(\d\d)(?::(\d\d))?")
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)")

_TIMES = (  # the time and its offset from UTC
    (ExifTags.Base.DateTimeOriginal, ExifTags.Base.OffsetTimeOriginal),
    (ExifTags.Base.DateTimeDigitized, ExifTags.Base.OffsetTimeDigitized),
    (ExifTags.Base.DateTime, ExifTags.Base.OffsetTime),
)

_WRITTEN_BY_CAMERAS = {"olympus digital camera", "sony dsc", "dsc", "digital camera", "default"}
"""Default descriptions that cameras write into every image."""

_DC = "{http://purl.org/dc/elements/1.1/}"
_RDF_ITEM = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"

_DIRECTION_OVERRIDES = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_Tags = Mapping[int, Any]
_P = ParamSpec("_P")
_T = TypeVar("_T")


def read_metadata(source: Source | Image.Image, *, name: str | None = None) -> Metadata:
    """Read the metadata of an image file, or of a Pillow image opened from one.

    Fields that cannot be read are None: broken metadata is no error. Only headers are decoded.
    name: of the file, where the source has none. Raises OSError when the file cannot be opened.
    """
    if isinstance(source, Image.Image):
        return _of_image(source)
    with opened(source, name) as (file, known_name):
        return _of_file(file, known_name)


def _of_file(file: BinaryIO, name: str) -> Metadata:
    try:
        head = read_head(file)
        if is_svg(head, name):
            return _of_svg(parse_svg(file.read(MOST_SVG_BYTES + 1)))
        if head.startswith(_PNG_SIGNATURE):
            file = _without_pixels(file)
        if format_of(name) is not RAW:
            with open_image(file) as image:
                return _of_image(image)
        return _of_raw(file)
    except Exception:  # noqa: BLE001 - broken files come in every form, and none stops a run
        return Metadata()


def _of_raw(file: BinaryIO) -> Metadata:
    """Read the TIFF header if there is one, else the embedded preview."""
    try:
        with open_image(file) as image:
            metadata = _of_image(image)
    except UnreadableFileError:
        metadata = Metadata()
    if metadata != Metadata():
        return metadata
    file.seek(0)
    with CameraRaw(file) as raw:
        preview = raw.preview()
    return _of_file(io.BytesIO(preview), "") if isinstance(preview, bytes) else metadata


def _of_svg(root: ElementTree.Element) -> Metadata:
    texts: dict[str, str] = {}
    for child in root:
        texts.setdefault(child.tag.rpartition("}")[2], "".join(child.itertext()))
    return Metadata(text=_text([texts.get("title", "")], [texts.get("desc", "")], []))


def _of_image(image: Image.Image) -> Metadata:
    base: _Tags = _tried(image.getexif) or {}
    shot: _Tags = _tried(_directory, image, ExifTags.IFD.Exif) or {}
    place: _Tags = _tried(_directory, image, ExifTags.IFD.GPSInfo) or {}
    position = _tried(_position, place)
    taken_at, taken_local = _tried(_taken, {**base, **shot}) or (None, None)
    return Metadata(
        taken_at=taken_at,
        camera=_tried(_camera, base),
        latitude=position[0] if position else None,
        longitude=position[1] if position else None,
        text=_tried(_words, image, base),
        taken_local=taken_local,
    )


def _tried(function: Callable[_P, _T], *arguments: _P.args, **options: _P.kwargs) -> _T | None:
    """Return the result, or None where broken metadata raised an error."""
    try:
        return function(*arguments, **options)
    except Exception:  # noqa: BLE001 - broken metadata comes in every form
        return None


def _directory(image: Image.Image, which: ExifTags.IFD) -> _Tags:
    return image.getexif().get_ifd(which)


def _taken(tags: _Tags) -> tuple[int, int] | None:
    """Return the instant and the camera's local time of the first date that is one, in seconds."""
    for time_tag, offset_tag in _TIMES:
        found = _DATE_TIME.match(_decoded(tags.get(time_tag)))
        if not found:
            continue
        try:
            clock = datetime(*(int(part or 0) for part in found.groups()), tzinfo=UTC)  # type: ignore[arg-type, misc]
        except ValueError:
            continue
        if clock.year < _FIRST_PHOTOGRAPH:
            continue
        ahead = timedelta(0)
        if offset := _OFFSET.match(_decoded(tags.get(offset_tag))):
            sign, hours, minutes = offset.groups()
            offset_given = timedelta(hours=int(hours), minutes=int(minutes))
            if offset_given <= timedelta(hours=14):
                ahead = offset_given if sign == "+" else -offset_given
        taken_local = clock_seconds(clock)
        return taken_local - int(ahead.total_seconds()), taken_local
    return None


def _camera(tags: _Tags) -> str | None:
    make, model = (
        _clean(_decoded(tags.get(tag))) for tag in (ExifTags.Base.Make, ExifTags.Base.Model)
    )
    brand = make.split()[0].lower() if make else ""
    doubled = model.lower().split()[:1] == [brand]
    return (model if doubled else f"{make} {model}".strip())[:200] or None


def _position(tags: _Tags) -> tuple[float, float] | None:
    """Return degrees north and east; None if no receiver measured them, as for exactly 0, 0."""
    if _decoded(tags.get(ExifTags.GPS.GPSStatus)).upper() == "V":
        return None
    latitude = _degrees(
        tags.get(ExifTags.GPS.GPSLatitude), tags.get(ExifTags.GPS.GPSLatitudeRef), "NS", 90
    )
    longitude = _degrees(
        tags.get(ExifTags.GPS.GPSLongitude), tags.get(ExifTags.GPS.GPSLongitudeRef), "EW", 180
    )
    if latitude is None or longitude is None or latitude == longitude == 0:
        return None
    return latitude, longitude


def _degrees(parts: Any, reference: Any, signs: str, most: float) -> float | None:
    sign = _decoded(reference).upper()[:1]
    values = [float(part) for part in parts or ()]
    if not sign or sign not in signs or not 1 <= len(values) <= 3:
        return None
    if not all(math.isfinite(value) and value >= 0 for value in values):
        return None
    if any(value > 60 for value in values[1:]):
        return None
    degrees: float = sum(value / 60**power for power, value in enumerate(values))
    if degrees > most:
        return None
    return -degrees if sign == signs[1] else degrees


def _words(image: Image.Image, tags: _Tags) -> str | None:
    info = {str(key).lower(): value for key, value in image.info.items()}
    xmp = _tried(_xmp, image, tags) or ([], [], [])
    iptc = _tried(IptcImagePlugin.getiptcinfo, image) or {}  # type: ignore[arg-type]

    def from_iptc(*datasets: int) -> Iterator[str]:
        for dataset in datasets:
            value = iptc.get((2, dataset), ())
            yield from map(_decoded, value if isinstance(value, list) else [value])

    titles = [
        *xmp[0],
        *from_iptc(5, 105),
        _utf16(tags.get(ExifTags.Base.XPTitle)),
        _decoded(info.get("title")),
    ]
    descriptions = [
        *xmp[1],
        *from_iptc(120),
        _decoded(tags.get(ExifTags.Base.ImageDescription)),
        _utf16(tags.get(ExifTags.Base.XPSubject)),
        _utf16(tags.get(ExifTags.Base.XPComment)),
        _decoded(info.get("description")),
    ]
    keywords = [
        *xmp[2],
        *from_iptc(25),
        *_utf16(tags.get(ExifTags.Base.XPKeywords)).split(";"),
        *re.split(r"[;,]", _decoded(info.get("keywords"))),
    ]
    return _text(titles, descriptions, keywords)


def _text(
    titles: Iterable[str], descriptions: Iterable[str], keywords: Iterable[str]
) -> str | None:
    """Join titles and descriptions, a line each, and the keywords, without duplicates."""
    seen: set[str] = set()

    def new(texts: Iterable[str]) -> Iterator[str]:
        for text in texts:
            cleaned = _clean(text)
            if cleaned and cleaned.lower() not in seen | _WRITTEN_BY_CAMERAS:
                seen.add(cleaned.lower())
                yield cleaned

    lines = [*new(titles), *new(descriptions)]
    words = itertools.islice(new(keywords), _MOST_KEYWORDS)
    if joined := ", ".join(words)[:MOST_CHARACTERS]:
        lines.append(joined)
    return "\n".join(lines) or None


def _xmp(image: Image.Image, tags: _Tags) -> tuple[list[str], list[str], list[str]]:
    """Read title, description and subjects of Dublin Core, each in its default language."""
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or tags.get(700) or b""
    data = packet.encode() if isinstance(packet, str) else bytes(packet)
    if not data or len(data) > _MOST_XMP_BYTES:
        return [], [], []
    root = parse_xml(data.strip(b"\0 \t\r\n"), doctype=False)

    def values(name: str) -> list[str]:
        found: list[str] = []
        for element in root.iter(_DC + name):
            items = list(element.iter(_RDF_ITEM))
            # A text without its list is against the standard, and written all the same.
            items.sort(key=lambda item: item.get(_LANGUAGE) != "x-default")
            found += ["".join(item.itertext()) for item in items] or [element.text or ""]
        return found

    return values("title")[:1], values("description")[:1], values("subject")


def _decoded(value: object) -> str:
    """Decode text of EXIF, IPTC or PNG: UTF-8 if valid, whatever the standard says, or Latin-1."""
    if isinstance(value, str):
        try:
            value = value.encode("latin-1")
        except UnicodeEncodeError:
            return str(value)
    if not isinstance(value, bytes):
        return ""
    try:
        return value.decode("utf-8").strip("\0 ")
    except UnicodeDecodeError:
        return value.decode("latin-1").strip("\0 ")


def _utf16(value: object) -> str:
    """Decode the tags that Windows writes: UTF-16, little-endian."""
    if isinstance(value, tuple):
        value = bytes(value)
    return value.decode("utf-16-le", errors="ignore") if isinstance(value, bytes) else ""


def _clean(text: str) -> str:
    """Return one line without control characters, of at most `MOST_CHARACTERS`."""
    # Ten times more than is kept, so that little text behind many spaces is found, in bounded time.
    begun = text[: 10 * MOST_CHARACTERS]
    kept = (
        " " if unicodedata.category(character) in {"Cc", "Cs", "Cn", "Zl", "Zp"} else character
        for character in begun
        if unicodedata.bidirectional(character) not in _DIRECTION_OVERRIDES
    )
    return " ".join("".join(kept).split())[:MOST_CHARACTERS].rstrip()


def _without_pixels(file: BinaryIO) -> io.BytesIO:
    """Drop the pixels of a PNG: Pillow would decode them to reach the headers behind them."""
    file.seek(len(_PNG_SIGNATURE))
    chunks = [_PNG_SIGNATURE]
    left = _MOST_HEADER_BYTES
    while len(header := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        if kind == b"IEND":
            break
        if kind in {b"IDAT", b"fdAT"} or length > left:
            file.seek(length + 4, os.SEEK_CUR)
        else:
            left -= length
            chunks.append(header + file.read(length + 4))
    chunks += [struct.pack(">I4sI", 0, kind, zlib.crc32(kind)) for kind in (b"IDAT", b"IEND")]
    return io.BytesIO(b"".join(chunks))
