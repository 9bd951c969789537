import math

from benchmarks.metrics import evaluate, judge
from benchmarks.metrics.median_rank import median_rank


def test_the_first_relevant_item_counts(judged):
    assert median_rank(judged).tolist() == [1, 2, math.inf]
    assert evaluate(judged, ["median_rank"]) == {"median_rank": 2}


def test_the_median_rank_is_finite_while_most_queries_found_something():
    qrels = {str(number): {"a": 1} for number in range(4)}
    run = {str(number): {"a": 1.0, "b": float(number == 2) * 2} for number in range(3)}
    assert evaluate(judge(qrels, run), ["median_rank"]) == {"median_rank": 1.5}
