"""Test a value of a user's table."""

import math
import re
import unicodedata

from retrieval.filters import ColumnTest, ColumnValue

_NUMBER = re.compile(r"\s*[+-]?(\d+|\d+\.\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_LONGEST_NUMBER = 400
_SCALAR = (str, int, float)


def passes(value: object, test: ColumnTest) -> bool:
    """True if a JSON value passes a test.

    A text and a number are equal where the text spells the number; `true` and `false` as texts, in
    either case, equal those values. A number contains what it is written with. Of a list, one
    element must pass. Null and objects pass no test.
    """
    if isinstance(value, list):
        return any(passes(v, test) for v in value if not isinstance(v, list))
    if not isinstance(value, _SCALAR):
        return False
    if test.equals is not None and not _equal(value, test.equals):
        return False
    if test.contains is not None and folded(test.contains) not in folded(_text_of(value)):
        return False
    if test.min is None and test.max is None:
        return True
    number = _number_of(value)
    return (
        number is not None
        and (test.min is None or number >= test.min)
        and (test.max is None or number <= test.max)
    )


def folded(text: str) -> str:
    """Fold case and compose characters, for comparison."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def _equal(one: ColumnValue, other: ColumnValue) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return _text_of(one).strip().casefold() == _text_of(other).strip().casefold()
    if isinstance(one, str) and isinstance(other, str):
        return one == other
    number = _number_of(one)
    return number is not None and number == _number_of(other)


def _text_of(value: ColumnValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number_of(value: ColumnValue) -> int | float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        if len(value) > _LONGEST_NUMBER or not _NUMBER.fullmatch(value):
            return None
        value = int(value) if value.strip().lstrip("+-").isdigit() else float(value)
    return value if math.isfinite(value) else None
