"""Pictures that clients send to search with: decoded by their content, within limits."""

import base64
import binascii

from PIL import Image

from retrieval.errors import UnreadableFileError, UsageError
from retrieval.media.images import LEAST_SIDE, read_image

MAX_IMAGES = 8
"""Of one question."""


def read_query_image(content: str | bytes, max_pixels: float, name: str = "image") -> Image.Image:
    """Decode the bytes of an image file, or their base64, to upright RGB.

    Large ones are reduced by whole factors. max_pixels: in millions. name: what the message calls
    it. Raises UsageError for what is not base64, not an image, or has more pixels.
    """
    try:
        data = base64.b64decode(content, validate=True) if isinstance(content, str) else content
    except (binascii.Error, ValueError) as error:
        raise UsageError(f"{name}: not valid base64.") from error
    try:
        return read_image(data, least_side=LEAST_SIDE, max_pixels=int(max_pixels * 1e6))
    except UnreadableFileError as error:
        raise UsageError(f"{name}: {error}.") from error
