"""Read the metadata of image files: EXIF, XMP, IPTC, PNG texts and GIF comments."""

import io
import itertools
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from typing import Any, BinaryIO
from xml.etree import ElementTree

from retrieval.errors import MissingExtraError, UnreadableFileError
from retrieval.media import Metadata
from retrieval.media.blocks import Blocks, find_blocks
from retrieval.media.dates import FIRST_PHOTOGRAPH, Moment, parse_date
from retrieval.media.images import Source, opened
from retrieval.media.raw import CameraRaw
from retrieval.media.registry import RAW, format_of, is_svg, read_head
from retrieval.media.svg import MOST_SVG_BYTES, parse_svg
from retrieval.media.tiff_tags import Tags
from retrieval.media.xmp import DATES, Description, read_xmp

MOST_CHARACTERS = 10_000
"""Maximum length of a title, a description or all keywords."""

_MOST_KEYWORDS = 1000
_LONGEST_VALUE = 200

_MAKE, _MODEL, _IMAGE_DESCRIPTION, _RATING, _RATING_PERCENT = 271, 272, 270, 18246, 18249
_XP_TITLE, _XP_COMMENT, _XP_KEYWORDS, _XP_SUBJECT, _USER_COMMENT = 40091, 40092, 40094, 40095, 37510
_EXIF_DATES = {"original": (36867, 36881), "digitized": (36868, 36882), "modified": (306, 36880)}
"""The tag of a time, and that of its offset from UTC."""
_GPS_TIME, _GPS_STATUS, _GPS_DATE = 7, 9, 29

_USER_COMMENTS = {b"ASCII\0\0\0": "", b"UNICODE\0": "utf-16", b"JIS\0\0\0\0\0": "iso2022_jp"}
_STARS_OF_PERCENT = {1: 1, 25: 2, 50: 3, 75: 4, 99: 5}

_WRITTEN_BY_CAMERAS = {"olympus digital camera", "sony dsc", "dsc", "digital camera", "default"}
"""Default descriptions that cameras write into every image."""

_DIRECTION_OVERRIDES = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def read_metadata(source: Source, *, name: str | None = None) -> Metadata:
    """Read the metadata of an image file: that of `read_noted`, without its notes."""
    return read_noted(source, name=name)[0]


def read_noted(source: Source, *, name: str | None = None) -> tuple[Metadata, tuple[str, ...]]:
    """Read the metadata of an image file, and tell what of it was damaged.

    Fields that cannot be read are None: broken metadata is no error. No picture is decoded. Of
    several blocks EXIF comes first, then XMP, IPTC and texts.

    Args:
        source: Path, content or open file.
        name: Of the file, where the source has none.

    Returns:
        The metadata, and notes.

    Raises:
        OSError: The file cannot be opened.
    """
    with opened(source, name) as (file, known_name):
        try:
            return _of_file(file, known_name)
        except Exception as error:  # noqa: BLE001 - broken files come in every form, and none stops a run
            return Metadata(), (f"its metadata cannot be read ({type(error).__name__})",)


def _of_file(file: BinaryIO, name: str) -> tuple[Metadata, tuple[str, ...]]:
    head = read_head(file)
    if is_svg(head, name):
        return _of_svg(file), ()
    blocks = find_blocks(file)
    sources = descriptions_of(blocks)
    if format_of(name) is RAW and not (_date(sources) and _camera(sources)):
        sources += _of_raw(file)
    return metadata_of(sources), tuple(dict.fromkeys(blocks.problems))


def _of_svg(file: BinaryIO) -> Metadata:
    try:
        root: ElementTree.Element = parse_svg(file.read(MOST_SVG_BYTES + 1))
    except UnreadableFileError:
        return Metadata()
    texts: dict[str, str] = {}
    for child in root:
        texts.setdefault(child.tag.rpartition("}")[2], "".join(child.itertext()))
    described = Description(titles=[texts.get("title", "")], descriptions=[texts.get("desc", "")])
    return metadata_of([("svg", described)])


Sources = list[tuple[str, Description]]
"""What was found, by the name of its kind (`Metadata.date_source`); the first that says counts."""


def _of_raw(file: BinaryIO) -> Sources:
    """Read what the embedded preview says, then the time that LibRaw finds in its own ways."""
    file.seek(0)
    try:
        with CameraRaw(file) as raw:
            preview, timestamp = raw.preview(), raw.timestamp
    except (UnreadableFileError, MissingExtraError):
        return []
    sources: Sources = []
    if isinstance(preview, bytes):
        sources += descriptions_of(find_blocks(io.BytesIO(preview)))
    if timestamp is not None and timestamp.year > FIRST_PHOTOGRAPH:
        clock = int(timestamp.replace(tzinfo=UTC).timestamp())
        sources.append(("exif", Description(dates={"original": (clock, clock)})))
    return sources


def descriptions_of(blocks: Blocks) -> Sources:
    """Read the blocks of a file; what is broken is told in their problems."""
    sources: Sources = [("exif", _of_tags(tags.picture, tags.place)) for tags in blocks.tiff]
    for packet in blocks.xmp:
        try:
            sources.append(("xmp", read_xmp(packet)))
        except ValueError as error:
            blocks.problems.append(f"its XMP cannot be read ({str(error)[:100]})")
    sources += [("iptc", _of_iptc(data)) for data in blocks.iptc]
    if blocks.texts:
        sources.append(("text", _of_texts(blocks.texts)))
    return sources


def metadata_of(sources: Sequence[tuple[str, Description]]) -> Metadata:
    """Join descriptions: of each field the first counts; words, keywords and persons are united."""
    said = [description for _, description in sources]
    dated = _date(sources)
    position = next((one.position for one in said if one.position), None)
    keywords = _unique(itertools.chain.from_iterable(one.keywords for one in said))
    persons = _unique(itertools.chain.from_iterable(one.persons for one in said))
    label = next((_clean(one.label) for one in said if _clean(one.label)), "")
    return Metadata(
        taken_at=dated[1][0] if dated else None,
        camera=_camera(sources),
        latitude=position[0] if position else None,
        longitude=position[1] if position else None,
        text=_text(said, keywords, persons),
        taken_local=dated[1][1] if dated else None,
        date_source=dated[0] if dated else None,
        columns=_columns_of(
            rating=next((one.rating for one in said if one.rating is not None), None),
            label=label,
            keywords=keywords,
            persons=persons,
        ),
    )


def joined(first: Metadata, second: Metadata) -> Metadata:
    """Join metadata: what the first does not say, the second does."""
    dated = second if first.taken_at is None else first
    placed = second if first.latitude is None else first
    lines = "\n".join(filter(None, (first.text, second.text))).split("\n")
    text = "\n".join(dict.fromkeys(filter(None, lines)))[: 4 * MOST_CHARACTERS]
    one, other = first.columns or {}, second.columns or {}
    return replace(
        second,
        taken_at=dated.taken_at,
        taken_local=dated.taken_local,
        date_source=dated.date_source,
        latitude=placed.latitude,
        longitude=placed.longitude,
        camera=second.camera or first.camera,
        text=text or None,
        columns=_columns_of(
            rating=one.get("rating", other.get("rating")),
            label=one.get("label", other.get("label", "")),
            keywords=_united(one, other, "keyword"),
            persons=_united(one, other, "person"),
        ),
    )


def _united(one: dict[str, Any], other: dict[str, Any], name: str) -> list[str]:
    values = {value.lower(): value for value in (*other.get(name, ()), *one.get(name, ()))}
    return list(values.values())


def _columns_of(
    *, rating: float | None, label: str, keywords: Sequence[str], persons: Sequence[str]
) -> dict[str, Any] | None:
    """Return what filters and facets know of a file, as a table's row would say it; or None."""
    told: dict[str, Any] = {}
    if rating is not None:
        told["rating"] = int(rating) if rating == int(rating) else rating
    if label:
        told["label"] = label[:_LONGEST_VALUE]
    for name, values in (("keyword", keywords), ("person", persons)):
        if values:
            told[name] = [value[:_LONGEST_VALUE] for value in values]
    return told or None


def _date(sources: Sequence[tuple[str, Description]]) -> tuple[str, Moment] | None:
    """Return the best date, and what says it."""
    for of in DATES:
        for source, description in sources:
            if moment := description.dates.get(of):
                return "gps" if of == "place" else source, moment
    return None


def _camera(sources: Sequence[tuple[str, Description]]) -> str | None:
    for _, description in sources:
        make, model = _clean(description.make), _clean(description.model)
        brand = make.split()[0].lower() if make else ""
        doubled = model.lower().split()[:1] == [brand]
        if name := (model if doubled else f"{make} {model}".strip())[:_LONGEST_VALUE]:
            return name
    return None


def _of_tags(tags: Tags, place: Tags) -> Description:
    dates: dict[str, Moment] = {}
    for of, (time_tag, offset_tag) in _EXIF_DATES.items():
        moment = parse_date(_decoded(tags.get(time_tag)), _decoded(tags.get(offset_tag)))
        if moment:
            dates[of] = moment
    if moment := _satellite_time(place):
        dates["place"] = moment
    return Description(
        dates,
        make=_decoded(tags.get(_MAKE)),
        model=_decoded(tags.get(_MODEL)),
        position=_position(place),
        titles=[_utf16(tags.get(_XP_TITLE))],
        descriptions=[
            _decoded(tags.get(_IMAGE_DESCRIPTION)),
            _utf16(tags.get(_XP_SUBJECT)),
            _utf16(tags.get(_XP_COMMENT)),
            _user_comment(tags.get(_USER_COMMENT)),
        ],
        keywords=_utf16(tags.get(_XP_KEYWORDS)).split(";"),
        rating=_stars(tags),
    )


def _stars(tags: Tags) -> float | None:
    stars, percent = tags.get(_RATING), tags.get(_RATING_PERCENT)
    if isinstance(stars, tuple) and stars and 0 < stars[0] <= 5:
        return float(stars[0])
    if isinstance(percent, tuple) and percent:
        return _STARS_OF_PERCENT.get(percent[0])
    return None


def _satellite_time(place: Tags) -> Moment | None:
    """Return the time of a receiver, in UTC; at midnight where it told the date only."""
    date, parts = _decoded(place.get(_GPS_DATE)), place.get(_GPS_TIME)
    try:
        hour, minute, second = (int(part) for part in parts or ())
    except (ValueError, TypeError, OverflowError):
        hour = minute = second = 0
    return parse_date(f"{date} {hour:02}:{minute:02}:{second:02}", is_utc=True) if date else None


def _position(place: Tags) -> tuple[float, float] | None:
    """Return degrees north and east; None if no receiver measured them, as for exactly 0, 0."""
    if _decoded(place.get(_GPS_STATUS)).upper() == "V":
        return None
    latitude = _degrees(place.get(2), place.get(1), "NS", 90)
    longitude = _degrees(place.get(4), place.get(3), "EW", 180)
    if latitude is None or longitude is None or latitude == longitude == 0:
        return None
    return latitude, longitude


def _degrees(parts: Any, reference: Any, signs: str, most: float) -> float | None:
    """Sum degrees, minutes and seconds; without a reference their own sign tells."""
    sign = _decoded(reference).strip().upper()[:1]
    if not isinstance(parts, tuple) or (sign and sign not in signs):
        return None
    values = [float(part) for part in parts]
    if not 1 <= len(values) <= 3 or not all(math.isfinite(value) for value in values):
        return None
    is_negative = any(value < 0 for value in values)
    values = [abs(value) for value in values]
    if any(value > 60 for value in values[1:]):
        return None
    degrees: float = sum(value / 60**power for power, value in enumerate(values))
    if degrees > most:
        return None
    return -degrees if (sign == signs[1]) or (is_negative and not sign) else degrees


def _of_iptc(data: bytes) -> Description:
    """Read the records of the Information Interchange Model (IPTC-IIM 4.2), application record."""
    found: dict[int, list[str]] = {}
    at = 0
    while at + 5 <= len(data) and data[at] == 0x1C:
        record, dataset = data[at + 1], data[at + 2]
        size = int.from_bytes(data[at + 3 : at + 5], "big")
        at += 5
        if size & 0x8000:  # of so many bytes is the size itself
            digits = size & 0x7FFF
            size = int.from_bytes(data[at : at + digits], "big")
            at += digits
        if record == 2:
            found.setdefault(dataset, []).append(_decoded(data[at : at + size]))
        at += size

    def first(dataset: int) -> str:
        return next(iter(found.get(dataset, ())), "")

    dates = {}
    for of, date, time in (("original", 55, 60), ("digitized", 62, 63)):
        if moment := parse_date(f"{first(date)} {_iptc_time(first(time))}"):
            dates[of] = moment
    return Description(
        dates,
        titles=[first(5), first(105)],
        descriptions=[first(120)],
        keywords=found.get(25, []),
        places=[first(dataset) for dataset in (92, 90, 95, 101)],
    )


def _iptc_time(text: str) -> str:
    """Write a time such as `101500+0200` with the signs between its numbers."""
    found = re.match(r"(\d\d)(\d\d)(\d\d)([+-]\d{4})?", text, re.ASCII)
    return f"{found[1]}:{found[2]}:{found[3]}{found[4] or ''}" if found else ""


def _of_texts(texts: Mapping[str, str | bytes]) -> Description:
    """Read the texts of PNG by their usual keywords, and the comment of a GIF."""
    known = {key: _decoded(value) for key, value in texts.items()}
    # ImageMagick's `date:create` is the time of a file, not of a picture.
    dates = (known.get(key, "") for key in ("creation time", "exif:datetimeoriginal"))
    taken = next(filter(None, map(parse_date, dates)), None)
    return Description(
        {"digitized": taken} if taken else {},
        titles=[known.get("title", "")],
        descriptions=[known.get("description", ""), known.get("comment", "")],
        keywords=re.split(r"[;,]", known.get("keywords", "")),
    )


def _text(said: Sequence[Description], keywords: list[str], persons: list[str]) -> str | None:
    """Join titles and descriptions, a line each, keywords, persons and place, without repeating."""
    seen: set[str] = set()

    def new(texts: Iterable[str]) -> Iterator[str]:
        for text in texts:
            cleaned = _clean(text)
            if cleaned and cleaned.lower() not in seen | _WRITTEN_BY_CAMERAS:
                seen.add(cleaned.lower())
                yield cleaned

    lines = [
        *new(title for one in said for title in one.titles),
        *new(text for one in said for text in one.descriptions),
    ]
    lists = (keywords, persons, [place for one in said for place in one.places])
    lines += [", ".join(new(values))[:MOST_CHARACTERS] for values in lists]
    return "\n".join(filter(None, lines)) or None


def _unique(values: Iterable[str]) -> list[str]:
    """Clean values, and leave out those that were there before, whatever their case."""
    found: dict[str, str] = {}
    for value in values:
        if (cleaned := _clean(value)) and len(found) < _MOST_KEYWORDS:
            found.setdefault(cleaned.lower(), cleaned)
    return list(found.values())


def _decoded(value: object) -> str:
    """Decode text of EXIF, IPTC or PNG: UTF-8 if valid, whatever the standard says, or Latin-1."""
    if isinstance(value, str):
        return value
    if not isinstance(value, bytes):
        return ""
    try:
        return value.decode("utf-8").strip("\0 ")
    except UnicodeDecodeError:
        return value.decode("latin-1").strip("\0 ")


def _utf16(value: object) -> str:
    """Decode the tags that Windows writes: UTF-16, little-endian."""
    return value.decode("utf-16-le", errors="ignore") if isinstance(value, bytes) else ""


def _user_comment(value: object) -> str:
    """Decode the comment of EXIF, whose first eight bytes name its characters."""
    if not isinstance(value, bytes):
        return ""
    encoding = _USER_COMMENTS.get(value[:8])
    text = value[8:] if encoding is not None or not value[:8].strip(b"\0") else value
    if not encoding:
        return _decoded(text)
    if encoding == "utf-16":
        # Without a mark, by where the zeros of Latin letters lie: programs disagree on the order.
        zeros = text[::2].count(0), text[1::2].count(0)
        marked = text.startswith((b"\xff\xfe", b"\xfe\xff"))
        encoding = "utf-16" if marked else ("utf-16-be" if zeros[0] > zeros[1] else "utf-16-le")
    return text.decode(encoding, errors="ignore").strip("\0 ")


def _clean(text: str) -> str:
    """Return one line without control characters, of at most `MOST_CHARACTERS`."""
    # Ten times more than is kept, so that little text behind many spaces is found, in bounded time.
    begun = text[: 10 * MOST_CHARACTERS]
    if begun.isascii() and begun.isprintable():
        return " ".join(begun.split())[:MOST_CHARACTERS].rstrip()
    kept = (
        " " if unicodedata.category(character) in {"Cc", "Cs", "Cn", "Zl", "Zp"} else character
        for character in begun
        if unicodedata.bidirectional(character) not in _DIRECTION_OVERRIDES
    )
    return " ".join("".join(kept).split())[:MOST_CHARACTERS].rstrip()
