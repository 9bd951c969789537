"""From a file's bytes to an upright RGB image, whatever its format and mode."""

import functools
import io
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import xxhash
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from retrieval.errors import MMSearchError

_REFUSED_FORMATS = {"EPS", "FITS", "HDF5", "BUFR", "GRIB", "WMF", "MPEG"}
"""Formats that Pillow names but cannot draw by itself; EPS would start an interpreter."""


class UnreadableImageError(MMSearchError):
    """Bytes that cannot be read as an image; the message is the reason."""


@functools.cache
def readable_formats() -> dict[str, str]:
    """File name endings in lower case, with the dot, and the format that each stands for."""
    return {
        extension.lower(): name
        for extension, name in Image.registered_extensions().items()
        if name in Image.OPEN and name not in _REFUSED_FORMATS
    }


def is_image_name(name: str) -> bool:
    """Whether a file's name ends like that of a readable image."""
    return os.path.splitext(name)[1].lower() in readable_formats()  # noqa: PTH122


def read_image(source: str | os.PathLike[str] | bytes | BinaryIO) -> Image.Image:
    """Decode the first frame of an image, upright, as RGB.

    EXIF orientation is applied; transparent parts show white; 16-bit and float images are scaled to
    8 bits; what kind of image it is decides the content, not the name. Raises
    UnreadableImageError for anything that is not a whole image, and, from its header alone, for one
    of more than 2 * `PIL.Image.MAX_IMAGE_PIXELS` (179 million) pixels; OSError when the file itself
    cannot be read.
    """
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source))
    if isinstance(source, str | os.PathLike):
        with Path(source).open("rb") as file:
            return _decode(file)
    return _decode(source)


def read_unchanged(path: str, content_hash: str) -> Image.Image | None:
    """Decode an image file that still has a known content; None if it changed or is unreadable.

    content_hash: XXH3 of 128 bits in hexadecimal, as the catalog keeps it.
    """
    try:
        # What is a pipe by now would be waited for without end.
        content = Path(path).read_bytes() if Path(path).is_file() else b""
        if xxhash.xxh3_128_hexdigest(content) != content_hash:
            return None
        return read_image(content)
    except (OSError, UnreadableImageError):
        return None


def _decode(file: BinaryIO) -> Image.Image:
    formats = sorted({*readable_formats().values()})
    try:
        with Image.open(file, formats=formats) as image:
            # Large frames of some modes are only decoded here, so errors belong to this block too.
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(f"refused as too large: {error}") from error
    except UnidentifiedImageError:
        raise UnreadableImageError(_why_unidentified(file)) from None
    except MemoryError as error:
        raise UnreadableImageError("not enough memory to decode it") from error
    except Exception as error:
        raise UnreadableImageError(f"cannot be decoded: {error or type(error).__name__}") from error


def _why_unidentified(file: BinaryIO) -> str:
    file.seek(0)
    return "not an image of a known format" if file.read(1) else "the file is empty"


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):
        return _scale_to_8_bits(image).convert("RGB")
    if image.mode == "LAB":
        to_srgb = ImageCms.buildTransform(
            ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
        )
        return ImageCms.applyTransform(image, to_srgb) or image
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        canvas = Image.new("RGB", rgba.size, "white")
        canvas.paste(rgba, mask=rgba.getchannel("A"))
        return canvas
    return image.convert("RGB")


def _scale_to_8_bits(image: Image.Image) -> Image.Image:
    """Scale integers over their range of 8 or 16 bits, other values from least to greatest."""
    values = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = (values.min(), values.max()) if values.size else (0.0, 0.0)
    if image.mode != "F" and low >= 0 and high <= 65_535:
        low, high = 0.0, 255.0 if high <= 255 and image.mode == "I" else 65_535.0
    elif image.mode == "F" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    span = (high - low) or 1.0
    return Image.fromarray(np.round((values - low) / span * 255).astype(np.uint8))
