"""How values of a user's table are compared; `test_cells` has an oracle for conditions on them."""

import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.catalog.column_condition import compared, folded, number_of, truth_of, writable


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("3", 3),
        (" +3.0 ", 3),
        ("3e0", 3),
        (".5", 0.5),
        ("9007199254740993", 9007199254740993),
        (2**63 - 1, 2**63 - 1),
        (2**70, 2.0**70),
        ("1" + "0" * 399, None),
        ("9" * 5000, None),
        ("3 km", None),
        ("٣", None),
        ("1_000", None),
        ("0x10", None),
        ("nan", None),
        ("1e999", None),
        (math.inf, None),
        (True, None),
    ],
)
def test_the_number_of_a_value(value, number):
    found = number_of(value)
    assert found == number
    assert type(found) is type(number) or found == int(found)


@pytest.mark.parametrize(
    ("value", "truth"),
    [(True, True), (" false", False), ("TRUE", True), (1, None), ("yes", None), ("", None)],
)
def test_the_truth_of_a_value(value, truth):
    assert truth_of(value) is truth


def test_a_value_is_compared_by_what_it_is_written_with():
    assert compared(1234.5) == ("1234.5", 1234.5, None)
    assert compared(True) == ("true", None, True)
    assert compared("STRASSE 3") == ("strasse 3", None, None)
    assert compared("\ud800x")[0] == writable("\ud800x") == "?x"


@given(st.text(), st.sampled_from(["NFC", "NFD"]))
def test_composition_does_not_count(text, form):
    assert folded(unicodedata.normalize(form, text)) == folded(text)


def test_case_does_not_count():
    assert folded("STRASSE É ΣΑΣ K") == folded("straße e\u0301 σας \u212a")
    assert folded("e") != folded("é")
