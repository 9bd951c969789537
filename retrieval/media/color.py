"""Convert images of any mode, bit depth and color profile to 8-bit sRGB."""

import functools
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_BITS = (8, 10, 12, 14, 15, 16, 32)

_LEAST_OF_255 = 64
"""Floats whose maximum is below, but above 1, are no values of 0 to 255 but luminances."""

_MODE_OF_PROFILE = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a decoded image to sRGB on a white background; may return the same object.

    Its color profile is applied where it fits the mode; 16-bit and float values are scaled to 8
    bits.
    """
    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        return _to_srgb(Image.fromarray(scaled_to_8_bits(np.asarray(image))), profile)
    if image.mode == "LAB":
        to_srgb = ImageCms.buildTransform(
            ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
        )
        return ImageCms.applyTransform(image, to_srgb) or image
    if image.has_transparency_data:
        alpha = image.convert("RGBA").getchannel("A")
        grey = image.mode in {"L", "LA", "La"}
        opaque = _to_srgb(image.convert("RGBA").convert("L" if grey else "RGB"), profile)
        canvas = Image.new("RGB", image.size, "white")
        canvas.paste(opaque, mask=alpha)
        return canvas
    return _to_srgb(image, profile)


def has_broken_profile(image: Image.Image) -> bool:
    """Return whether an image has a color profile that cannot be read."""
    profile = image.info.get("icc_profile")
    return isinstance(profile, bytes) and bool(profile) and not _is_readable(profile)


@functools.lru_cache(maxsize=16)
def _is_readable(profile: bytes) -> bool:
    try:
        ImageCms.getOpenProfile(io.BytesIO(profile))
    except Exception:  # noqa: BLE001
        return False
    return True


def _to_srgb(image: Image.Image, profile: object) -> Image.Image:
    """Convert an opaque image to RGB, through its ICC profile where that fits its mode."""
    if image.mode not in _MODE_OF_PROFILE.values():
        image = image.convert("L" if image.mode == "1" else "RGB")
    if isinstance(profile, bytes) and profile:
        transform = _transform_to_srgb(profile, image.mode)
        if transform is not None:
            return ImageCms.applyTransform(image, transform) or image
    return image if image.mode == "RGB" else image.convert("RGB")


@functools.lru_cache(maxsize=16)
def _transform_to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Build the transform; None if the profile is sRGB, broken or for another color space."""
    try:
        opened = ImageCms.getOpenProfile(io.BytesIO(profile))
        if _MODE_OF_PROFILE.get(opened.profile.xcolor_space.strip()) != mode:
            return None
        if mode == "RGB" and "srgb" in ImageCms.getProfileDescription(opened).lower():
            return None
        return ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")
    except Exception:  # noqa: BLE001 - a broken profile is ignored
        return None


def scaled_to_8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale values of any type to 8 bits.

    Integers that are not negative from the least range that cameras and scanners use and that holds
    them: 8, 10, 12, 14, 15, 16 or 32 bits; others, and floats outside of 0 to 1, from their minimum
    to their maximum. Floats of 0 to 255 stay.
    """
    finite = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    is_float = values.dtype.kind == "f"
    ranges = (1.0, 255.0) if is_float else tuple(2.0**bits - 1 for bits in _BITS)
    if low >= 0 and high <= ranges[-1] and not (is_float and 1 < high <= _LEAST_OF_255):
        low, high = 0.0, next(top for top in ranges if high <= top)
    span = (high - low) or 1.0
    return np.round((finite - low) / span * 255).astype(np.uint8)
