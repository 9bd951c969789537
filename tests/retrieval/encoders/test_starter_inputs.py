"""What is kept of a photo and of a text."""

import pytest

from retrieval.encoders.starter_inputs import CONTEXT_LENGTH, cut, view


@pytest.mark.parametrize("length", [2, CONTEXT_LENGTH, CONTEXT_LENGTH + 1, 1000])
def test_a_cut_text_keeps_its_closing_token(length: int) -> None:
    ids = list(range(length))
    kept = cut(ids)
    assert len(kept) == min(length, CONTEXT_LENGTH)
    assert kept[:-1] == ids[: len(kept) - 1]
    assert kept[-1] == length - 1


@pytest.mark.parametrize("size", [(200, 50), (50, 200), (70, 70), (1, 999)])
def test_the_view_is_central_and_as_long_as_the_mean_side(size: tuple[int, int]) -> None:
    left, top, right, bottom = view(*size)
    assert (left + right, top + bottom) == pytest.approx(size)
    assert min(right - left, bottom - top) == min(size)
    assert max(right - left, bottom - top) == pytest.approx((size[0] * size[1]) ** 0.5)
