"""How values of users' tables are compared."""

import math
import re
import unicodedata

from retrieval.filters import ColumnValue

_NUMBER = re.compile(r"\s*[+-]?(\d+|\d+\.\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_LONGEST_NUMBER = 400
_LARGEST_INTEGER = 2**63 - 1
_TRUTH = {"true": True, "false": False}


def compared(value: ColumnValue) -> tuple[str, int | float | None, bool | None]:
    """Return what a value is compared by: its text, folded, its number and its truth."""
    return writable(folded(_text_of(value))), number_of(value), truth_of(value)


def folded(text: str) -> str:
    """Fold case and compose characters, for comparison."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def number_of(value: ColumnValue) -> int | float | None:
    """Return the number that a value is or spells; integers of over 64 bits as the next double."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        if len(value) > _LONGEST_NUMBER or not _NUMBER.fullmatch(value):
            return None
        value = int(value) if value.strip().lstrip("+-").isdigit() else float(value)
    if isinstance(value, int):
        if abs(value) <= _LARGEST_INTEGER:
            return value
        try:
            return float(value)
        except OverflowError:
            return None
    return value if math.isfinite(value) else None


def truth_of(value: ColumnValue) -> bool | None:
    """Return which of true and false a value is or spells, in either case."""
    return _TRUTH.get(_text_of(value).strip().casefold())


def writable(text: str) -> str:
    """Replace what cannot be written as UTF-8."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _text_of(value: ColumnValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
