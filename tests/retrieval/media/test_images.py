import io
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from retrieval.media.images import (
    TooLargeImageError,
    UnreadableImageError,
    default_max_pixels,
    read_image,
    read_picture,
    read_unchanged,
    reduced,
)

RED, GREEN = (200, 30, 40), (20, 180, 60)


@pytest.fixture(scope="session")
def marked(two_colours):
    """Two colours and a mark top left: no turned or mirrored copy looks the same."""

    def make(width: int = 48, height: int = 32) -> Image.Image:
        image = two_colours(width, height)
        image.paste((240, 240, 30), (0, 0, width // 3, height // 4))
        return image

    return make


UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What a camera stores so that applying the orientation gives the upright picture."""


@pytest.fixture(scope="session")
def turned(encoded):
    def make(upright: Image.Image, orientation: int, kind: str) -> bytes:
        stored = upright.transpose(UNDO[orientation]) if orientation > 1 else upright
        exif = Image.Exif()
        exif[0x0112] = orientation
        return encoded(stored, kind, exif=exif.tobytes())

    return make


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
def test_every_exif_orientation_is_made_upright(marked, mean_difference, turned, orientation, kind):
    upright = marked()
    picture = read_picture(turned(upright, orientation, kind))
    assert (picture.width, picture.height) == picture.image.size == upright.size
    assert mean_difference(picture.image, upright) < 8
    assert not picture.image.info  # or it would be turned again by who looks for an orientation


def test_an_animation_shows_its_first_frame(mean_difference):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN)]
    stream = io.BytesIO()
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    result = read_image(stream.getvalue())
    assert mean_difference(result, frames[0]) < 3


def test_the_content_decides_not_the_name(encoded, mean_difference, two_colours, tmp_path):
    path = tmp_path / "really-a-png.jpg"
    path.write_bytes(encoded(two_colours()))
    assert mean_difference(read_image(path), two_colours()) == 0


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_a_bomb_is_refused_by_its_header():
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(UnreadableImageError, match=r"too large: 1,600\.0 megapixels, the limit is"):
        read_image(bomb)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"])
@pytest.mark.parametrize("tenth", range(10))
def test_a_truncated_file_gives_a_reason_or_a_picture_with_a_note(
    encoded, mean_difference, kind, tenth
):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    whole = encoded(Image.fromarray(noise), kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            picture = read_picture(whole[: len(whole) * tenth // 10])
        except UnreadableImageError as error:
            assert str(error)  # noqa: PT017 - some formats can be cut after their last pixel
        else:
            assert picture.notes or mean_difference(picture.image, read_image(whole)) < 40


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


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_heic_is_upright_and_keeps_its_colours(
    marked, mean_difference, turned, tmp_path, orientation
):
    pillow_heif.register_heif_opener()
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(turned(marked(96, 64), orientation, "HEIF"))
    picture = read_picture(path)
    assert (picture.width, picture.height) == picture.image.size == (96, 64)
    assert mean_difference(picture.image, marked(96, 64)) < 8


def test_a_missing_package_is_named_with_its_extra(encoded, marked, tmp_path):
    pillow_heif.register_heif_opener()
    (tmp_path / "a.bin").write_bytes(encoded(marked(), "HEIF"))
    (tmp_path / "b.svg").write_bytes(b"<svg/>")
    (tmp_path / "c.dng").write_bytes(b"anything")
    script = """
import sys
sys.modules.update(pillow_heif=None, resvg_py=None, rawpy=None)
from retrieval.errors import MissingExtraError
from retrieval.media.images import read_image
for name in ("a.bin", "b.svg", "c.dng"):
    try:
        read_image(name)
    except MissingExtraError as error:
        print(error)
"""
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r}){script}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "HEIC images need an extra package: pip install 'mmsearch[heic]'",
        "SVG drawings need an extra package: pip install 'mmsearch[svg]'",
        "Camera RAW files need an extra package: pip install 'mmsearch[raw]'",
    ]


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("RGB", "JPEG"),
        ("L", "JPEG"),
        ("CMYK", "JPEG"),
        ("RGB", "PNG"),
        ("P", "PNG"),
        ("RGBA", "WEBP"),
        ("LA", "PNG"),
        ("1", "PNG"),
        ("I;16", "PNG"),
        ("RGB", "TIFF"),
        ("YCbCr", "TIFF"),
        ("RGB", "AVIF"),
        ("RGB", "HEIF"),
    ],
)
def test_every_mode_is_reduced_to_what_it_looks_like(encoded, marked, mean_difference, mode, kind):
    pillow_heif.register_heif_opener()
    original = marked(480, 320)
    if mode == "I;16":
        values = np.asarray(original.convert("L")).astype(np.uint16) * 257
        data = encoded(Image.fromarray(values), kind)
    else:
        data = encoded(original.convert(mode), kind)
    whole = read_image(data)
    picture = read_picture(data, least_side=60)
    assert (picture.width, picture.height) == whole.size == (480, 320)
    assert picture.image.size == ((120, 80) if kind == "JPEG" else (96, 64))
    fitted = whole.resize(picture.image.size, Image.Resampling.BOX)
    assert mean_difference(picture.image, fitted) < 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_reduced_jpeg_is_upright_and_tells_its_whole_size(
    marked, mean_difference, turned, orientation
):
    picture = read_picture(turned(marked(481, 333), orientation, "JPEG"), least_side=50)
    assert (picture.width, picture.height) == (481, 333)
    fitted = marked(481, 333).resize(picture.image.size, Image.Resampling.BOX)
    assert mean_difference(picture.image, fitted) < 8


@given(
    st.integers(1, 400), st.integers(1, 400), st.integers(1, 200), st.sampled_from(["JPEG", "BMP"])
)
def test_reduction_keeps_the_least_side_and_never_enlarges(
    encoded, width, height, least_side, kind
):
    picture = read_picture(encoded(Image.new("RGB", (width, height)), kind), least_side=least_side)
    assert (picture.width, picture.height) == (width, height)
    reduced = picture.image.size
    if min(width, height) < 2 * least_side:
        assert reduced == (width, height)
    else:
        assert least_side <= min(reduced) < 2 * least_side


def test_what_has_no_mean_or_is_small_stays_the_same_image(marked):
    large = marked(480, 320)
    assert reduced(large, None) is large
    assert reduced(large, 161) is large
    assert reduced(large, 160).size == (240, 160)
    palette = large.quantize(4)
    assert reduced(palette, 10) is palette


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "HEIF"])
def test_the_limit_of_pixels_is_ours_to_set(encoded, kind):
    pillow_heif.register_heif_opener()
    data = encoded(Image.new("RGB", (100, 90)), kind)
    assert read_image(data, max_pixels=9000).size == (100, 90)
    with pytest.raises(UnreadableImageError, match=r"0\.0 megapixels"):
        read_image(data, max_pixels=8999)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "GIF", "AVIF", "HEIF"])
def test_a_limit_above_that_of_pillow_works_without_changing_it(encoded, marked, kind, monkeypatch):
    pillow_heif.register_heif_opener()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    data = encoded(marked(), kind)
    assert read_image(data, max_pixels=10_000).size == (48, 32)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_the_default_limit_is_between_20_and_250_million():
    assert 20_000_000 <= default_max_pixels() <= 250_000_000


def test_a_jpeg_counts_as_what_it_is_reduced_to_while_decoded(encoded):
    large = Image.new("L", (1600, 1200), 90)
    for progressive, most in ((False, 240_000), (True, 960_000)):
        content = encoded(large, "JPEG", progressive=progressive)
        picture = read_picture(content, least_side=100, max_pixels=most)
        assert (picture.width, picture.height) == (1600, 1200)
        for least_side, limit in ((100, most - 1), (None, most), (1100, most)):
            with pytest.raises(TooLargeImageError, match=r"1\.9 megapixels, the limit is"):
                read_picture(content, least_side=least_side, max_pixels=limit)


def animation(kind, *colors):
    frames = [Image.new("RGBA", (8, 8), color) for color in colors]
    stream = io.BytesIO()
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:], lossless=True)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_that_shows_something_is_read(kind):
    nothing = (0, 0, 0, 0)
    picture = read_picture(animation(kind, nothing, (255, 0, 0, 255), (0, 255, 0, 255)))
    assert picture.image.getpixel((4, 4)) == (255, 0, 0)
    assert picture.notes == ()
    empty = read_picture(animation(kind, nothing))
    assert empty.image.getpixel((4, 4)) == (255, 255, 255)
    assert empty.notes == ("it is transparent all over",)


def test_the_first_page_and_the_first_frame_are_read(encoded):
    pages = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN)]
    for kind in ("TIFF", "PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(pages[0], kind, save_all=True, append_images=pages[1:], **options)
        assert read_image(data).getpixel((0, 0)) == RED


def test_what_changed_or_cannot_be_read_is_none(encoded, marked, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encoded(marked()))
    known = xxhash.xxh3_128_hexdigest(path.read_bytes())
    assert read_unchanged(str(path), known).size == (48, 32)
    assert read_unchanged(str(path), "0" * 32) is None
    assert read_unchanged(str(tmp_path / "nowhere"), known) is None


def test_a_stream_that_cannot_seek_is_read(encoded, marked, mean_difference):
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *_: object) -> int:
            raise io.UnsupportedOperation

    assert mean_difference(read_image(Pipe(encoded(marked()))), marked()) == 0
