"""nDCG: gains discounted by rank, as a share of what the best ranking would collect."""

import numpy as np

from benchmarks.metrics.base import Judgments, PerQuery


def ndcg(judgments: Judgments, k: float = float("inf")) -> PerQuery:
    """DCG@k / DCG@k of the ideal ranking, where DCG@k = sum of gain / log2(1 + rank), rank <= k.

    (q,) float64 from 0 to 1. The ideal ranking has all relevant items, found or not, by gain
    descending. Gains are linear, as in ndcg and ndcg_cut of trec_eval (after Järvelin and
    Kekäläinen 2002), and not 2^gain - 1.
    """
    collected = judgments.gains * (judgments.ranks <= k) / np.log2(1 + judgments.ranks)
    best_first = judgments.gains[np.lexsort((-judgments.gains, judgments.queries))]
    ideal = best_first * (judgments.places <= k) / np.log2(1 + judgments.places)
    return judgments.sum(collected) / judgments.sum(ideal)
