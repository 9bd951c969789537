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
        """Compute recall@1, @5 and @10 of the joined scores: any right candidate in the first k."""
        ranks = self.ranks(weight)
        first, fifth, tenth = (float((ranks <= k).mean()) for k in DEPTHS)
        return first, fifth, tenth

    def ranks(self, weight: float) -> NDArray[np.float64]:
        """Compute the rank of the best right candidate by the joined scores, (q,), from 1.

        Other right candidates are not counted; one that ties with the best right one counts as
        ranked before it. Infinity where no candidate is right.
        """
        joined = join(self.similarity, self.match, weight)
        best = np.where(self.right, joined, -np.inf).max(1, keepdims=True)
        # Not `>=`: a score that is not a number must never pass for a hit.
        before = (~(joined < best) & ~self.right).sum(1)
        return np.where(self.right.any(1), before + 1.0, np.inf)

    def part(self, rows: NDArray[np.bool_]) -> "Reranked":
        """Select some of the queries by a (q,) bool mask."""
        return Reranked(self.similarity[rows], self.match[rows], self.right[rows])


def best_weight(trials: Sequence[Reranked], weights: Sequence[float] = WEIGHTS) -> float:
    """Choose the weight of the match with the highest mean recall over all trials and depths.

    The smallest of equal weights: 0 if the match does not help.
    """
    return max(weights, key=lambda weight: np.mean([trial.recalls(weight) for trial in trials]))
