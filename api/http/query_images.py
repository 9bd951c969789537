"""Decode query images sent by clients, within limits."""

import base64
import binascii
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import UnreadableFileError, UsageError
from retrieval.media.images import read_image

MAX_IMAGES = 8
"""Maximum number of images in a query."""

Pixels = NDArray[np.uint8]
"""(height, width, 3) sRGB of an upright image."""


def read_query_images(
    images: Sequence[tuple[str, str | bytes]], max_pixels: float, least_side: int | None = None
) -> list[Pixels]:
    """Decode image files, given as bytes or base64, each with its name in error messages.

    Called in a process of its own, since strangers send them (`DecodePool.run_apart`).

    max_pixels: maximum size of each in megapixels. least_side: reduce large images, as `read_image`
    does. Raises UsageError for invalid base64, an invalid image, or too many pixels.
    """
    return [_read(name, content, max_pixels, least_side) for name, content in images]


def content_of(name: str, content: str | bytes) -> bytes:
    """Return the bytes of a file, which a text has in base64; raises UsageError for others."""
    try:
        return base64.b64decode(content, validate=True) if isinstance(content, str) else content
    except (binascii.Error, ValueError) as error:
        raise UsageError(f"{name}: not valid base64.") from error


def _read(name: str, content: str | bytes, max_pixels: float, least_side: int | None) -> Pixels:
    data = content_of(name, content)
    try:
        image = read_image(data, least_side=least_side, max_pixels=int(max_pixels * 1e6))
    except UnreadableFileError as error:
        raise UsageError(f"{name}: {error}.") from error
    return np.asarray(image)
