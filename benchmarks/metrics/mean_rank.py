"""Mean rank: how far down the first relevant item stands on average."""

from benchmarks.metrics.base import Judgments, PerQuery


def mean_rank(judgments: Judgments) -> PerQuery:
    """Rank of the first relevant item, from 1: (q,) float64, to be aggregated by the mean.

    Infinity where none was found, and then the mean is infinite too: a list cut off at its
    hundredth item does not tell how far down the relevant one stands. It wants whole rankings.
    """
    return judgments.first_ranks
