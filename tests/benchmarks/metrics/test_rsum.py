import pytest

from benchmarks.metrics import judge
from benchmarks.metrics.rsum import rsum


def test_rsum_adds_both_directions_in_percent(text_to_image, image_to_text):
    expected = (60 + 100 + 100) + (200 / 3 + 100 + 100)
    assert rsum(text_to_image, image_to_text) == pytest.approx(expected, rel=1e-12)


def test_perfect_and_lost_results_are_the_ends_of_the_scale():
    perfect = judge({"q": {"a": 1}}, {"q": {"a": 1.0}})
    lost = judge({"q": {"a": 1}}, {})
    assert (rsum(perfect, perfect), rsum(lost, lost), rsum(lost, perfect)) == (600, 0, 300)
