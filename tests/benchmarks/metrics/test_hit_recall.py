import pytest

from benchmarks.metrics.hit_recall import hit_recall


@pytest.mark.parametrize(("k", "values"), [(1, [1, 0, 0]), (2, [1, 1, 0]), (99, [1, 1, 0])])
def test_one_relevant_item_among_the_first_k_is_enough(judged, k, values):
    assert hit_recall(judged, k).tolist() == values
