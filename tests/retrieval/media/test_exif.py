import io
import struct
import zlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin

from retrieval.catalog import local_time
from retrieval.media import Metadata
from retrieval.media.exif import MOST_CHARACTERS, read_metadata

Base, GPS = ExifTags.Base, ExifTags.GPS


def encoded(kind: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(stream, kind, **options)
    return stream.getvalue()


def with_exif(
    base: dict[int, object] | None = None,
    shot: dict[int, object] | None = None,
    place: dict[int, object] | None = None,
    kind: str = "JPEG",
) -> bytes:
    exif = Image.Exif()
    exif.update(base or {})
    exif.get_ifd(ExifTags.IFD.Exif).update(shot or {})
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(place or {})
    return encoded(kind, exif=exif.tobytes())


def seconds(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_time_camera_and_place_of_every_format(kind):
    data = with_exif(
        {Base.Make: "Canon", Base.Model: "Canon EOS 5D", Base.DateTime: "2022:01:01 00:00:00"},
        {Base.DateTimeOriginal: "2021:05:06 07:08:09", Base.SubsecTimeOriginal: "50"},
        {
            GPS.GPSLatitudeRef: "S",
            GPS.GPSLatitude: (33.0, 51.0, 30.0),
            GPS.GPSLongitudeRef: "E",
            GPS.GPSLongitude: (151.0, 12.0, 36.0),
        },
        kind,
    )
    found = read_metadata(data)
    assert found.taken_at == seconds(2021, 5, 6, 7, 8, 9)
    assert found.camera == "Canon EOS 5D"
    assert found.latitude == pytest.approx(-33.858333)
    assert found.longitude == pytest.approx(151.21)
    assert found.date_source == "exif"


@pytest.mark.parametrize(
    ("base", "shot", "expected"),
    [
        ({}, {Base.DateTimeDigitized: "2020:02:29 01:02:03"}, (2020, 2, 29, 1, 2, 3)),
        ({Base.DateTime: "2020-02-29T01:02:03"}, {}, (2020, 2, 29, 1, 2, 3)),
        (
            {},
            {Base.DateTimeOriginal: "2020:01:01 01:00:00", Base.OffsetTimeOriginal: "+02:00"},
            (2019, 12, 31, 23, 0, 0),
        ),
        (
            {},
            {Base.DateTimeOriginal: "2020:01:01 01:00:00", Base.OffsetTimeOriginal: "-05:30"},
            (2020, 1, 1, 6, 30, 0),
        ),
        (
            {},
            {Base.DateTimeOriginal: "2020:01:01 01:00:00", Base.OffsetTimeOriginal: "+99:99"},
            (2020, 1, 1, 1, 0, 0),
        ),
        (
            {Base.DateTime: "2020:01:01 01:00:00"},
            {Base.DateTimeOriginal: "0000:00:00 00:00:00"},
            (2020, 1, 1, 1, 0, 0),
        ),
        ({Base.DateTime: "2020:02:30 01:02:03"}, {}, None),
        ({Base.DateTime: "yesterday"}, {}, None),
        ({Base.DateTime: "    :  :     :  :  "}, {}, None),
    ],
)
def test_the_time_it_was_taken(base, shot, expected):
    assert read_metadata(with_exif(base, shot)).taken_at == (expected and seconds(*expected))


@given(
    st.datetimes(datetime(1826, 1, 1), datetime(9999, 12, 31)),
    st.none() | st.integers(-14 * 60, 14 * 60),
)
def test_the_clock_of_the_camera_stays_as_it_was_whatever_its_zone(clock, ahead):
    clock = clock.replace(microsecond=0)
    shot = {Base.DateTimeOriginal: f"{clock.year:04}:{clock:%m:%d %H:%M:%S}"}
    if ahead is not None:
        sign, (hours, minutes) = "-" if ahead < 0 else "+", divmod(abs(ahead), 60)
        shot[Base.OffsetTimeOriginal] = f"{sign}{hours:02}:{minutes:02}"
    found = read_metadata(with_exif({}, shot))
    assert local_time(found.taken_local) == clock
    assert found.taken_local - found.taken_at == 60 * (ahead or 0)


@pytest.mark.parametrize(
    ("make", "model", "camera"),
    [
        ("NIKON CORPORATION", "NIKON D90", "NIKON D90"),
        ("Apple", "iPhone 12", "Apple iPhone 12"),
        ("Apple\0\0", " ", "Apple"),
        ("", "X100", "X100"),
        ("", "", None),
        ("Can\non", "a\x07b", "Can on a b"),
    ],
)
def test_the_camera_names_its_make_once(make, model, camera):
    assert read_metadata(with_exif({Base.Make: make, Base.Model: model})).camera == camera


def rational(numerator: int, denominator: int) -> TiffImagePlugin.IFDRational:
    return TiffImagePlugin.IFDRational(numerator, denominator)


@pytest.mark.parametrize(
    "change",
    [
        {GPS.GPSLatitude: (91.0, 0.0, 0.0)},
        {GPS.GPSLongitude: (180.0, 0.0, 1.0)},
        {GPS.GPSLatitude: (10.0, 61.0, 0.0)},
        {GPS.GPSLatitude: (rational(10, 0), rational(0, 1), rational(0, 1))},
        {GPS.GPSLatitude: (rational(0, 0), rational(0, 0), rational(0, 0))},
        {GPS.GPSLatitudeRef: "Q"},
        {GPS.GPSStatus: "V"},
        {GPS.GPSLatitude: (0.0, 0.0, 0.0), GPS.GPSLongitude: (0.0, 0.0, 0.0)},
    ],
)
def test_nonsense_is_no_place(change):
    place = {
        GPS.GPSLatitudeRef: "N",
        GPS.GPSLatitude: (10.0, 30.0, 0.0),
        GPS.GPSLongitudeRef: "W",
        GPS.GPSLongitude: (20.0, 0.0, 0.0),
    }
    found = read_metadata(with_exif(place=place))
    assert (found.latitude, found.longitude) == (10.5, -20.0)
    found = read_metadata(with_exif(place=place | change))
    assert (found.latitude, found.longitude) == (None, None)


def test_words_of_exif():
    data = with_exif(
        {
            Base.ImageDescription: "Ein Hund\nam Strand",
            Base.XPTitle: "Über uns 雪\0".encode("utf-16-le"),
            Base.XPComment: "ein hund am strand\0".encode("utf-16-le"),
            Base.XPKeywords: "dog; beach;dog\0".encode("utf-16-le"),
        }
    )
    assert read_metadata(data).text == "Über uns 雪\nEin Hund am Strand\ndog, beach"


def test_what_cameras_write_into_every_picture_is_no_description():
    assert (
        read_metadata(with_exif({Base.ImageDescription: "OLYMPUS DIGITAL CAMERA  "})).text is None
    )


def with_iptc(datasets: list[tuple[int, bytes]]) -> bytes:
    iptc = b"".join(
        struct.pack(">BBBH", 0x1C, 2, dataset, len(data)) + data for dataset, data in datasets
    )
    block = b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
    segment = b"Photoshop 3.0\0" + block
    plain = encoded()
    return plain[:2] + b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]


def test_words_of_iptc():
    data = with_iptc(
        [
            (5, b"Name"),
            (105, "Schöner Hund".encode()),
            (120, "Am Fluß".encode("latin-1")),
            (25, b"dog"),
            (25, b"river"),
        ]
    )
    assert read_metadata(data).text == "Name\nSchöner Hund\nAm Fluß\ndog, river"
    assert read_metadata(with_iptc([(25, b"alone")])).text == "alone"


XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
 xmlns:dc="http://purl.org/dc/elements/1.1/"><rdf:Description rdf:about="">
<dc:title><rdf:Alt><rdf:li xml:lang="de">Hund</rdf:li><rdf:li xml:lang="x-default">A dog</rdf:li>
</rdf:Alt></dc:title>
<dc:description><rdf:Alt><rdf:li xml:lang="x-default">It runs &amp; runs</rdf:li></rdf:Alt>
</dc:description>
<dc:subject><rdf:Bag><rdf:li>dog</rdf:li><rdf:li>grass</rdf:li></rdf:Bag></dc:subject>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "TIFF"])
def test_words_of_xmp(kind):
    options: dict[str, object] = {"xmp": XMP.encode()}
    if kind == "TIFF":
        options = {"tiffinfo": {700: XMP.encode()}}
    assert read_metadata(encoded(kind, **options)).text == "A dog\nIt runs & runs\ndog, grass"


@pytest.mark.parametrize(
    "declared", ['<!ENTITY a "dog">', '<!ENTITY a SYSTEM "file:///etc/passwd">', ""]
)
def test_xmp_with_a_document_type_is_refused(declared):
    assert read_metadata(encoded(xmp=XMP.encode())).text is not None
    start = XMP.index("<x:xmpmeta")
    hostile = XMP[:start] + f"<!DOCTYPE x [{declared}]>" + XMP[start:]
    assert read_metadata(encoded(xmp=hostile.encode())).text is None


@pytest.mark.parametrize("behind", [False, True])
def test_words_and_time_of_png_also_behind_the_pixels(behind):
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "Schnee")
    info.add_itxt("Description", "雪", zip=True)
    info.add_text("Keywords", "snow, white", zip=True)
    info.add_itxt("XML:com.adobe.xmp", XMP)
    exif = Image.Exif()
    exif[Base.DateTime] = "2020:01:01 00:00:00"
    data = encoded("PNG", pnginfo=info, exif=exif)
    if behind:
        data = pixels_first(data)
    found = read_metadata(data)
    assert found.text == "A dog\nSchnee\nIt runs & runs\n雪\ndog, grass, snow, white"
    assert found.taken_at == seconds(2020, 1, 1)


def pixels_first(png: bytes) -> bytes:
    """The same PNG with its pixels right behind the size."""
    chunks, at = [], 8
    while at < len(png):
        [length] = struct.unpack_from(">I", png, at)
        chunks.append(png[at : at + length + 12])
        at += length + 12
    order = {b"IHDR": 0, b"IDAT": 1, b"IEND": 3}
    chunks.sort(key=lambda chunk: order.get(chunk[4:8], 2))
    return png[:8] + b"".join(chunks)


def test_pixels_are_not_needed():
    broken = encoded("PNG")
    at = broken.index(b"IDAT") + 4
    broken = broken[:at] + b"\xff" * 8 + broken[at + 8 :]
    text = b"Title\0Snow"
    chunk = (
        struct.pack(">I", len(text))
        + b"tEXt"
        + text
        + struct.pack(">I", zlib.crc32(b"tEXt" + text))
    )
    assert read_metadata(broken[:-12] + chunk + broken[-12:]).text == "Snow"


def test_title_and_description_of_a_drawing():
    svg = b"""<svg xmlns="http://www.w3.org/2000/svg"><title>Map</title>
    <desc>of the <i>old</i> town</desc><g><title>inner</title></g></svg>"""
    assert read_metadata(svg).text == "Map\nof the old town"


def test_control_characters_go_and_lengths_are_bounded():
    info = PngImagePlugin.PngInfo()
    info.add_itxt("Title", "a\x00\x1b[31m\u202eb\u2028c\x85d")
    info.add_itxt("Description", "x" * 50_000)
    info.add_itxt("Keywords", ",".join(f"k{number}" for number in range(20_000)))
    title, description, keywords = read_metadata(encoded("PNG", pnginfo=info)).text.split("\n")
    assert title == "a [31mb c d"
    assert description == "x" * MOST_CHARACTERS
    assert len(keywords) <= MOST_CHARACTERS


def test_a_file_is_read_by_path_and_a_missing_one_is_an_os_error(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(with_exif({Base.Model: "Box"}))
    assert read_metadata(path).camera == read_metadata(str(path)).camera == "Box"
    with path.open("rb") as file:
        assert read_metadata(file).camera == "Box"
    with pytest.raises(FileNotFoundError):
        read_metadata(tmp_path / "nowhere.jpg")


@pytest.mark.parametrize(
    "data", [b"", b"text", b"<svg", b"\x89PNG\r\n\x1a\n", b"II*\0\xff\xff\xff\xff"]
)
@pytest.mark.parametrize("name", ["", "a.nef", "a.svg"])
def test_what_is_no_image_says_nothing(data, name):
    assert read_metadata(data, name=name) == Metadata()


WHOLE = with_exif(
    {Base.Make: "Canon", Base.ImageDescription: "a dog"},
    {Base.DateTimeOriginal: "2021:05:06 07:08:09"},
    {GPS.GPSLatitudeRef: "S", GPS.GPSLatitude: (33.0, 51.0, 30.0)},
)


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), min_size=1, max_size=30))
def test_broken_exif_never_raises(changes):
    data = bytearray(WHOLE)
    for position, value in changes:
        data[position] = value
    found = read_metadata(bytes(data))
    assert found.text is None or len(found.text) < 3 * MOST_CHARACTERS + 3
