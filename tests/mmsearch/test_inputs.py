"""Images, filters and options in the forms in which people have them."""

import io

import numpy as np
import pytest
from PIL import Image

from mmsearch.inputs import as_filter, as_image, as_item_id, as_list, require
from retrieval.errors import UsageError
from retrieval.filters import Filter


def png(image):
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def test_an_image_in_any_form_is_the_same_pixels(tmp_path):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    file = tmp_path / "image.png"
    file.write_bytes(png(image))
    for form in (image, pixels, file, str(file), png(image), bytearray(png(image)), pixels[:, :]):
        np.testing.assert_array_equal(np.asarray(as_image(form)), pixels)
    flipped = pixels[:, ::-1]  # not contiguous
    np.testing.assert_array_equal(np.asarray(as_image(flipped)), flipped)


def test_pil_images_become_upright_rgb():
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert as_image(clear).getpixel((0, 0)) == (255, 255, 255)
    assert as_image(Image.new("L", (4, 4), 7)).getpixel((0, 0)) == (7, 7, 7)
    assert as_image(Image.new("RGB", (4, 4), "red").convert("P")).mode == "RGB"
    turned = Image.new("RGB", (4, 8))
    turned.getexif()[0x0112] = 6
    assert as_image(turned).size == (8, 4)


def test_large_images_are_reduced_by_whole_factors():
    assert as_image(Image.new("RGB", (400, 200)), 60).size == (134, 67)
    assert as_image(np.zeros((200, 400, 3), np.uint8), 60).size == (134, 67)


@pytest.mark.parametrize(
    "value",
    [
        3,
        None,
        [1],
        np.zeros((4, 4)),
        np.zeros((4, 4, 3)),
        np.zeros((3, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_image_is_a_type_error(value):
    with pytest.raises(TypeError, match=r"\(H, W, 3\)"):
        as_image(value)


def test_files_that_are_no_images_are_usage_errors(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(UsageError, match=r"a\.png"):
        as_image(tmp_path / "a.png")
    with pytest.raises(UsageError, match="The image: "):
        as_image(b"no image")


def test_filters_are_read():
    assert as_filter(None) is None
    assert as_filter({"taken_at": {"since": "2024-05"}}) == Filter.model_validate(
        {"taken_at": {"since": "2024-05-01T00:00:00"}}
    )
    with pytest.raises(UsageError, match="kin"):
        as_filter({"kin": 1})
    with pytest.raises(TypeError, match="where= is a Filter or a dict, not a str"):
        as_filter("kind")


def test_options_are_checked():
    assert as_list("minus", "a", str) == ["a"]
    assert as_list("minus", (n for n in "ab"), str) == ["a", "b"]
    require("k", 3, int)
    require("cursor", None, str, type(None))
    with pytest.raises(TypeError, match="cursor= is str or None, not an int"):
        require("cursor", 3, str, type(None))
    assert as_item_id(np.int64(3)) == 3
    with pytest.raises(TypeError, match="not a bool"):
        as_item_id(True)
