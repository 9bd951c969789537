"""Preprocessing of open_clip's models with Pillow and NumPy alone, as their configuration says.

Gives the pixels that torchvision gives, bit by bit but for rounding of the last place.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps


def input_size(settings: Mapping[str, Any]) -> tuple[int, int]:
    """Return height and width of the network's input."""
    size = settings["size"]
    if isinstance(size, int):
        return size, size
    height, width = (size[0], size[0]) if len(size) == 1 else size
    return int(height), int(width)


def transform(image: Image.Image, settings: Mapping[str, Any]) -> NDArray[np.float32]:
    """Resize, crop, scale to 0..1 and normalise an image; (3, height, width) float32."""
    height, width = input_size(settings)
    bilinear = settings["interpolation"] == "bilinear"
    kernel = Image.Resampling.BILINEAR if bilinear else Image.Resampling.BICUBIC
    match settings["resize_mode"]:
        case "squash":
            image = _resized(image, (width, height), kernel)
        case "longest":
            ratio = max(image.height / height, image.width / width)
            size = round(image.width / ratio), round(image.height / ratio)
            image = _cropped(_resized(image, size, kernel), width, height, settings["fill_color"])
        case _ if height == width:
            short, long = sorted(image.size)
            far = int(height * long / short)
            size = (height, far) if image.width <= image.height else (far, height)
            image = _cropped(_resized(image, size, kernel), width, height, 0)
        case _:
            ratio = min(image.height / height, image.width / width)
            size = round(image.width / ratio), round(image.height / ratio)
            image = _resized(image, size, Image.Resampling.BICUBIC)
            image = _cropped(image, width, height, 0)
    if image.mode != "RGB":
        image = image.convert("RGB")
    values = np.asarray(image, np.uint8).transpose(2, 0, 1).astype(np.float32)
    values /= np.float32(255)
    values -= np.asarray(settings["mean"], np.float32)[:, np.newaxis, np.newaxis]
    values /= np.asarray(settings["std"], np.float32)[:, np.newaxis, np.newaxis]
    return np.ascontiguousarray(values)


def view(width: int, height: int, settings: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """Return the part of an image that the transform keeps: left, top, right, bottom (px)."""
    if settings["resize_mode"] == "squash":
        return 0.0, 0.0, float(width), float(height)
    side = max(width, height) if settings["resize_mode"] == "longest" else min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _resized(image: Image.Image, size: tuple[int, int], kernel: Image.Resampling) -> Image.Image:
    return image if image.size == size else image.resize(size, kernel)


def _cropped(image: Image.Image, width: int, height: int, fill: int) -> Image.Image:
    """Crop at the centre; what is too small is padded first."""
    wide, high = max(width - image.width, 0), max(height - image.height, 0)
    if wide or high:
        border = (wide // 2, high // 2, (wide + 1) // 2, (high + 1) // 2)
        image = ImageOps.expand(image, border, fill)
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
