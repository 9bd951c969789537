import pytest

from benchmarks.metrics.recall import recall


@pytest.mark.parametrize(
    ("k", "values"), [(1, [1 / 2, 0, 0]), (3, [1 / 2, 1, 0]), (4, [1, 1, 0]), (99, [1, 1, 0])]
)
def test_the_share_of_relevant_items_among_the_first_k(judged, k, values):
    assert recall(judged, k).tolist() == values
