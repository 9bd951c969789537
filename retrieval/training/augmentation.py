"""Augment photos for training: mirror and crop."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from retrieval.errors import UsageError
from retrieval.training.captions import CaptionedPhoto

Crop = tuple[float, float, float, float]
"""left, top, right, bottom in pixels."""


def draw_crop(width: int, height: int, random: np.random.Generator) -> Crop:
    """Draw a part of a photo as in Szegedy et al. 2015, by area and aspect ratio.

    At least two fifths of the area, so that most of what a caption describes stays in the picture.
    """
    area = random.uniform(0.4, 1.0)
    ratio = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
    wide = width * min(1.0, np.sqrt(area * ratio))
    high = height * min(1.0, np.sqrt(area / ratio))
    left = random.uniform(0, width - wide)
    top = random.uniform(0, height - high)
    return left, top, left + wide, top + high


def variant_of(image: Image.Image, variant: int, seed: Sequence[int]) -> Image.Image:
    """Make one variant, the same one at each call: 0 plain, 1 mirrored, then crops, half mirrored.

    Crops are cut at whole pixels and not resized: that is the encoder's part.
    """
    if variant == 0:
        return image
    if variant == 1:
        return ImageOps.mirror(image)
    random = np.random.default_rng([*seed, variant])
    mirrored = random.random() < 0.5
    left, top, right, bottom = draw_crop(image.width, image.height, random)
    box = (int(left), int(top), max(int(left) + 1, round(right)), max(int(top) + 1, round(bottom)))
    crop = image.crop(box)
    return ImageOps.mirror(crop) if mirrored else crop


def read_variant(
    photos: Sequence[CaptionedPhoto],
    row: int,
    pixels_of: Callable[[Image.Image, int, list[int]], NDArray[Any]],
) -> NDArray[Any]:
    """Read one of all variants of some photos: those of the first variant come first.

    pixels_of: makes a variant of an RGB image, given its number and a seed. Raises UsageError for a
    photo that cannot be decoded.
    """
    variant, number = divmod(row, len(photos))
    path = photos[number].path
    try:
        with Image.open(path) as image:
            return pixels_of(image.convert("RGB"), variant, [number])
    except OSError as error:
        raise UsageError(f"Cannot decode the photo {path}: {error}") from error
