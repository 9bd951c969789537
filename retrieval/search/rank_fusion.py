"""Orders of hits: several rankings joined into one, and one spread out over what it holds."""

from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_T = TypeVar("_T", bound=Hashable)

RRF_K = 60
"""As Cormack et al. found best, and most have used since."""


def reciprocal_rank_fusion(
    rankings: Sequence[Sequence[_T]], k: int = RRF_K
) -> list[tuple[_T, float]]:
    """Join rankings by score = sum of 1 / (k + rank), ranks from 1 (Cormack et al. 2009).

    rankings: each best first, without repetitions. Returns what is in any of them with its score,
    best first; of equals, what an earlier ranking names first.

    >>> [name for name, _ in reciprocal_rank_fusion([["a", "b", "c"], ["c", "d"]])]
    ['c', 'a', 'b', 'd']
    """
    scores: dict[_T, float] = {}
    for ranking in rankings:
        for rank, one in enumerate(ranking, start=1):
            scores[one] = scores.get(one, 0.0) + 1 / (k + rank)
    return sorted(scores.items(), key=lambda pair: -pair[1])


def maximal_marginal_relevance(
    scores: NDArray[np.float32], vectors: NDArray[np.float32], diversity: float
) -> list[int]:
    """Order items so that each is good and unlike those before it (Carbonell and Goldstein 1998).

    The next is that with the largest (1 - diversity) * score - diversity * (largest cosine with
    those chosen); the first is that with the largest score. scores: (n,) float32, here scaled to
    0..1. vectors: (n, d) float32, unit. diversity: 0..1. Returns places, n of them; of equals, the
    earlier first.
    """
    if not len(scores):
        return []
    low, high = float(scores.min()), float(scores.max())
    scaled = (scores - low) / (high - low) if high > low else np.zeros_like(scores)
    nearest = np.full(len(scores), -1.0, np.float32)
    left = np.ones(len(scores), np.bool_)
    order: list[int] = []
    while len(order) < len(scores):
        value = (1 - diversity) * scaled - diversity * nearest if order else scaled
        best = int(np.where(left, value, -np.inf).argmax())
        order.append(best)
        left[best] = False
        nearest = np.maximum(nearest, vectors @ vectors[best])
    return order
