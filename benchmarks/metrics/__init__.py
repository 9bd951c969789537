"""Metrics of retrieval quality by name, computed from plain qrels and runs.

    judgments = judge({"cat": {"1.jpg": 1}}, {"cat": {"1.jpg": 0.7, "2.jpg": 0.9}})
    evaluate(judgments, ["hit_recall@1", "mrr"])  # {"hit_recall@1": 0.0, "mrr": 0.5}

Names with a cutoff: hit_recall@k, recall@k, precision@k, map@k, mrr@k, ndcg@k. Without: map, map@r,
mean_rank, median_rank, mrr, ndcg, r_precision. `rsum` spans two directions and is a function of its
own.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks.metrics.average_precision import average_precision
from benchmarks.metrics.base import Judgments, PerQuery, judge, judge_scores
from benchmarks.metrics.hit_recall import hit_recall
from benchmarks.metrics.map_at_r import map_at_r
from benchmarks.metrics.mean_rank import mean_rank
from benchmarks.metrics.median_rank import median_rank
from benchmarks.metrics.ndcg import ndcg
from benchmarks.metrics.precision import precision
from benchmarks.metrics.r_precision import r_precision
from benchmarks.metrics.recall import recall
from benchmarks.metrics.reciprocal_rank import reciprocal_rank
from benchmarks.metrics.rsum import rsum
from retrieval.errors import UsageError

__all__ = [
    "METRIC_NAMES",
    "Aggregate",
    "Judgments",
    "Metric",
    "PerQuery",
    "evaluate",
    "judge",
    "judge_scores",
    "parse_metric",
    "per_query",
    "rsum",
]

Aggregate = Literal["mean", "median"]

_WITHOUT_CUTOFF: dict[str, Callable[[Judgments], PerQuery]] = {
    "map": average_precision,
    "map@r": map_at_r,
    "mean_rank": mean_rank,
    "median_rank": median_rank,
    "mrr": reciprocal_rank,
    "ndcg": ndcg,
    "r_precision": r_precision,
}
_WITH_CUTOFF: dict[str, Callable[[Judgments, int], PerQuery]] = {
    "hit_recall": hit_recall,
    "map": average_precision,
    "mrr": reciprocal_rank,
    "ndcg": ndcg,
    "precision": precision,
    "recall": recall,
}
_LOWER_IS_BETTER = {"mean_rank", "median_rank"}

METRIC_NAMES = tuple(sorted([*_WITHOUT_CUTOFF, *(f"{name}@k" for name in _WITH_CUTOFF)]))
"""Every name that `parse_metric` takes, where k stands for a number."""


@dataclass(frozen=True)
class Metric:
    """A metric by name: its values for each query, and how they become one figure."""

    name: str
    per_query: Callable[[Judgments], PerQuery]
    aggregate: Aggregate = "mean"
    higher_is_better: bool = True

    def of(self, judgments: Judgments) -> float:
        """Aggregate over the queries: infinite for ranks of items that were not found."""
        values = self.per_query(judgments)
        return float(np.median(values) if self.aggregate == "median" else values.mean())


def parse_metric(name: str) -> Metric:
    """Find the metric that a name such as `recall@10` or `map` means.

    Raises UsageError, which lists all names, for an unknown one or a cutoff that is not a whole
    number from 1.
    """
    if name in _WITHOUT_CUTOFF:
        return Metric(
            name,
            _WITHOUT_CUTOFF[name],
            "median" if name == "median_rank" else "mean",
            higher_is_better=name not in _LOWER_IS_BETTER,
        )
    match = re.fullmatch(r"(\w+)@([1-9][0-9]{0,8})", name)
    if match and match[1] in _WITH_CUTOFF:
        measure, k = _WITH_CUTOFF[match[1]], int(match[2])
        return Metric(name, lambda judgments: measure(judgments, k))
    raise UsageError(
        f"Unknown metric {name!r}. Known are {', '.join(METRIC_NAMES)}, with a whole number from 1 "
        "for k, such as recall@10."
    )


def per_query(judgments: Judgments, name: str) -> PerQuery:
    """Values of one metric for each query: (q,) float64 in the order of `judgments.query_ids`."""
    return parse_metric(name).per_query(judgments)


def evaluate(judgments: Judgments, names: Iterable[str]) -> dict[str, float]:
    """Compute metrics over all queries: {name as given: value}.

    Means over the queries, but for `median_rank`. A query that found nothing counts as 0, and its
    rank as infinity. Raises UsageError for an unknown name.
    """
    return {metric.name: metric.of(judgments) for metric in map(parse_metric, names)}
