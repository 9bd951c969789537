"""Reciprocal rank, whose mean over the queries is MRR."""

import numpy as np

from benchmarks.metrics.base import Judgments, PerQuery


def reciprocal_rank(judgments: Judgments, k: float = float("inf")) -> PerQuery:
    """1 / rank of the first relevant item, 0 where it is not among the first k: (q,) float64.

    From 0 to 1. Voorhees 1999 (The TREC-8 Question Answering Track Report); recip_rank of
    trec_eval.
    """
    return np.where(judgments.first_ranks <= k, 1 / judgments.first_ranks, 0.0)
