"""Recall of reranked candidates, for choosing epochs and the weight of the match."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retrieval.rerankers.base import join
from retrieval.training.validation import DEPTHS

WEIGHTS = (0.0, *(round(float(weight), 4) for weight in np.geomspace(0.005, 0.5, 21)))


@dataclass(frozen=True, eq=False)
class Reranked:
    """Candidates of q queries with both scores and labels.

    similarity, match: (q, c) float32. right: (q, c) bool; a row without a True is a miss.
    """

    similarity: NDArray[np.float32]
    match: NDArray[np.float32]
    right: NDArray[np.bool_]

    def recalls(self, weight: float) -> tuple[float, float, float]:
        """Compute recall@1, @5 and @10 of the joined scores: any right candidate in the first k.

        A candidate that ties with the best right one counts as ranked before it.
        """
        joined = join(self.similarity, self.match, weight)
        best = np.where(self.right, joined, -np.inf).max(1, keepdims=True)
        # Not `>=`: a score that is not a number must never pass for a hit.
        before = (~(joined < best) & ~self.right).sum(1)
        before = np.where(self.right.any(1), before, self.right.shape[1])
        first, fifth, tenth = (
            float((before < k).mean() if k <= self.right.shape[1] else self.right.any(1).mean())
            for k in DEPTHS
        )
        return first, fifth, tenth


def best_weight(trials: Sequence[Reranked], weights: Sequence[float] = WEIGHTS) -> float:
    """Choose the weight of the match with the highest mean recall over all trials and depths.

    The smallest of equal weights: 0 if the match does not help.
    """
    return max(weights, key=lambda weight: np.mean([trial.recalls(weight) for trial in trials]))
