"""Convert images of any mode, bit depth and color profile to 8-bit sRGB."""

import functools
import io

import numpy as np
from PIL import Image, ImageCms

_MODE_OF_PROFILE = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a decoded image to sRGB on a white background; may return the same object.

    Its color profile is applied where it fits the mode; 16-bit and float values are scaled to 8
    bits.
    """
    profile = image.info.get("icc_profile")
    if image.mode.startswith(("I", "F")):
        return _to_srgb(_scale_to_8_bits(image), profile)
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


def _scale_to_8_bits(image: Image.Image) -> Image.Image:
    """Scale integers from their 8- or 16-bit range, other values from minimum to maximum."""
    values = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = (values.min(), values.max()) if values.size else (0.0, 0.0)
    if image.mode != "F" and low >= 0 and high <= 65_535:
        low, high = 0.0, 255.0 if high <= 255 and image.mode == "I" else 65_535.0
    elif image.mode == "F" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    span = (high - low) or 1.0
    return Image.fromarray(np.round((values - low) / span * 255).astype(np.uint8))
