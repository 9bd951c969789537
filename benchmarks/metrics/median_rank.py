"""Median rank: how far down the middle query's first relevant item stands."""

from benchmarks.metrics.base import Judgments, PerQuery


def median_rank(judgments: Judgments) -> PerQuery:
    """Rank of the first relevant item, from 1: (q,) float64, to be aggregated by the median.

    Infinity where none was found, which leaves the median finite while more than half of the
    queries found theirs. The median of an even number of queries is the mean of the middle two;
    code that descends from VSE++ (Faghri et al. 2018) rounds it down.
    """
    return judgments.first_ranks
