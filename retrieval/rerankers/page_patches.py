"""Rerank pages by late interaction between the tokens of a text and the patches of a page."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retrieval.encoders.base import Pixels, Tokens
from retrieval.encoders.checkpoints import CheckpointKind
from retrieval.encoders.multi_vector import EXAMPLE, LATE_INTERACTION, load_multi_vector
from retrieval.rerankers.base import Scores
from retrieval.rerankers.late_interaction import text_max_sim

_KIND = CheckpointKind(LATE_INTERACTION, "--rerank", EXAMPLE, "`--rerank none`")


class LateInteractionReranker:
    """ColPali or ColQwen2 (Faysse et al. 2024) behind the reranker protocol.

    `name_or_dir` is a repository of the model hub or a folder, as of `MultiVectorModel`. Tokens are
    the vectors of the text's tokens and of the page's patches, so that all that is expensive is
    cached, and matching is a matrix product.

    `match` is MaxSim (Khattab and Zaharia 2020, ColBERT): for each token q of the text the largest
    dot product with a vector p of the page, summed over the tokens,

        match(text, page) = sum over q of max over p of q . p

    as ViDoRe ranks. It is no logit: it is not calibrated, grows with the length of the text and
    says nothing but the order of pages for one text.

    `match_weight`: 1. Scores of pages differ by several tenths or more, similarities of the encoder
    at hand by less, so that MaxSim decides, as where the model is used alone, and the similarity
    parts what it finds equal.

    `depth`: 50. Matching that many pages is cheap; making vectors of a page with 3 billion weights
    takes seconds to minutes on a CPU, once.
    """

    match_weight = 1.0
    depth = 50
    images_per_step = 2
    """Candidates without cached tokens between two looks at the clock."""

    def __init__(self, name_or_dir: str, *, device: str = "cpu") -> None:
        self._model = load_multi_vector(_KIND, name_or_dir, device)
        self.name = self._model.name
        self.identity = f"{LATE_INTERACTION}-{self._model.digest}"
        self.most_image_tokens = self._model.most_image_tokens

    def preprocess(self, image: Image.Image) -> Pixels:
        """Apply the checkpoint's own image processor; a () array of a record."""
        return self._model.preprocess(image)

    def image_tokens(self, pixels: Pixels) -> Tokens:
        """Encode n pages, (n, t, d) unit vectors, masked beyond the vectors of each page."""
        return self._model.image_vectors(pixels)

    def text_tokens(self, texts: Sequence[str]) -> Tokens:
        """Encode m texts, (m, t, d) unit vectors."""
        return self._model.text_vectors(texts)

    def match(self, texts: Tokens, images: Tokens) -> Scores:
        """Compute MaxSim of all pairs, (m, n) float32."""
        return text_max_sim(texts, images)

    def text_query_weight(self, texts: Tokens) -> Scores:
        """Return 1 for each text."""
        return np.ones(len(texts.values), np.float32)

    def image_query_weight(self, images: Tokens) -> Scores:
        """Return 1 for each image."""
        return np.ones(len(images.values), np.float32)

    def attribution(self, text: Tokens, image: Tokens) -> NDArray[np.float32]:
        """Return how far each dot product is above the mean of its token, (t, u), 0 at least.

        ColPali's similarity maps show the products themselves, most of which are positive.
        """
        products = text.values[0, text.mask[0]] @ image.values[0, image.mask[0]].T
        above: NDArray[np.float32] = products - products.mean(axis=1, keepdims=True)
        return np.maximum(above, 0)

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Locate each of a text's tokens in it; (0, 0) for those around it."""
        return self._model.token_spans(text)

    def view(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return the whole image, which the model sees."""
        return 0.0, 0.0, float(width), float(height)

    def grid(self, pixels: Pixels, _: int) -> NDArray[np.int64]:
        """Find the patches among the tokens of an image, (rows, columns) of places."""
        return self._model.patches(pixels)
