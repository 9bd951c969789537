"""Values of a user's table against a condition; `test_filtering` has an oracle for all of it."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.catalog.column_condition import folded, passes
from retrieval.filters import ColumnTest


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("3", 3),
        (" +3.0 ", 3),
        (3.0, "3e0"),
        (".5", 0.5),
        (True, "TRUE"),
        (" false", False),
        (["x", 3], 3),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_equal(value, wanted):
    assert passes(value, ColumnTest(equals=wanted))


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("3 km", 3),
        ("٣", 3),
        ("1_000", 1000),
        ("0x10", 16),
        ("nan", "NaN"),
        ("3.0", "3"),
        (True, 1),
        (1, "true"),
        (None, "None"),
        ({"a": 3}, 3),
        ([[3]], 3),
        ("9" * 5000, 9.0),
        ("9007199254740993", 9007199254740992),
    ],
)
def test_not_equal(value, wanted):
    assert not passes(value, ColumnTest(equals=wanted))


def test_all_limits_must_hold_of_one_value():
    both = ColumnTest(min=3, max=5)
    values = [2, 3, "4.5", 5, "5.01", True, "four", None]
    assert [value for value in values if passes(value, both)] == [3, "4.5", 5]
    assert passes([1, 4], both)
    assert not passes([1, 9], both)
    assert not passes(["1e999", float("inf")], ColumnTest(min=3))


def test_a_part_is_looked_for_in_what_a_value_is_written_with():
    assert passes(1234.5, ColumnTest(contains="34.5"))
    assert passes(True, ColumnTest(contains="RU"))
    assert not passes("abc", ColumnTest(contains="b", equals="abd"))


@given(st.text(), st.sampled_from(["NFC", "NFD"]))
def test_composition_does_not_count(text, form):
    assert folded(unicodedata.normalize(form, text)) == folded(text)


def test_case_does_not_count():
    assert folded("STRASSE É ΣΑΣ K") == folded("straße e\u0301 σας \u212a")
    assert folded("e") != folded("é")
