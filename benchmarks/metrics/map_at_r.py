"""MAP at R: average precision within the first R items, R being the number of relevant ones."""

from benchmarks.metrics.base import Judgments, PerQuery


def map_at_r(judgments: Judgments) -> PerQuery:
    """Sum of precision@r over the ranks r <= R of relevant items / R, for R relevant items.

    (q,) float64 from 0 to 1; 1 only where all relevant items come first. Musgrave et al. 2020 (A
    Metric Learning Reality Check), adopted for image-text retrieval by ECCV Caption (Chun et al.
    2022).
    """
    counted = judgments.ranks <= judgments.relevant[judgments.queries]
    return judgments.sum(counted * judgments.places / judgments.ranks) / judgments.relevant
