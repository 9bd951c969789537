import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.metrics.character_error_rate import (
    character_error_rate,
    edit_distance,
    normalized,
)

texts = st.text("abc海 ", max_size=12)


def by_definition(first: str, second: str) -> int:
    """The recursion of Wagner and Fischer, cell by cell."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, start=1):
        left = [i]
        for j, b in enumerate(second, start=1):
            left.append(min(row[j] + 1, left[-1] + 1, row[j - 1] + (a != b)))
        row = left
    return row[-1]


@given(texts, texts)
def test_the_distance_is_that_of_the_definition(first, second):
    assert edit_distance(first, second) == by_definition(first, second)


def test_rates_are_of_all_characters_together():
    assert character_error_rate(["abcd", "海港"], ["abd", "海港"]) == pytest.approx(1 / 6)
    assert character_error_rate(["ab"], ["abcdef"]) == 2
    with pytest.raises(ValueError, match="no characters"):
        character_error_rate([" "], ["a"])


def test_widths_and_runs_of_blanks_do_not_count():
    assert normalized(" Ａ：\n b ") == "A: b"
    assert character_error_rate(["Total:  ４２"], ["Total：42"]) == pytest.approx(1 / 9)
