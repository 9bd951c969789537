"""Read XMP packets: what people and programs say of a picture."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree import ElementTree

from retrieval.media.dates import Moment, parse_date
from retrieval.media.svg import parse_xml

_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_DC = "{http://purl.org/dc/elements/1.1/}"
_EXIF = "{http://ns.adobe.com/exif/1.0/}"
_TIFF = "{http://ns.adobe.com/tiff/1.0/}"
_XMP = "{http://ns.adobe.com/xap/1.0/}"
_PHOTOSHOP = "{http://ns.adobe.com/photoshop/1.0/}"
_CORE = "{http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/}"
_EXTENSION = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
_LIGHTROOM = "{http://ns.adobe.com/lightroom/1.0/}"
_DIGIKAM = "{http://www.digikam.org/ns/1.0/}"
_MICROSOFT = "{http://ns.microsoft.com/photo/1.0/}"
_MICROSOFT_REGION = "{http://ns.microsoft.com/photo/1.2/t/Region#}"
_REGION = "{http://www.metadataworkinggroup.com/schemas/regions/}"
_MEDIA_PRO = "{http://ns.iview-multimedia.com/mediapro/1.0/}"

_HIERARCHIES = (
    (f"{_LIGHTROOM}hierarchicalSubject", "|"),
    (f"{_DIGIKAM}TagsList", "/"),
    (f"{_MICROSOFT}LastKeywordXMP", "/"),
    (f"{_MEDIA_PRO}CatalogSets", "|"),
)
_PLACES = (
    *(f"{_CORE}Location", f"{_PHOTOSHOP}City", f"{_PHOTOSHOP}State", f"{_PHOTOSHOP}Country"),
    *(f"{_EXTENSION}{name}" for name in ("Sublocation", "City", "ProvinceState", "CountryName")),
)
_DATES = {
    "original": (f"{_EXIF}DateTimeOriginal", f"{_PHOTOSHOP}DateCreated"),
    "digitized": (f"{_EXIF}DateTimeDigitized", f"{_XMP}CreateDate"),
    "place": (f"{_EXIF}GPSTimeStamp",),
    "modified": (f"{_TIFF}DateTime",),
}
_FROM_MICROSOFT = {"1": 1, "25": 2, "50": 3, "75": 4, "99": 5}
_DEGREES = re.compile(r"(-?[\d.]+)(?:,([\d.]+))?(?:,([\d.]+))?\s*([NSEW]?)", re.ASCII)


@dataclass
class Description:
    """What one source of metadata says; dates by what they are of, the best first in `DATES`."""

    dates: dict[str, Moment] = field(default_factory=dict)
    make: str = ""
    model: str = ""
    position: tuple[float, float] | None = None
    titles: list[str] = field(default_factory=list)
    descriptions: list[str] = field(default_factory=list)
    keywords: list[str] = field(default_factory=list)
    persons: list[str] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    rating: float | None = None
    label: str = ""


DATES = ("original", "digitized", "place", "modified")
"""What a date is of: the exposure, its scan, the receiver of GPS, the last change by a program."""


def read_xmp(packet: bytes) -> Description:
    """Read a packet. Raises ValueError for broken XML, and for any with a document type."""
    root = parse_xml(packet.strip(b"\0 \t\r\n"), doctype=False)
    properties = _properties(root)

    def first(*names: str) -> str:
        values = (value for name in names for value in properties.get(name, ()) if value.strip())
        return next(values, "")

    def several(*names: str) -> list[str]:
        return [value for name in names for value in properties.get(name, ())]

    dates = {}
    for of, names in _DATES.items():
        moments = (parse_date(value, is_utc=of == "place") for value in several(*names))
        if moment := next(filter(None, moments), None):
            dates[of] = moment
    return Description(
        dates,
        make=first(f"{_TIFF}Make"),
        model=first(f"{_TIFF}Model"),
        position=_position(first(f"{_EXIF}GPSLatitude"), first(f"{_EXIF}GPSLongitude")),
        titles=[first(f"{_DC}title"), first(f"{_PHOTOSHOP}Headline")],
        descriptions=[
            first(f"{_DC}description"),
            first(f"{_EXIF}UserComment"),
            first(f"{_CORE}AltTextAccessibility"),
        ],
        keywords=[*several(f"{_DC}subject"), *_hierarchical(properties)],
        persons=list(_persons(root, several(f"{_EXTENSION}PersonInImage"))),
        places=[_text_of(element) for element in root.iter() if element.tag in _PLACES]
        + [element.get(name, "") for element in root.iter() for name in _PLACES],
        rating=_rating(first(f"{_XMP}Rating"), first(f"{_MICROSOFT}Rating")),
        label=first(f"{_XMP}Label"),
    )


def _properties(root: ElementTree.Element) -> dict[str, list[str]]:
    """Return the values of each property, of an alternative that of the default language first."""
    found: dict[str, list[str]] = {}
    for rdf in root.iter(f"{_RDF}RDF"):
        for described in rdf.findall(f"{_RDF}Description"):
            for name, value in described.items():
                found.setdefault(name, []).append(value)
            for child in described:
                found.setdefault(child.tag, []).extend(_values(child))
    return found


def _values(element: ElementTree.Element) -> list[str]:
    items = list(element.iter(f"{_RDF}li"))
    # A text without its list is against the standard, and written all the same.
    items.sort(key=lambda item: item.get(_LANGUAGE) != "x-default")
    return ["".join(item.itertext()) for item in items] or [
        element.text or element.get(f"{_RDF}resource") or ""
    ]


def _text_of(element: ElementTree.Element) -> str:
    return "".join(element.itertext()).strip()


def _hierarchical(properties: dict[str, list[str]]) -> Iterator[str]:
    """Yield each level of keywords in levels, from the outermost."""
    for name, sign in _HIERARCHIES:
        for path in properties.get(name, ()):
            yield from path.split(sign)


def _persons(root: ElementTree.Element, named: list[str]) -> Iterator[str]:
    """Yield those named, and those of faces as the Metadata Working Group and Microsoft mark."""
    yield from named
    details = f"{_EXTENSION}PersonName"
    kinds = (f"{_REGION}Name", f"{_MICROSOFT_REGION}PersonDisplayName", details)
    for element in root.iter():
        told = {**element.attrib, **{child.tag: _text_of(child) for child in element}}
        if told.get(f"{_REGION}Type", "Face") in {"Face", "Pet"}:
            yield from (told[kind] for kind in kinds if kind in told)


def _rating(stars: str, microsoft: str) -> float | None:
    """Return stars from 0 to 5, or -1 for what was rejected."""
    try:
        rating = float(stars or _FROM_MICROSOFT.get(microsoft.strip(), "none"))
    except ValueError:
        return None
    return rating if -1 <= rating <= 5 else None


def _position(latitude: str, longitude: str) -> tuple[float, float] | None:
    degrees = _degrees(latitude, "NS", 90), _degrees(longitude, "EW", 180)
    if degrees[0] is None or degrees[1] is None or degrees == (0, 0):
        return None
    return degrees[0], degrees[1]


def _degrees(text: str, signs: str, most: float) -> float | None:
    """Read degrees as XMP writes them: `48,12.5N`, `48,12,30N`; or as a number with its sign."""
    found = _DEGREES.fullmatch(text.strip())
    if not found or (found[4] and found[4] not in signs):
        return None
    try:
        whole, minutes, seconds = (float(part or 0) for part in found.group(1, 2, 3))
    except ValueError:
        return None
    degrees = math.copysign(abs(whole) + minutes / 60 + seconds / 3600, whole)
    if minutes > 60 or seconds > 60 or abs(degrees) > most:
        return None
    return -degrees if found[4] == signs[1] else degrees
