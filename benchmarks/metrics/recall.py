"""Recall at k: the share of the relevant items that are among the first k."""

from benchmarks.metrics.base import Judgments, PerQuery


def recall(judgments: Judgments, k: int) -> PerQuery:
    """Number of relevant items with rank <= k, divided by that of all relevant items: (q,) float64.

    From 0 to 1. The recall of information retrieval (Manning et al. 2008, section 8.3); trec_eval
    calls it recall_k. It cannot reach 1 where a query has more than k relevant items. What CLIP
    papers call R@K is `hit_recall`.
    """
    return judgments.sum(judgments.ranks <= k) / judgments.relevant
