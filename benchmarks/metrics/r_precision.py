"""R-precision: precision among the first R items, R being the number of relevant ones."""

from benchmarks.metrics.base import Judgments, PerQuery


def r_precision(judgments: Judgments) -> PerQuery:
    """Number of relevant items with rank <= R, divided by R, for R relevant items.

    (q,) float64 from 0 to 1. Rprec of trec_eval (Buckley and Voorhees 2005), adopted for
    image-text retrieval by ECCV Caption (Chun et al. 2022).
    """
    counted = judgments.ranks <= judgments.relevant[judgments.queries]
    return judgments.sum(counted) / judgments.relevant
