"""Late interaction token by token (MaxSim): of two images, and of texts with images."""

import numpy as np
from numpy.typing import NDArray

from retrieval.encoders.base import Tokens
from retrieval.rerankers.base import Scores

_IMAGES_AT_ONCE = 32


def text_max_sim(texts: Tokens, images: Tokens) -> Scores:
    """Compute for each text the sum over its tokens of the largest dot product with an image's.

    MaxSim of ColBERT (Khattab and Zaharia 2020), (m, n) float32 for texts (m, t, c) and images
    (n, u, c), each with a token at least. Masked tokens take no part.
    """
    scores = np.zeros((len(texts.values), len(images.values)), np.float32)
    for start in range(0, scores.shape[1], _IMAGES_AT_ONCE):
        columns = slice(start, start + _IMAGES_AT_ONCE)
        values = images.values[columns].astype(np.float32)
        absent = ~images.mask[columns]
        for row, (text, mask) in enumerate(zip(texts.values, texts.mask, strict=True)):
            products = values @ text[mask].astype(np.float32).T
            products[absent] = -np.inf
            scores[row, columns] = products.max(axis=1).sum(axis=1)
    return scores


def max_sim(image: Tokens, images: Tokens, centre: NDArray[np.float32]) -> Scores:
    """Compare the tokens of one image with those of n others, (n,) float32, -1 to 1.

    For each token the cosine with the nearest token of the other image, averaged over tokens and
    over both directions (symmetric MaxSim; Khattab and Zaharia 2020, ColBERT).

    Args:
        image: (1, t, c).
        images: (n, u, c).
        centre: (c,), the mean over many images, subtracted from every token.
    """
    query = _unit(image.values[0, image.mask[0]], centre)
    others = _unit(images.values, centre)
    cosines = np.einsum("ac,nbc->nab", query, others, optimize=True)
    cosines = np.where(images.mask[:, np.newaxis], cosines, -np.inf)
    of_query = cosines.max(2).mean(1)
    nearest = np.where(images.mask, cosines.max(1), 0)
    of_others = nearest.sum(1) / images.mask.sum(1)
    scores: Scores = ((of_query + of_others) / 2).astype(np.float32)
    return scores


def _unit(values: NDArray[np.float32], centre: NDArray[np.float32]) -> NDArray[np.float32]:
    centred = values.astype(np.float32) - centre
    lengths = np.linalg.norm(centred, axis=-1, keepdims=True)
    unit: NDArray[np.float32] = centred / np.maximum(lengths, np.float32(1e-6))
    return unit
