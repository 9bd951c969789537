"""Late interaction: image similarity token by token (MaxSim)."""

import numpy as np
from numpy.typing import NDArray

from retrieval.encoders.base import Tokens
from retrieval.rerankers.base import Scores


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
