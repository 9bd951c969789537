import math

from benchmarks.metrics import evaluate, judge
from benchmarks.metrics.mean_rank import mean_rank


def test_the_first_relevant_item_counts(judged):
    assert mean_rank(judged).tolist() == [1, 2, math.inf]


def test_one_lost_item_makes_the_mean_infinite(judged):
    assert evaluate(judged, ["mean_rank"]) == {"mean_rank": math.inf}
    found = judge({"p": {"a": 1}, "q": {"b": 1}}, {key: {"a": 2.0, "b": 1.0} for key in "pq"})
    assert evaluate(found, ["mean_rank"]) == {"mean_rank": 1.5}
