import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from retrieval.media.tiff_tags import is_tiff, read_place_directory, read_tiff

EXIF, GPS = 34665, 34853
CODES = {2: "s", 3: "H", 4: "I", 5: "II", 7: "s", 10: "ii"}


def directory(entries: list[tuple[int, int, object]], at: int, order: str = "<") -> bytes:
    """A directory of (tag, type, values) at an offset, and its values behind it."""
    table, data = struct.pack(f"{order}H", len(entries)), b""
    start = at + 2 + 12 * len(entries) + 4
    for tag, kind, values in sorted(entries):
        if isinstance(values, bytes):
            count, value = len(values), values
        else:
            count = len(values) // len(CODES[kind])
            value = struct.pack(f"{order}{CODES[kind] * count}", *values)
        table += struct.pack(f"{order}HHI", tag, kind, count)
        if len(value) <= 4:
            table += value.ljust(4, b"\0")
        else:
            table += struct.pack(f"{order}I", start + len(data))
            data += value
    return table + bytes(4) + data


def tiff(magic: bytes = b"II*\0", order: str = "<") -> bytes:
    """A structure with a maker, a date in its EXIF directory and a latitude in that of GPS."""

    def first(exif: int, gps: int) -> bytes:
        tags = [(271, 2, b"Acme\0"), (256, 3, [4]), (EXIF, 4, [exif]), (GPS, 4, [gps])]
        return directory(tags, 8, order)

    shot = [(36867, 2, b"2019:07:14 09:30:00\0")]
    exif = 8 + len(first(0, 0))
    gps = exif + len(directory(shot, exif, order))
    place = [(1, 2, b"N\0"), (2, 5, [48, 1, 51, 1, 60, 2])]
    head = magic + struct.pack(f"{order}I", 8)
    parts = first(exif, gps), directory(shot, exif, order), directory(place, gps, order)
    return head + b"".join(parts)


@pytest.mark.parametrize(
    ("magic", "order"),
    [
        (b"II*\0", "<"),
        (b"MM\0*", ">"),
        (b"IIU\0", "<"),
        (b"IIRO", "<"),
        (b"IIRS", "<"),
        (b"MMOR", ">"),
    ],
)
@pytest.mark.parametrize("start", [0, 100])
def test_tags_of_a_picture_and_its_place(magic, order, start):
    found = read_tiff(io.BytesIO(bytes(start) + tiff(magic, order)), start)
    assert found.picture[271] == b"Acme\0"
    assert found.picture[36867] == b"2019:07:14 09:30:00\0"
    assert found.place == {1: b"N\0", 2: (48.0, 51.0, 30.0)}
    assert is_tiff(tiff(magic, order))


def test_what_pillow_writes_is_read():
    exif = Image.Exif()
    exif[271], exif[270], exif[306] = "Acme", "Über uns", "2020:01:01 10:00:00"
    exif.get_ifd(EXIF)[36867] = "2020:01:02 10:00:00"
    exif.get_ifd(GPS)[2] = (48.0, 12.5, 0.0)
    found = read_tiff(io.BytesIO(exif.tobytes()), 6)
    assert found.picture[306] == b"2020:01:01 10:00:00\0"
    assert found.picture[36867] == b"2020:01:02 10:00:00\0"
    assert found.picture[270].rstrip(b"\0").decode("utf-8", "replace").endswith("ber uns")
    assert found.place[2] == (48.0, 12.5, 0.0)


def test_large_offsets_of_bigtiff():
    image = io.BytesIO()
    Image.new("L", (8, 8)).save(image, "TIFF", big_tiff=True, tiffinfo={271: "Acme Optics"})
    assert read_tiff(image).picture[271] == b"Acme Optics\0"


def test_the_place_directory_of_canon():
    place = b"II*\0" + struct.pack("<I", 8) + directory([(1, 2, b"S\0"), (3, 2, b"E\0")], 8)
    assert read_place_directory(io.BytesIO(place), 0) == {1: b"S\0", 3: b"E\0"}
    assert read_place_directory(io.BytesIO(b"II"), 0) == {}


def test_one_broken_tag_does_not_hide_the_others():
    tags = [(270, 2, b"a long description\0"), (271, 2, b"Acme Optics\0"), (272, 99, b"abcdef")]
    data = bytearray(b"II*\0" + struct.pack("<I", 8) + directory(tags[:2], 8))
    data[10 + 8 : 10 + 12] = struct.pack("<I", 0xFFFFFFF0)  # where the description lies
    found = read_tiff(io.BytesIO(bytes(data))).picture
    assert found[271] == b"Acme Optics\0"
    assert not found.get(270)


def test_directories_that_point_to_themselves_and_huge_counts_end():
    loop = b"II*\0" + struct.pack("<I", 8) + directory([(EXIF, 4, [8]), (GPS, 4, [8])], 8)
    assert read_tiff(io.BytesIO(loop)).picture[EXIF] == (8,)
    claimed = struct.pack("<HHHII", 0xFFFF, 270, 2, 0xFFFFFFFF, 8)
    data = b"II*\0" + struct.pack("<I", 8) + claimed + b"x" * 300_000
    assert len(read_tiff(io.BytesIO(data)).picture[270]) <= 1 << 16


def test_a_packet_that_is_too_large_is_left_out():
    size = (4 << 20) + 1
    entry = struct.pack("<HHHIII", 1, 700, 7, size, 26, 0)
    data = b"II*\0" + struct.pack("<I", 8) + entry + b"x" * size
    assert 700 not in read_tiff(io.BytesIO(data)).picture


@given(st.lists(st.tuples(st.integers(0, 130), st.integers(0, 255)), max_size=20), st.binary())
def test_a_broken_structure_never_raises(changes, other):
    data = bytearray(tiff())
    for position, value in changes:
        data[position] = value
    read_tiff(io.BytesIO(bytes(data)))
    read_tiff(io.BytesIO(b"MM\0*" + other))
