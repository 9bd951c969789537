import pytest

from benchmarks.metrics.average_precision import average_precision


def test_precisions_at_the_ranks_of_relevant_items_are_averaged(judged):
    assert average_precision(judged) == pytest.approx([(1 / 1 + 2 / 4) / 2, 1 / 2, 0])


@pytest.mark.parametrize(("k", "values"), [(1, [1 / 2, 0, 0]), (3, [1 / 2, 1 / 2, 0])])
def test_the_divisor_stays_with_a_cutoff(judged, k, values):
    assert average_precision(judged, k) == pytest.approx(values)
