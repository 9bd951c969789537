import pytest

from benchmarks.metrics import judge
from benchmarks.metrics.map_at_r import map_at_r


def test_only_as_many_items_count_as_are_relevant(judged):
    assert map_at_r(judged) == pytest.approx([1 / 2, 0, 0])


def test_a_late_relevant_item_within_r_counts_with_its_precision():
    judgments = judge({"q": {"b": 1, "c": 1, "z": 1}}, {"q": {"a": 3, "b": 2, "c": 1}})
    assert map_at_r(judgments) == pytest.approx([(1 / 2 + 2 / 3) / 3])
