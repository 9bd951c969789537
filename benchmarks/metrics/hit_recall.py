"""Hit recall at k: is any relevant item among the first k?"""

import numpy as np

from benchmarks.metrics.base import Judgments, PerQuery


def hit_recall(judgments: Judgments, k: int) -> PerQuery:
    """1 where a relevant item is among the first k, else 0: (q,) float64.

    The mean over the queries, 0 to 1, is what papers on image-text retrieval since Hodosh et al.
    2013 (Framing Image Description as a Ranking Task) and so CLIP papers call R@K. With one
    relevant item a query it equals `recall`; with five captions a photo it does not. trec_eval
    calls it success_k, ranx hit_rate@k.
    """
    return (judgments.first_ranks <= k).astype(np.float64)
