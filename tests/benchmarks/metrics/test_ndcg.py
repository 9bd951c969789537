import math

import pytest

from benchmarks.metrics import judge, per_query
from benchmarks.metrics.ndcg import ndcg


def test_the_ideal_ranking_has_the_highest_gain_first(judged):
    ideal = 3 + 1 / math.log2(3)
    expected = [(1 + 3 / math.log2(5)) / ideal, 1 / math.log2(3), 0]
    assert ndcg(judged) == pytest.approx(expected)
    assert ndcg(judged, 1) == pytest.approx([1 / 3, 0, 0])


def test_graded_gains_are_linear():
    judgments = judge({"q": {"a": 3, "b": 1, "gone": 2}}, {"q": {"b": 0.9, "a": 0.5}})
    best = 3 + 2 / math.log2(3)
    assert per_query(judgments, "ndcg@2") == pytest.approx([(1 + 3 / math.log2(3)) / best])
    assert per_query(judgments, "ndcg") == pytest.approx(
        [(1 + 3 / math.log2(3)) / (best + 1 / math.log2(4))]
    )
