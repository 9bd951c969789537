"""Decode query images sent by clients, within limits."""

import base64
import binascii

from PIL import Image

from retrieval.errors import UnreadableFileError, UsageError
from retrieval.media.images import LEAST_SIDE, read_image

MAX_IMAGES = 8
"""Maximum number of images in a query."""


def read_query_image(content: str | bytes, max_pixels: float, name: str = "image") -> Image.Image:
    """Decode an image file, given as bytes or base64, to upright RGB; reduce it if it is large.

    max_pixels: maximum size in megapixels. name: name of the image in error messages. Raises
    UsageError for invalid base64, an invalid image, or too many pixels.
    """
    try:
        data = base64.b64decode(content, validate=True) if isinstance(content, str) else content
    except (binascii.Error, ValueError) as error:
        raise UsageError(f"{name}: not valid base64.") from error
    try:
        return read_image(data, least_side=LEAST_SIDE, max_pixels=int(max_pixels * 1e6))
    except UnreadableFileError as error:
        raise UsageError(f"{name}: {error}.") from error
