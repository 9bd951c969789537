import io
import os

import numpy as np
import pytest
import tifffile
from PIL import Image

from retrieval.media.images import UnreadableImageError, read_picture
from retrieval.media.tiff_pages import deep_page, pages_of, why_not_decoded

TOP = {"uint8": 255, "uint16": 65_535, "uint32": 2**32 - 1, "int16": 32_767}


def written(values: np.ndarray, **how) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **how)
    return stream.getvalue()


@pytest.fixture(scope="module")
def slope() -> np.ndarray:
    """Three slopes, 0..1, (60, 80, 3)."""
    y, x = np.mgrid[0:60, 0:80]
    return np.stack([x / 79, y / 59, (x + y) / 138], axis=-1)


@pytest.mark.parametrize("dtype", [*TOP, "float16", "float32", "float64"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("layout", ["contig", "separate", "grey", "white is 0"])
def test_values_of_any_type_and_layout_look_alike(slope, dtype, compression, layout):
    how = {"photometric": "rgb", "compression": compression}
    values = slope
    if layout == "separate":
        values, how["planarconfig"] = np.moveaxis(slope, -1, 0), "separate"
    elif layout != "contig":
        values = slope.mean(axis=-1)
        how["photometric"] = "minisblack" if layout == "grey" else "miniswhite"
    stored = 1 - values if layout == "white is 0" else values
    content = written(np.ascontiguousarray(stored * TOP.get(dtype, 1)).astype(dtype), **how)
    shown = np.asarray(read_picture(content).image, float)
    wanted = slope if layout in {"contig", "separate"} else np.stack([values] * 3, axis=-1)
    assert np.abs(shown - 255 * wanted).mean() < 1


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_fewer_bits_in_16_are_not_dark(slope, bits):
    content = written((slope * (2**bits - 1)).astype(np.uint16), photometric="rgb")
    assert np.abs(np.asarray(read_picture(content).image, float) - 255 * slope).mean() < 1


def test_alpha_orientation_and_cmyk_of_16_bits_are_applied(slope):
    alpha = np.zeros((60, 80, 1))
    rgba = np.concatenate([slope, alpha], axis=-1)
    content = written((rgba * 65_535).astype(np.uint16), photometric="rgb", extrasamples=[2])
    assert np.asarray(read_picture(content).image).min() == 255
    turned = written(
        (slope * 65_535).astype(np.uint16), photometric="rgb", extratags=[(274, 3, 1, 6, True)]
    )
    picture = read_picture(turned)
    assert picture.image.size == (picture.width, picture.height) == (60, 80)
    cmyk = np.zeros((60, 80, 4))
    cmyk[..., 0] = 1
    cyan = read_picture(written((cmyk * 65_535).astype(np.uint16), photometric="separated"))
    red, green, blue = cyan.image.getpixel((40, 30))
    assert red < 60 < min(green, blue)


def test_what_pillow_decodes_right_is_left_to_it(slope):
    content = written((slope * 255).astype(np.uint8), photometric="rgb")
    assert deep_page(io.BytesIO(content), 0) is None


def pages(*images: Image.Image, **how) -> bytes:
    stream = io.BytesIO()
    images[0].save(stream, "TIFF", save_all=True, append_images=images[1:], **how)
    return stream.getvalue()


def test_pages_are_found_and_shown_each(mean_difference):
    scans = [Image.new("RGB", (40, 30), colour) for colour in ("red", "lime", "blue")]
    content = pages(*scans)
    assert [page.frame for page in pages_of(io.BytesIO(content))] == [0, 1, 2]
    for number, scan in enumerate(scans, 1):
        assert mean_difference(read_picture(content, page=number).image, scan) == 0
    with pytest.raises(UnreadableImageError, match="no page 4, only 3"):
        read_picture(content, page=4)
    with pytest.raises(UnreadableImageError, match="too large"):
        read_picture(content, max_pixels=1000)


def test_files_opened_by_their_descriptor_are_read(tmp_path, slope, mean_difference):
    """As a service opens them: the name of such a file is a number."""
    scans = [Image.new("RGB", (40, 30), colour) for colour in ("red", "blue")]
    (tmp_path / "scans.tif").write_bytes(pages(*scans))
    deep = (slope * 65_535).astype(np.uint16)
    (tmp_path / "deep.tif").write_bytes(written(deep, photometric="rgb"))
    with os.fdopen(os.open(tmp_path / "scans.tif", os.O_RDONLY), "rb") as file:
        assert len(pages_of(file)) == 2
        assert mean_difference(read_picture(file, page=2).image, scans[1]) == 0
    with os.fdopen(os.open(tmp_path / "deep.tif", os.O_RDONLY), "rb") as file:
        assert deep_page(file, 0) is not None
        assert "uint16" in why_not_decoded(file, 0)


def test_copies_of_a_page_are_no_pages(slope):
    whole = (np.kron(slope, np.ones((16, 16, 1))) * 255).astype(np.uint8)
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as tiff:
        tiff.write(whole[::4, ::4], photometric="rgb", subfiletype=1)
        tiff.write(whole, photometric="rgb")
        tiff.write(whole[::2, ::2], photometric="rgb")  # a level of a pyramid
        tiff.write(whole[::10, ::10], photometric="rgb")  # a stamp
        tiff.write(whole[:500, :700], photometric="rgb")  # another page
    found = pages_of(io.BytesIO(stream.getvalue()))
    assert [(page.frame, page.width) for page in found] == [(1, 1280), (4, 700)]
    # The picture is the first page, not the stamp before it.
    assert read_picture(stream.getvalue()).width == 1280


def test_a_reason_names_the_values(slope):
    content = written((slope * 255).astype(np.uint8), photometric="rgb")
    assert "uint8 values, RGB colors and NONE" in why_not_decoded(io.BytesIO(content), 0)
    assert "directory is missing" in why_not_decoded(io.BytesIO(content[:6]), 0)
    assert pages_of(io.BytesIO(b"II*\0")) == []
