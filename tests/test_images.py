import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from retrieval.images import UnreadableImageError, is_image_name, read_image

RED, GREEN = (200, 30, 40), (20, 180, 60)


def two_colours(width: int = 32, height: int = 24) -> Image.Image:
    """Red on the left, green on the right."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 2, 0, width, height))
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def mean_difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


@pytest.mark.parametrize(
    ("mode", "kind", "tolerance"),
    [
        ("RGB", "PNG", 0),
        ("RGB", "JPEG", 6),
        ("RGB", "WEBP", 8),
        ("RGB", "BMP", 0),
        ("RGB", "TIFF", 0),
        ("RGB", "PPM", 0),
        ("RGB", "TGA", 0),
        ("RGB", "JPEG2000", 2),
        ("RGB", "AVIF", 8),
        ("RGBA", "PNG", 0),
        ("RGBX", "TIFF", 0),
        ("P", "PNG", 0),
        ("P", "GIF", 0),
        ("CMYK", "TIFF", 2),
        ("CMYK", "JPEG", 8),
        ("YCbCr", "TIFF", 3),
        ("LAB", "TIFF", 4),
    ],
)
def test_colour_modes_keep_their_colours(mode, kind, tolerance):
    original = two_colours()
    if mode == "LAB":
        to_lab = ImageCms.buildTransform(
            ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
        )
        converted = ImageCms.applyTransform(original, to_lab)
    elif mode == "P":
        converted = original.convert("P", palette=Image.Palette.ADAPTIVE)
    else:
        converted = original.convert(mode)
    result = read_image(encoded(converted, kind))
    assert result.mode == "RGB"
    assert result.size == original.size
    assert mean_difference(result, original) <= tolerance


@pytest.mark.parametrize(
    ("dtype", "levels", "kind"),
    [
        (np.bool_, [False, True], "PNG"),
        (np.uint8, [0, 100, 255], "PNG"),
        (np.uint16, [0, 25_700, 65_535], "PNG"),
        (np.uint16, [0, 25_700, 65_535], "TIFF"),
        (np.int32, [0, 25_700, 65_535], "TIFF"),
        (np.float32, [0.0, 100 / 255, 1.0], "TIFF"),
        (np.float32, [-50.0, 30.0, 150.0], "TIFF"),
    ],
)
def test_depths_are_scaled_to_8_bits(dtype, levels, kind):
    image = Image.fromarray(np.repeat(np.array([levels], dtype=dtype), 4, axis=0))
    result = np.asarray(read_image(encoded(image, kind)))[0, :, 0]
    assert result[0] == 0
    assert result[-1] == 255
    if len(levels) == 3:
        assert abs(int(result[1]) - 100) <= 2 or levels[0] < 0


def test_grey_with_alpha_and_transparent_parts_show_white():
    for image in (
        Image.new("RGBA", (4, 4), (0, 0, 0, 0)),
        Image.new("LA", (4, 4), (0, 0)),
    ):
        assert read_image(encoded(image)).getpixel((0, 0)) == (255, 255, 255)
    keyed = encoded(Image.new("RGB", (4, 4), RED), transparency=RED)
    assert read_image(keyed).getpixel((0, 0)) == (255, 255, 255)
    half = read_image(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 128))))
    assert half.getpixel((0, 0)) == (127, 127, 127)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_every_exif_orientation_is_made_upright(orientation, kind):
    upright = two_colours(48, 32)
    upright.paste((240, 240, 30), (0, 0, 16, 8))
    # What a camera stores so that applying the orientation gives the upright picture.
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    result = read_image(encoded(stored, kind, exif=exif))
    assert result.size == upright.size
    assert mean_difference(result, upright) < 8


def test_an_animation_shows_its_first_frame():
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN)]
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    result = read_image(stream.getvalue())
    assert mean_difference(result, frames[0]) < 3


def test_the_content_decides_not_the_name(tmp_path):
    path = tmp_path / "really-a-png.jpg"
    path.write_bytes(encoded(two_colours()))
    assert mean_difference(read_image(path), two_colours()) == 0


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_a_bomb_is_refused_by_its_header():
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(UnreadableImageError, match="refused as too large"):
        read_image(bomb)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
@pytest.mark.parametrize("tenth", range(10))
def test_a_truncated_file_gives_a_reason_or_the_whole_picture(kind, tenth):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    whole = encoded(Image.fromarray(noise), kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = read_image(whole[: len(whole) * tenth // 10])
        except UnreadableImageError as error:
            assert str(error)  # noqa: PT017 - some formats can be cut after their last pixel
        else:
            assert mean_difference(result, read_image(whole)) < 40


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello, I am a text", "not an image of a known format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of a known format"),
        (b"%PDF-1.7\n", "not an image of a known format"),
    ],
)
def test_what_is_not_an_image_is_named(data, reason):
    with pytest.raises(UnreadableImageError, match=reason):
        read_image(data)


def test_a_missing_file_is_an_os_error():
    with pytest.raises(FileNotFoundError):
        read_image(Path("nowhere.jpg"))


@pytest.mark.parametrize("name", ["a.JPG", "b.jpeg", "雪.png", "c.tar.webp", "d.TIF", "e.gif"])
def test_image_names(name):
    assert is_image_name(name)


@pytest.mark.parametrize("name", ["a.txt", "jpg", "noextension", "b.pdf", "c.eps", "d.mp4", ""])
def test_other_names(name):
    assert not is_image_name(name)
