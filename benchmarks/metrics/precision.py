"""Precision at k: the share of the first k items that are relevant."""

from benchmarks.metrics.base import Judgments, PerQuery


def precision(judgments: Judgments, k: int) -> PerQuery:
    """Number of relevant items with rank <= k, divided by k: (q,) float64 from 0 to 1.

    Divided by k for shorter lists, too, as P_k of trec_eval (Manning et al. 2008, section 8.4).
    """
    return judgments.sum(judgments.ranks <= k) / k
