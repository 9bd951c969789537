"""Preprocessing without torchvision gives what open_clip's own gives."""

import numpy as np
import open_clip
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from retrieval.encoders.exports.transform import input_size, transform, view

MODES = ["shortest", "longest", "squash"]


def settings(**given):
    base = open_clip.transform.PreprocessCfg(**given)
    return {**vars(base), "size": base.size}


@given(
    width=st.integers(1, 150),
    height=st.integers(1, 150),
    size=st.sampled_from([32, (32, 32), (24, 40)]),
    mode=st.sampled_from(MODES),
    interpolation=st.sampled_from(["bicubic", "bilinear"]),
    fill=st.sampled_from([0, 127]),
    seed=st.integers(0, 9),
)
def test_pixels_are_those_of_open_clip(width, height, size, mode, interpolation, fill, seed):
    chosen = settings(size=size, resize_mode=mode, interpolation=interpolation, fill_color=fill)
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    image = Image.fromarray(values)
    reference = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**chosen), is_train=False
    )
    try:
        expected = reference(image).numpy()
    except ValueError:
        return  # torchvision refuses what is so thin that it would have no pixels
    found = transform(image, chosen)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert found.shape == (3, *input_size(chosen))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_other_modes_become_colours(mode):
    chosen = settings(size=32)
    image = Image.effect_noise((50, 40), 50).convert(mode)
    reference = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**chosen), is_train=False
    )
    np.testing.assert_allclose(transform(image, chosen), reference(image).numpy(), atol=1e-6)


def test_the_view_follows_the_mode():
    assert view(60, 20, settings(resize_mode="squash")) == (0, 0, 60, 20)
    assert view(60, 20, settings(resize_mode="longest")) == (0, -20, 60, 40)
    assert view(60, 20, settings()) == (20, 0, 40, 20)
