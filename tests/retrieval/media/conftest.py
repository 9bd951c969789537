"""Pictures that tests of several modules make, encode and compare."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

RED, GREEN = (200, 30, 40), (20, 180, 60)


@pytest.fixture(scope="session")
def two_colours() -> Callable[..., Image.Image]:
    """Make an image: red on the left, green on the right."""

    def make(width: int = 32, height: int = 24) -> Image.Image:
        image = Image.new("RGB", (width, height), RED)
        image.paste(GREEN, (width // 2, 0, width, height))
        return image

    return make


@pytest.fixture(scope="session")
def encoded() -> Callable[..., bytes]:
    """Encode an image in a format of Pillow."""

    def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        return stream.getvalue()

    return encode


@pytest.fixture(scope="session")
def mean_difference() -> Callable[[Image.Image, Image.Image], float]:
    """Compute the mean absolute difference of the values of two images."""

    def compute(one: Image.Image, other: Image.Image) -> float:
        return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())

    return compute
