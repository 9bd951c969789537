"""What every dual encoder offers: the protocol, its vector space, its token-level outputs."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Vectors = NDArray[np.float32]
"""(n, d) float32, rows of unit L2 norm."""

Pixels = NDArray[Any]
"""What `Encoder.preprocess` returns: one image, of one fixed shape and dtype per encoder."""


REDUCED_TO_SIDES = 2
"""Pictures are read no smaller than this many sides of the network's input.

Larger ones may be made smaller by whole factors when they are decoded, which is several times
faster for photos of 12 megapixels; their vectors of `starter` have a cosine of at least 0.997, and
of 0.999 in the median, with those of the whole photos.
"""

REDUCTION = f"larger pictures reduced by whole factors, to no less than {REDUCED_TO_SIDES} sides"
"""For the description of a space's preprocessing."""


@dataclass(frozen=True)
class Space:
    """The identity of a vector space: vectors of two different spaces never meet.

    `weights` is a checksum ("sha256:...") over everything that was learned; `preprocessing`
    names, in words, each step from a decoded image or a text to the network's input.
    """

    encoder: str
    weights: str
    preprocessing: str
    dimension: int
    normalization: str = "l2"

    @property
    def id(self) -> str:
        """A directory name: the encoder in readable form and a digest of all fields."""
        slug = re.sub(r"[^A-Za-z0-9]+", "-", self.encoder).strip("-").lower()[:40]
        digest = hashlib.sha256(repr(sorted(asdict(self).items())).encode()).hexdigest()[:12]
        return f"{slug}-{digest}"


@dataclass(frozen=True)
class Tokens:
    """Token-level outputs of one tower for a batch.

    values: (n, t, c) float32, or float16 as they were kept; mask: (n, t) bool, True where a token
    is present. Values under a False mask are zero.
    """

    values: NDArray[Any]
    mask: NDArray[np.bool_]


@runtime_checkable
class Encoder(Protocol):
    """Maps images and texts into one vector space.

    `preprocess` may be called from several threads at once; the other methods are called from
    one thread at a time. Empty input gives empty output of the right width.
    """

    space: Space

    @property
    def context_length(self) -> int:
        """Longest text, in tokens with the special ones; longer texts are truncated."""
        ...

    @property
    def input_side(self) -> int:
        """Shorter side of the network's input, in pixels."""
        ...

    def preprocess(self, image: Image.Image) -> Pixels:
        """Turn one upright RGB image of any size into the network's input."""
        ...

    def encode_images(self, pixels: Pixels) -> Vectors:
        """Encode a stack of preprocessed images, (n, ...) -> (n, d)."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Encode texts, n strings -> (n, d)."""
        ...

    def image_tokens(self, pixels: Pixels) -> Tokens:
        """Spatial outputs of the image tower, one token a position of its map."""
        ...

    def text_tokens(self, texts: Sequence[str]) -> Tokens:
        """Outputs of the text tower, one a token."""
        ...

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Where in the text each of its `text_tokens` comes from; (0, 0) for special tokens."""
        ...

    def view(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part of an image that `preprocess` keeps: left, top, right, bottom in pixels."""
        ...

    def token_count(self, text: str) -> int:
        """Tokens of a text with the special ones, before truncation."""
        ...
