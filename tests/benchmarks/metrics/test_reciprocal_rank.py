import pytest

from benchmarks.metrics.reciprocal_rank import reciprocal_rank


@pytest.mark.parametrize(("k", "values"), [(1, [1, 0, 0]), (2, [1, 1 / 2, 0])])
def test_past_the_cutoff_there_is_nothing(judged, k, values):
    assert reciprocal_rank(judged, k).tolist() == values
    assert reciprocal_rank(judged).tolist() == [1, 1 / 2, 0]
