from benchmarks.metrics import judge
from benchmarks.metrics.r_precision import r_precision


def test_the_share_of_relevant_items_among_the_first_r(judged):
    assert r_precision(judged).tolist() == [1 / 2, 0, 0]


def test_the_item_at_rank_r_counts():
    judgments = judge({"q": {"b": 1, "c": 1}}, {"q": {"a": 3.0, "b": 2.0, "c": 1.0}})
    assert r_precision(judgments).tolist() == [1 / 2]
