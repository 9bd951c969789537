"""What the towers of `starter` are given: photos of one size, and texts cut to a length.

Free of torch: both editions of the encoder use it.
"""

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_T = TypeVar("_T")

IMAGE_SIZE = 260
CONTEXT_LENGTH = 128
MAP_POSITIONS = 81
MAP_CHANNELS = 352
TOKEN_CHANNELS = MAP_CHANNELS + 208 + 120 + 48 + 6
TEXT_WIDTH = 384


def resize(
    image: Image.Image, box: tuple[float, float, float, float] | None = None
) -> NDArray[np.uint8]:
    """Bring an image, or a box of it, to the image tower's input, (260, 260, 3) uint8.

    Without a box, the longer side is first cut to the geometric mean of both sides, about the
    centre, and what is left is squashed to a square: half of the way, on a logarithmic scale,
    between squashing all of the image and cutting it to its central square. Measured better than
    either end; square images are kept whole.
    """
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    size = (IMAGE_SIZE, IMAGE_SIZE)
    return np.array(
        rgb.resize(size, Image.Resampling.BICUBIC, box=box or view(rgb.width, rgb.height)),
        dtype=np.uint8,
    )


def view(width: int, height: int) -> tuple[float, float, float, float]:
    """Return the part of an image that `resize` keeps: left, top, right, bottom in pixels."""
    mean = math.sqrt(width * height)
    across, down = min(width, mean), min(height, mean)
    left, top = (width - across) / 2, (height - down) / 2
    return left, top, left + across, top + down


def cut(ids: Sequence[_T]) -> list[_T]:
    """Truncate a text's tokens to the context length, keeping the closing special one."""
    if len(ids) <= CONTEXT_LENGTH:
        return list(ids)
    return [*ids[: CONTEXT_LENGTH - 1], ids[-1]]
