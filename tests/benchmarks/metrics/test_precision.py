import pytest

from benchmarks.metrics.precision import precision


@pytest.mark.parametrize(
    ("k", "values"), [(1, [1, 0, 0]), (3, [1 / 3, 1 / 3, 0]), (4, [2 / 4, 1 / 4, 0])]
)
def test_the_share_of_the_first_k_that_is_relevant(judged, k, values):
    assert precision(judged, k).tolist() == values
