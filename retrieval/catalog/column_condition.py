"""Whether a value of a user's table passes a test."""

import json
import math
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from retrieval.filters import ColumnTest

Value = str | int | float | bool | None

_NUMBER = re.compile(r"\s*[+-]?(\d+|\d+\.\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_LONGEST_NUMBER = 400


def written(test: ColumnTest) -> str:
    """A test as the text that `passes` takes."""
    return json.dumps(test.model_dump(exclude_none=True))


def passes(value: str | int | float | None, json_type: str, test: str) -> bool:
    """Whether a value passes, as SQLite's `json_each` gives it and its type.

    A text and a number are equal where the text spells the number; `true` and `false` as texts, in
    either case, equal those values. A number contains what it is written with. Of a list, one
    element must pass. Null and objects pass no test.
    """
    wanted = _parsed(test)
    return any(_passes(single, wanted) for single in _singles(value, json_type))


def folded(text: str) -> str:
    """A text for comparison in either case, composed or not."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


@lru_cache(maxsize=64)
def _parsed(test: str) -> ColumnTest:
    return ColumnTest.model_validate(json.loads(test))


def _singles(value: str | int | float | None, json_type: str) -> Iterator[Value]:
    if json_type in {"true", "false"}:
        yield json_type == "true"
    elif json_type == "array":
        try:
            elements = json.loads(str(value))
        except (ValueError, RecursionError):
            return
        yield from (e for e in elements if isinstance(e, str | int | float))
    elif json_type != "object":
        yield value


def _passes(value: Value, test: ColumnTest) -> bool:
    if value is None:
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


def _equal(one: Value, other: Value) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return _text_of(one).strip().casefold() == _text_of(other).strip().casefold()
    if isinstance(one, str) and isinstance(other, str):
        return one == other
    number = _number_of(one)
    return number is not None and number == _number_of(other)


def _text_of(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number_of(value: Value) -> int | float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        if len(value) > _LONGEST_NUMBER or not _NUMBER.fullmatch(value):
            return None
        value = int(value) if value.strip().lstrip("+-").isdigit() else float(value)
    return value if value is not None and math.isfinite(value) else None
