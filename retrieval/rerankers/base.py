"""What every reranker offers, and how its match joins the similarity."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval.encoders.base import Pixels, Tokens

Scores = NDArray[np.float32]


@runtime_checkable
class Reranker(Protocol):
    """Scores pairs of a text and an image by looking at both together.

    What depends on one side alone is computed apart, by `image_tokens` and `text_tokens`, so that
    it can be kept and used again; `match` does what needs both. `preprocess` may be called from
    several threads at once; the other methods are called from one thread at a time.
    """

    name: str
    """As a user names it, such as `fusion` or `blip-itm:DIR`."""

    identity: str
    """A digest of all that the tokens depend on: tokens of two identities never meet."""

    match_weight: float
    """How much a match counts beside a similarity (`join`), chosen on validation data."""

    likeness_weight: float
    """How much a likeness counts beside a similarity; 0 where there is none."""

    depth: int
    """How many candidates are reranked by default."""

    def preprocess(self, image: Image.Image) -> Pixels:
        """Turn one upright RGB image of any size into the network's input."""
        ...

    def image_tokens(self, pixels: Pixels) -> Tokens:
        """Everything that `match` needs of n images: (n, t, c), fit to be kept as float16."""
        ...

    def text_tokens(self, texts: Sequence[str]) -> Tokens:
        """Everything that `match` needs of m texts: (m, t, c)."""
        ...

    def match(self, texts: Tokens, images: Tokens) -> Scores:
        """Score every text with every image: (m, n) float32 logits, 0 where it is even odds.

        A score depends on its own text and image alone.
        """
        ...

    def text_trust(self, texts: Tokens) -> Scores:
        """How far to trust the match of each text as a query, (m,), 0 to 1.

        It scales `match_weight`: less for what is unlike anything that the model has learned.
        """
        ...

    def image_trust(self, images: Tokens) -> Scores:
        """How far to trust the match of each image as a query, (n,), 0 to 1."""
        ...

    def likeness(self, image: Tokens, images: Tokens) -> Scores:
        """How alike one image is to each of n others, (n,), for a query without a text."""
        ...


def join(similarity: Scores, match: Scores, weight: float) -> Scores:
    """Join both scores of candidates, elementwise: similarity + weight * match.

    As BLIP's protocol adds the match to the similarity (Li et al. 2022); the similarity is what
    ranks where the reranker is unsure.
    """
    return similarity + np.float32(weight) * match
