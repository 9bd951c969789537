"""Average precision, whose mean over the queries is MAP."""

from benchmarks.metrics.base import Judgments, PerQuery


def average_precision(judgments: Judgments, k: float = float("inf")) -> PerQuery:
    """Sum of precision@r over the ranks r <= k of relevant items / number of relevant items.

    (q,) float64 from 0 to 1, where precision@r is the share of relevant items among the first r.
    The divisor is the number of all relevant items even where it exceeds k, as in map and map_cut
    of trec_eval; some libraries divide by min(k, number) instead. Buckley and Voorhees 2005
    (Retrieval System Evaluation).
    """
    counted = judgments.ranks <= k
    return judgments.sum(counted * judgments.places / judgments.ranks) / judgments.relevant
