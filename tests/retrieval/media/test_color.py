import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from retrieval.media.images import read_image

RED, GREEN = (200, 30, 40), (20, 180, 60)


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
def test_colour_modes_keep_their_colours(
    encoded, mean_difference, two_colours, mode, kind, tolerance
):
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
def test_depths_are_scaled_to_8_bits(encoded, dtype, levels, kind):
    image = Image.fromarray(np.repeat(np.array([levels], dtype=dtype), 4, axis=0))
    result = np.asarray(read_image(encoded(image, kind)))[0, :, 0]
    assert result[0] == 0
    assert result[-1] == 255
    if len(levels) == 3:
        assert abs(int(result[1]) - 100) <= 2 or levels[0] < 0


def test_grey_with_alpha_and_transparent_parts_show_white(encoded):
    for image in (
        Image.new("RGBA", (4, 4), (0, 0, 0, 0)),
        Image.new("LA", (4, 4), (0, 0)),
    ):
        assert read_image(encoded(image)).getpixel((0, 0)) == (255, 255, 255)
    keyed = encoded(Image.new("RGB", (4, 4), RED), transparency=RED)
    assert read_image(keyed).getpixel((0, 0)) == (255, 255, 255)
    half = read_image(encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 128))))
    assert half.getpixel((0, 0)) == (127, 127, 127)


def swapped_profile() -> bytes:
    """The bytes of an sRGB profile whose red and blue primaries are exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", profile, 128)[0]
    entries = [132 + 12 * number for number in range(count)]
    for entry in entries:
        tag = profile[entry : entry + 4]
        if tag in (b"rXYZ", b"bXYZ"):
            profile[entry : entry + 4] = b"bXYZ" if tag == b"rXYZ" else b"rXYZ"
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
@pytest.mark.parametrize("least_side", [None, 8])
def test_a_colour_profile_is_applied(encoded, mode, least_side):
    image = Image.new("RGB", (32, 24), (200, 30, 40))
    image = image.quantize(4) if mode == "P" else image.convert(mode)
    data = encoded(image, "PNG", icc_profile=swapped_profile())
    red, green, blue = read_image(data, least_side=least_side).getpixel((0, 0))
    assert abs(red - 40) < 8
    assert abs(green - 30) < 8
    assert abs(blue - 200) < 8


def test_the_profile_of_srgb_changes_nothing(encoded, mean_difference, two_colours):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert (
        mean_difference(read_image(encoded(two_colours(), icc_profile=profile)), two_colours()) == 0
    )


def grey_profile(gamma: float) -> bytes:
    """ICC 2, of the media white D50 and one curve."""
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63_190, 65_536, 54_061)
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = {b"wtpt": white, b"kTRC": curve}
    table, body = struct.pack(">I", len(tags)), b""
    for tag, data in tags.items():
        table += struct.pack(">4sII", tag, 128 + 4 + 12 * len(tags) + len(body), len(data))
        body += data
    header = bytearray(128)
    struct.pack_into(
        ">I4xI4s4s4s", header, 0, 128 + len(table + body), 0x02100000, b"mntr", b"GRAY", b"XYZ "
    )
    header[36:40] = b"acsp"
    struct.pack_into(">3i", header, 68, 63_190, 65_536, 54_061)
    return bytes(header) + table + body


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_a_grey_profile_is_applied(encoded, mode):
    grey = Image.fromarray(np.full((4, 4), 128 * 257, np.uint16)) if mode == "I;16" else None
    image = grey or Image.new("L", (4, 4), 128).convert(mode)
    data = encoded(image, "PNG", icc_profile=grey_profile(1.0))
    # Half the light: 188 on the curve of sRGB.
    assert abs(read_image(data).getpixel((0, 0))[0] - 188) <= 2


@pytest.mark.parametrize("profile", [b"rubbish", bytes(128), grey_profile(1.0)])
@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_a_broken_or_foreign_profile_is_ignored(
    encoded, mean_difference, two_colours, mode, profile
):
    image = two_colours().convert(mode)
    kind = "JPEG" if mode == "CMYK" else "PNG"
    with_profile = read_image(encoded(image, kind, icc_profile=profile))
    assert mean_difference(with_profile, read_image(encoded(image, kind))) == 0
