"""What both editions of `starter` share: photos of one size, and texts cut to a length.

Free of torch.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval.encoders.base import REDUCTION, ImageTextEncoder, Space

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


def starter_space(weights: str, text: str, dimension: int = 512) -> Space:
    """Describe the space of an edition.

    weights: SHA-256 of all that was learned, in hex. text: how a text is cut into tokens.
    """
    return Space(
        encoder="starter",
        weights=f"sha256:{weights}",
        preprocessing=(
            f"image: RGB, {REDUCTION}, longer side cut to sqrt(width * height), squashed to "
            f"260x260 bicubic, (x - 127) / 128; text: {text}"
        ),
        dimension=dimension,
    )


class TextTower(Protocol):
    """The part of a text tower that cuts texts into tokens, with the special ones."""

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, not truncated."""
        ...

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Locate each token in a text, not truncated; (0, 0) for those that stand for none."""
        ...


class StarterEdition(ImageTextEncoder):
    """Base of both editions: pixels, and the tokens of their text towers."""

    context_length = CONTEXT_LENGTH
    input_side = IMAGE_SIZE

    preprocess = staticmethod(resize)
    """Turn an upright RGB image of any size into (260, 260, 3) uint8, in any process."""

    @property
    @abstractmethod
    def _text_tower(self) -> TextTower: ...

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Locate each of a text's tokens in it; (0, 0) for those that stand for none of it."""
        return cut(self._text_tower.spans(text))

    def token_count(self, text: str) -> int:
        """Tokens of a text with the special ones and any prefix, before truncation."""
        return len(self._text_tower.tokenize([text])[0])

    def view(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return the part of an image that is looked at: left, top, right, bottom in pixels."""
        return view(width, height)
