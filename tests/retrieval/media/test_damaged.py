import io
import struct
import warnings
import zlib

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms

from retrieval.media.damaged import LEAST_SHARE, mend
from retrieval.media.images import UnreadableImageError, read_picture

WIDTH, HEIGHT = 96, 160


@pytest.fixture(scope="module")
def scene() -> Image.Image:
    """Noise over a slope: no row is like another."""
    noise = np.random.default_rng(0).integers(0, 60, (HEIGHT, WIDTH, 3))
    return Image.fromarray((noise + np.linspace(20, 190, HEIGHT)[:, None, None]).astype(np.uint8))


@pytest.fixture(scope="module")
def contents(scene, encoded) -> dict[str, bytes]:
    pillow_heif.register_heif_opener()
    ways = {
        "JPEG": {"quality": 90},
        "progressive": {"quality": 90, "progressive": True},
        "PNG": {},
        "WEBP": {},
        "lossless": {"lossless": True},
        "GIF": {},
        "TIFF": {},
        "BMP": {},
        "HEIF": {},
        "AVIF": {},
    }
    kinds = {"progressive": "JPEG", "lossless": "WEBP"}
    return {name: encoded(scene, kinds.get(name, name), **how) for name, how in ways.items()}


KINDS = ["JPEG", "progressive", "PNG", "WEBP", "lossless", "GIF", "TIFF", "BMP", "HEIF", "AVIF"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("percent", [1, 5, 10, 50])
def test_a_cut_file_shows_the_part_that_is_there(contents, mean_difference, kind, percent):
    whole = contents[kind]
    picture = read_picture(whole[: len(whole) * (100 - percent) // 100])
    assert (picture.width, picture.height) == (WIDTH, HEIGHT)
    [note] = picture.notes
    assert "cut off" in note
    # BMP begins at the bottom. A quarter is there of every half of a file.
    rows = slice(HEIGHT * 3 // 4, None) if kind == "BMP" else slice(0, HEIGHT // 4)
    shown, wanted = (np.asarray(read.image, float)[rows] for read in (picture, read_picture(whole)))
    # A progressive or interlaced file is coarser everywhere.
    assert np.abs(shown - wanted).mean() < {"progressive": 16, "GIF": 25}.get(kind, 4)


@pytest.mark.parametrize("kind", ["JPEG", "progressive"])
def test_a_jpeg_without_its_end_marker_is_the_whole_picture(contents, mean_difference, kind):
    picture = read_picture(contents[kind][:-2])
    assert mean_difference(picture.image, read_picture(contents[kind]).image) == 0
    [note] = picture.notes
    assert "picture is there" in note


@pytest.mark.parametrize("kind", ["JPEG", "progressive", "PNG", "WEBP", "GIF", "HEIF", "AVIF"])
def test_a_tail_of_zeros_is_noted(contents, kind):
    whole = contents[kind]
    lost = max(len(whole) // 5, 600)
    picture = read_picture(whole[:-lost] + bytes(lost))
    assert picture.notes
    assert picture.image.size == (WIDTH, HEIGHT)


@pytest.mark.parametrize("kind", KINDS)
def test_hardly_anything_stays_refused(contents, kind):
    content = contents[kind]
    marks = {"JPEG": b"\xff\xda", "progressive": b"\xff\xda", "HEIF": b"mdat", "AVIF": b"mdat"}
    header = content.index(marks[kind]) + 14 if kind in marks else {"GIF": 800}.get(kind, 100)
    with pytest.raises(UnreadableImageError):
        read_picture(content[:header])


@pytest.mark.parametrize("least_side", [None, 40])
def test_the_size_and_turn_of_a_cut_photo_are_those_of_the_whole(scene, encoded, least_side):
    exif = Image.Exif()
    exif[0x0112] = 6
    large = scene.resize((4 * WIDTH, 4 * HEIGHT))
    content = encoded(large, "JPEG", exif=exif.tobytes())
    picture = read_picture(content[: len(content) * 9 // 10], least_side=least_side)
    assert (picture.width, picture.height) == (4 * HEIGHT, 4 * WIDTH)
    assert picture.image.width > picture.image.height


def chunk(kind: bytes, data: bytes, *, right: bool = True) -> bytes:
    checksum = zlib.crc32(kind + data) ^ (0 if right else 255)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def profile(size: int) -> bytes:
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return made + np.random.default_rng(1).integers(0, 4, size, np.uint8).tobytes()


LONG = b"workflow " * 200_000


@pytest.mark.parametrize(
    ("added", "said"),
    [
        (chunk(b"zTXt", b"a\0\0" + zlib.compress(LONG)), "text is too long"),
        (chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(LONG)), "text is too long"),
        (chunk(b"iCCP", b"a\0\0" + zlib.compress(profile(2_000_000))), "profile is too long"),
        (chunk(b"tEXt", b"a\0b", right=False), "checksum of its text is wrong"),
        (chunk(b"iCCP", b"a\0\0" + zlib.compress(b"no profile")), "profile is damaged"),
    ],
)
@pytest.mark.parametrize("is_before", [True, False])
def test_a_chunk_beside_good_pixels_costs_none(
    contents, scene, mean_difference, added, said, is_before
):
    whole = contents["PNG"]
    place = 33 if is_before else len(whole) - 12
    picture = read_picture(whole[:place] + added + whole[place:])
    assert mean_difference(picture.image, scene) == 0
    if is_before or b"iCCP" not in added:  # A profile behind the pixels has no effect.
        [note] = picture.notes
        assert said in note


@pytest.mark.parametrize(
    "ordinary",
    [
        chunk(b"iTXt", b"a\0\0\0en\0a\0an x in a text that is not compressed"),
        chunk(b"iTXt", b"a\0\1\0en\0a\0" + zlib.compress(b"short")),
        chunk(b"zTXt", b"fax\0\0" + zlib.compress(b"short", 0)),
        chunk(b"tEXt", b"a\0" + b"x" * 100),
        chunk(b"iCCP", b"box\0\0" + zlib.compress(profile(0))),
    ],
)
def test_nothing_is_noted_of_ordinary_chunks(contents, ordinary):
    whole = contents["PNG"]
    assert read_picture(whole[:33] + ordinary + whole[33:]).notes == ()


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"IEND"])
def test_a_wrong_checksum_of_pixels_costs_none(contents, scene, mean_difference, kind):
    content = bytearray(contents["PNG"])
    at = content.index(kind)
    length = int.from_bytes(content[at - 4 : at], "big")
    content[at + 4 + length] ^= 0xFF
    assert mean_difference(read_picture(bytes(content)).image, scene) == 0


def test_broken_exif_and_profile_beside_good_pixels_are_left_out(scene, encoded, mean_difference):
    whole = read_picture(encoded(scene, "JPEG")).image
    for extra in ({"exif": b"Exif\0\0II*\0\xff\xff\xff\xff"}, {"icc_profile": b"nothing" * 30}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = read_picture(encoded(scene, "JPEG", **extra))
        assert mean_difference(picture.image, whole) == 0
        assert any("profile" in note for note in picture.notes) == ("icc_profile" in extra)


def test_what_is_whole_has_no_notes_and_what_is_no_image_no_content(contents):
    for content in contents.values():
        assert read_picture(content).notes == ()
    assert mend(b"a text").content == b"a text"
    assert 0 < LEAST_SHARE < 0.1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF"])
def test_a_picture_damaged_anywhere_gives_a_picture_or_a_reason(contents, kind):
    generator = np.random.default_rng(3)
    for _ in range(20):
        content = bytearray(contents[kind])
        for place in generator.integers(0, len(content), 3):
            content[place] = generator.integers(256)
        try:
            picture = read_picture(io.BytesIO(bytes(content)), max_pixels=1_000_000)
        except UnreadableImageError as error:
            assert str(error)  # noqa: PT017
        else:
            assert picture.image.mode == "RGB"
