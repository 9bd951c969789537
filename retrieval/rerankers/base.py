"""Protocol of rerankers, and how their match joins the similarity."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval.encoders.base import Pixels, Tokens

Scores = NDArray[np.float32]


@runtime_checkable
class Reranker(Protocol):
    """Scores pairs of a text and an image from the tokens of both.

    Tokens depend on one side alone, so that they can be cached; `match` computes what needs both.
    `preprocess` may be called from several threads at once; the other methods are called from one
    thread at a time.
    """

    name: str
    """Name in answers and reports, such as `fusion` or `blip-itm:DIR`."""

    identity: str
    """Digest of everything that tokens depend on; the key of cached tokens."""

    match_weight: float
    """Weight of the match beside the similarity (`join`), chosen on validation data."""

    depth: int
    """Number of candidates reranked by default."""

    def preprocess(self, image: Image.Image) -> Pixels:
        """Preprocess one upright RGB image of any size into the network's input."""
        ...

    def image_tokens(self, pixels: Pixels) -> Tokens:
        """Encode n preprocessed images to tokens, (n, t, c), within the range of float16."""
        ...

    def text_tokens(self, texts: Sequence[str]) -> Tokens:
        """Encode m texts to tokens, (m, t, c)."""
        ...

    def match(self, texts: Tokens, images: Tokens) -> Scores:
        """Score every text with every image: (m, n) float32 logits, 0 at even odds.

        A score depends on its text and image alone, not on the rest of the batch.
        """
        ...

    def text_query_weight(self, texts: Tokens) -> Scores:
        """Compute a factor of `match_weight` for each text as a query, (m,) float32, 0 to 1.

        Lower for queries that are out of the distribution of the training data.
        """
        ...

    def image_query_weight(self, images: Tokens) -> Scores:
        """Compute a factor of `match_weight` for each image as a query, (n,) float32, 0 to 1."""
        ...


@runtime_checkable
class ImageSimilarityReranker(Reranker, Protocol):
    """A reranker that also compares images, for queries without a text."""

    image_similarity_weight: float
    """Weight of the image similarity beside the similarity."""

    def image_similarity(self, image: Tokens, images: Tokens) -> Scores:
        """Compare one image with n others, (n,) float32."""
        ...


@runtime_checkable
class ExplainableReranker(Reranker, Protocol):
    """A reranker that can attribute a match to tokens."""

    def attribution(self, text: Tokens, image: Tokens) -> NDArray[np.float32]:
        """Attribute the match of one text and one image to pairs of their tokens, (t, u)."""
        ...

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Locate each of a text's `text_tokens` in it; (0, 0) for special tokens."""
        ...

    def view(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return the part of an image that the grid covers: left, top, right, bottom (px)."""
        ...

    def grid(self, pixels: Pixels, count: int) -> NDArray[np.int64]:
        """Find the cells of a preprocessed image among its tokens, (rows, columns) of places.

        count: number of its tokens. Raises UsageError where they are no grid.
        """
        ...


def image_token_shape(reranker: Reranker) -> tuple[int, int]:
    """Return how many tokens an image has, at most, and their width.

    Rerankers whose images differ in this say the largest number as `most_image_tokens`.
    """
    blank = reranker.preprocess(Image.new("RGB", (64, 64)))
    _, tokens, width = reranker.image_tokens(np.stack([blank])).values.shape
    most: int = getattr(reranker, "most_image_tokens", int(tokens))
    return most, int(width)


def join(similarity: Scores, match: Scores, weight: float) -> Scores:
    """Join two scores of candidates elementwise: similarity + weight * match.

    BLIP adds the match to the similarity in the same way (Li et al. 2022); the similarity decides
    where the reranker is unsure.
    """
    return similarity + np.float32(weight) * match
