import io
import itertools
import struct

import numpy as np
import pytest
import xxhash
from PIL import Image

from retrieval.media.blocks import find_blocks
from retrieval.media.exif import read_metadata
from retrieval.media.images import UnreadableImageError, read_image, read_picture, read_unchanged
from retrieval.media.raw import CameraRaw

RED, GREEN = (200, 30, 40), (20, 180, 60)


def marked(width: int = 48, height: int = 32) -> Image.Image:
    """Two colours and a mark top left: no turned or mirrored copy looks the same."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 2, 0, width, height))
    image.paste((240, 240, 30), (0, 0, width // 3, height // 4))
    return image


def jpeg(image: Image.Image, orientation: int | None = None) -> bytes:
    """A JPEG of these pixels, which says in its EXIF that it lies so."""
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    stream = io.BytesIO()
    image.save(stream, "JPEG", exif=exif)
    return stream.getvalue()


UNDO = {
    1: None,
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}
"""What a camera stores so that applying the orientation gives the upright picture."""


def camera_raw(orientation: int = 1, preview: bytes = b"", *, is_dated_late: bool = False) -> bytes:
    """A DNG of 64x48 sensor values, red on the left, green on the right, as TIFF 6 and DNG 1.4."""
    values = np.zeros((48, 64), "<u2")  # in rows of R G R G and G B G B
    for columns, (red, green, blue) in ((slice(0, 32), RED), (slice(32, 64), GREEN)):
        half = values[:, columns]
        for row, column, value in ((0, 0, red), (0, 1, green), (1, 0, green), (1, 1, blue)):
            half[row::2, column::2] = round((value / 255) ** 2.2 * 60_000)
    pixels = values.tobytes()
    to_camera = (3.2406, -1.5372, -0.4986, -0.9689, 1.8758, 0.0415, 0.0557, -0.204, 1.057)
    matrix = b"".join(struct.pack("<ii", round(value * 10_000), 10_000) for value in to_camera)
    short = "<H"
    sensor = [
        (256, 4, struct.pack("<I", 64)),
        (257, 4, struct.pack("<I", 48)),
        (258, 3, struct.pack(short, 16)),
        (259, 3, struct.pack(short, 1)),
        (262, 3, struct.pack(short, 32_803)),
        (271, 2, b"Make\0"),
        (272, 2, b"Model\0"),
        (273, 4, struct.pack("<I", 8)),
        (274, 3, struct.pack(short, orientation)),
        (277, 3, struct.pack(short, 1)),
        (278, 4, struct.pack("<I", 48)),
        (279, 4, struct.pack("<I", len(pixels))),
        (306, 2, b"2020:01:02 03:04:05\0"),
        (33_421, 3, struct.pack("<HH", 2, 2)),
        (33_422, 1, bytes([0, 1, 1, 2])),
        (50_706, 1, bytes([1, 4, 0, 0])),
        (50_708, 2, b"Make Model\0"),
        (50_717, 4, struct.pack("<I", 60_000)),
        (50_721, 10, matrix),
        (50_728, 5, struct.pack("<6I", *[1] * 6)),
        (50_778, 3, struct.pack(short, 21)),
    ]
    date = next(entry for entry in sensor if entry[0] == 306)
    if is_dated_late:
        sensor.remove(date)
    start = 8 + len(pixels) + len(preview)
    if not preview:
        return struct.pack("<2sHI", b"II", 42, start) + pixels + directory(sensor, start, 0)
    width, height = Image.open(io.BytesIO(preview)).size
    stamp = [
        (254, 4, struct.pack("<I", 1)),
        (256, 4, struct.pack("<I", width)),
        (257, 4, struct.pack("<I", height)),
        (258, 3, struct.pack("<3H", 8, 8, 8)),
        (259, 3, struct.pack(short, 7)),
        (262, 3, struct.pack(short, 6)),
        (273, 4, struct.pack("<I", 8 + len(pixels))),
        (277, 3, struct.pack(short, 3)),
        (278, 4, struct.pack("<I", height)),
        (279, 4, struct.pack("<I", len(preview))),
        *([date] if is_dated_late else []),
    ]
    second = start + len(directory(sensor, start, 0))
    return b"".join(
        [
            struct.pack("<2sHI", b"II", 42, start) + pixels + preview,
            directory(sensor, start, second),
            directory(stamp, second, 0),
        ]
    )


def directory(entries: list[tuple[int, int, bytes]], start: int, following: int) -> bytes:
    """A TIFF directory that stands at `start`, with its long values behind it."""
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 10: 8}
    table, values = struct.pack("<H", len(entries)), b""
    behind = start + 2 + 12 * len(entries) + 4
    for tag, kind, data in entries:
        table += struct.pack("<HHI", tag, kind, len(data) // sizes[kind])
        if len(data) <= 4:
            table += data.ljust(4, b"\0")
        else:
            table += struct.pack("<I", behind + len(values))
            values += data
    return table + struct.pack("<I", following) + values


def is_reddish(pixel: tuple[int, ...]) -> bool:
    return pixel[0] > 2 * max(pixel[1:])


@pytest.mark.parametrize(
    ("orientation", "size", "red_at", "green_at"),
    [
        (1, (64, 48), (4, 12), (28, 12)),
        (3, (64, 48), (28, 12), (4, 12)),
        (6, (48, 64), (12, 4), (12, 28)),
        (8, (48, 64), (12, 28), (12, 4)),
    ],
)
def test_camera_raw_without_preview_is_developed(tmp_path, orientation, size, red_at, green_at):
    path = tmp_path / "a.DNG"
    path.write_bytes(camera_raw(orientation))
    picture = read_picture(path)
    assert (picture.width, picture.height) == size
    assert picture.image.size == (size[0] // 2, size[1] // 2)
    assert is_reddish(picture.image.getpixel(red_at))
    assert not is_reddish(picture.image.getpixel(green_at))


@pytest.mark.parametrize(
    ("orientation", "preview_tells"),
    [
        *itertools.product([1, 3, 6, 8], ["nothing", "the same"]),
        *itertools.product([6, 8], ["that it is upright"]),
    ],
)
def test_the_preview_of_camera_raw_is_shown_upright(mean_difference, orientation, preview_tells):
    upright = marked(48, 64) if orientation >= 5 else marked(64, 48)
    turn = UNDO[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    told = {"nothing": None, "the same": orientation, "that it is upright": 1}[preview_tells]
    picture = read_picture(camera_raw(orientation, jpeg(stored, told)), name="a.nef")
    assert (picture.width, picture.height) == picture.image.size == upright.size
    assert mean_difference(picture.image, upright) < 12


def test_the_time_that_libraw_alone_finds_counts():
    """Here in the second directory; in the notes of makers it looks, too."""
    preview = jpeg(marked(640, 480))
    content = camera_raw(preview=preview, is_dated_late=True)
    assert not find_blocks(io.BytesIO(content)).tiff[0].picture.get(306)
    with CameraRaw(io.BytesIO(content)) as raw:
        assert raw.timestamp is not None
    found = read_metadata(content, name="a.dng")
    assert found.date_source == "exif"
    assert found.taken_local == found.taken_at == 1_577_934_245
    assert read_metadata(content, name="a.jpg").taken_at is None


def test_a_preview_of_a_stamps_size_is_not_taken():
    raw = camera_raw(1, jpeg(Image.new("RGB", (8, 6), "blue")))
    assert read_image(raw, name="a.dng").size == (32, 24)


def test_a_jpeg_with_the_name_of_a_raw_file_is_read(mean_difference, tmp_path):
    path = tmp_path / "a.nef"
    path.write_bytes(jpeg(marked()))
    assert mean_difference(read_image(path), marked()) < 8
    path.write_bytes(b"neither")
    with pytest.raises(UnreadableImageError, match="not a readable RAW file"):
        read_image(path)


def test_the_limit_holds_for_camera_raw():
    with pytest.raises(UnreadableImageError, match="refused as too large"):
        read_image(camera_raw(), name="a.dng", max_pixels=64 * 48 - 1)


def test_an_unchanged_raw_file_is_told_by_its_path(tmp_path):
    path = tmp_path / "a.dng"
    path.write_bytes(camera_raw())
    known = xxhash.xxh3_128_hexdigest(path.read_bytes())
    assert read_unchanged(str(path), known).size == (32, 24)
