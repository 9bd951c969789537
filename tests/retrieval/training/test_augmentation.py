import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from retrieval.training.augmentation import draw_crop, variant_of

sides = st.one_of(st.sampled_from([1, 2, 3]), st.integers(1, 90))


def noise(width: int, height: int) -> Image.Image:
    random = np.random.default_rng(0)
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


@settings(max_examples=60)
@given(width=sides, height=sides, variant=st.integers(0, 9), seed=st.integers(0, 2**40))
def test_a_variant_is_a_part_of_the_photo_and_always_the_same(
    width: int, height: int, variant: int, seed: int
) -> None:
    image = noise(width, height)
    made = variant_of(image, variant, [seed])
    assert 1 <= made.width <= width
    assert 1 <= made.height <= height
    assert made.mode == "RGB"
    np.testing.assert_array_equal(made, variant_of(image, variant, [seed]))
    np.testing.assert_array_equal(image, noise(width, height))
    pixels = np.asarray(image)
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (made.height, made.width, 3))
    found = [
        (windows[:, :, 0] == np.asarray(each)).all((2, 3, 4)).any()
        for each in (made, ImageOps.mirror(made))
    ]
    assert any(found)


@settings(max_examples=200)
@given(width=sides, height=sides, seed=st.integers(0, 2**40))
def test_crops_lie_inside_and_keep_most_of_the_photo(width: int, height: int, seed: int) -> None:
    left, top, right, bottom = draw_crop(width, height, np.random.default_rng(seed))
    assert 0 <= left < right <= width + 1e-9
    assert 0 <= top < bottom <= height + 1e-9
    # A crop that would stick out is cut to the photo: down to 0.4 / sqrt(4/3 * 0.4) of its area.
    assert (right - left) * (bottom - top) >= 0.34 * width * height


def test_the_first_two_are_the_photo_and_its_mirror_image() -> None:
    image = noise(31, 20)
    assert variant_of(image, 0, [5]) is image
    np.testing.assert_array_equal(variant_of(image, 1, [5]), np.asarray(image)[:, ::-1])


def test_crops_differ_by_number_and_by_photo() -> None:
    image = noise(80, 60)
    crops = [np.asarray(variant_of(image, number, [1])).tobytes() for number in range(2, 8)]
    assert len(set(crops)) == 6
    others = [np.asarray(variant_of(image, number, [2])).tobytes() for number in range(2, 8)]
    assert not set(crops) & set(others)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (51, 1), (7, 3)])
def test_the_smallest_photos_have_variants(size: tuple[int, int]) -> None:
    for variant in range(8):
        made = variant_of(noise(*size), variant, [0])
        assert made.width > 0
        assert made.height > 0
