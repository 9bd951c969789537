"""Translate filters to predicates over a Lance table, in the language of DataFusion.

They mean what `retrieval.catalog.filtering` says in SQL, and as there, none is ever NULL. What the
language cannot compare - case folding, composed characters, numbers in columns - is compared here,
with the distinct values that the table has, of which those that pass are named.
"""

import json
import math
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import Protocol

from retrieval.catalog import path_glob
from retrieval.catalog.column_condition import folded, number_of, truth_of, writable
from retrieval.catalog.paths import below
from retrieval.catalog.records import folded_name
from retrieval.errors import UsageError
from retrieval.files import valid_text
from retrieval.filters import ColumnTest, ColumnValue, Filter, GeoBox, Range, TimeRange
from retrieval.lance.records import cell_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LARGEST = 2**31 - 1
"""More than the pixels of any picture."""
_HIDDEN = "(hidden IS NOT NULL AND hidden)"
_SCALAR = (str, int, float)
_TRUE, _FALSE = "true", "false"


class TableValues(Protocol):
    """What is asked of a table before a filter can be said as a predicate."""

    def distinct(self, column: str, predicate: str | None = None) -> Iterable[str]:
        """List the distinct texts of a column, or of its lists, in rows that pass a predicate."""

    def escaped_paths(self) -> Mapping[str, bytes]:
        """Return the paths that are not valid UTF-8, by how they are escaped in `path`."""


def predicate_of(where: Filter | None, values: TableValues) -> str:
    """Translate a filter; None lets everything pass.

    values: of the table whose rows are filtered, at the version that is searched. Raises UsageError
    for what tables do not know.
    """
    if where is None:
        return _TRUE
    if where.has_text is not None:
        raise UsageError(
            "Lance tables do not know which pictures show text: the filter `has_text` works in the "
            "library that the table was exported from, and in copies of the table."
        )
    parts_of = partial(predicate_of, values=values)
    wanted = [
        *_of_paths(where, values),
        *_of_content(where, values),
        *_of_columns(where, values),
        *_of_membership(where, values),
        *map(parts_of, where.all_of or ()),
    ]
    if where.any_of:
        wanted.append(any_of(map(parts_of, where.any_of)))
    if where.none_of:
        wanted.append(negated(parts_of(where.none_of)))
    return all_of(wanted)


def shown(where: Filter | None, values: TableValues) -> str:
    """Translate a filter for what is shown: no hidden items unless it speaks of them."""
    wanted = predicate_of(where, values)
    if where is not None and where.says_hidden:
        return wanted
    return all_of([wanted, negated(_HIDDEN)])


def all_of(predicates: Iterable[str | None]) -> str:
    """Join predicates with and; None and `true` say nothing."""
    said = list(dict.fromkeys(p for p in predicates if p is not None and p != _TRUE))
    if _FALSE in said:
        return _FALSE
    return _joined(said, "AND") or _TRUE


def any_of(predicates: Iterable[str]) -> str:
    """Join predicates with or."""
    said = list(dict.fromkeys(p for p in predicates if p != _FALSE))
    if _TRUE in said:
        return _TRUE
    return _joined(said, "OR") or _FALSE


def negated(predicate: str) -> str:
    """Turn a predicate, which is never NULL, into its opposite."""
    return {_TRUE: _FALSE, _FALSE: _TRUE}.get(predicate) or f"(NOT {predicate})"


def literal(text: str) -> str:
    """Write a text as a literal: a quote is doubled, and nothing else means anything in it."""
    return "'" + text.replace("'", "''") + "'"


def one_of(column: str, texts: Iterable[str]) -> str:
    """Match a text column that holds one of some texts."""
    listed = ", ".join(map(literal, sorted(set(texts))))
    return f"({column} IS NOT NULL AND {column} IN ({listed}))" if listed else _FALSE


def at_or_below(root: str, column: str = "path") -> str:
    """Match a path and all paths below it."""
    root = valid_text(root)
    first = below(root)
    past_last = first[:-1] + chr(ord(first[-1]) + 1)
    is_below = f"({column} >= {literal(first)} AND {column} < {literal(past_last)})"
    return f"({column} = {literal(root)} OR {is_below})"


def cell_in(written: str) -> tuple[str, ColumnValue] | None:
    """Read the name of a column and a value from an entry of `cells`; None for what is none."""
    try:
        name, value = json.loads(written)
    except (ValueError, TypeError):
        return None
    return (name, value) if isinstance(name, str) and isinstance(value, _SCALAR) else None


def glob_expression(pattern: str) -> str:
    """Translate a glob to an expression for Rust's `regex`, which needs no time to go back.

    It is the one of `path_glob` without what looks ahead.
    """
    expression = ""
    tokens = path_glob.tokens_of(path_glob.composed(pattern))
    for token, before in zip(tokens, [None, *tokens], strict=False):
        if token == path_glob.STARS and before == path_glob.BEFORE_SLASH:
            expression += "(?:/.*)?"
        elif token.startswith(path_glob.NOT_SLASH):
            expression += f"[{token.removeprefix(path_glob.NOT_SLASH)}&&[^/]]"
        else:
            expression += _EXPRESSIONS.get(token, token)
    return rf"(?s)\A{expression}\z"


def _joined(predicates: list[str], word: str) -> str:
    if len(predicates) < 2:
        return "".join(predicates)
    return f"({f' {word} '.join(predicates)})"


def _of_paths(where: Filter, values: TableValues) -> Iterator[str]:
    if where.source is not None:
        yield at_or_below(where.source)
    if where.path is not None:
        yield _glob(where.path, values)
    if where.place is not None:
        part = folded(f"\n{where.place}\n")
        yield _named("place", values, lambda place: part in folded(f"\n{place}\n"))
    if where.gps is not None:
        yield _inside(where.gps)


def _of_content(where: Filter, values: TableValues) -> Iterator[str]:
    if where.kind is not None:
        yield one_of("kind", where.kind)
    if where.taken_at is not None:
        yield from _dated(where.taken_at)
    for column, limits in (("width", where.width), ("height", where.height)):
        if limits is not None:
            yield from _between(column, limits)
    if where.camera is not None:
        part = folded(where.camera)
        yield _named("camera", values, lambda camera: part in folded(camera))
    if where.camera_name is not None:
        yield one_of("camera", [where.camera_name])


def _of_columns(where: Filter, values: TableValues) -> Iterator[str]:
    for name, test in (where.columns or {}).items():
        if test != ColumnTest():
            yield _tested(name, test, values)
    if where.rating is not None and where.rating != Range():
        stars = ColumnTest(min=where.rating.min, max=where.rating.max)
        yield _tested("rating", stars, values)
    for name, wanted in (
        ("label", where.label),
        ("keyword", where.keyword),
        ("person", where.person),
    ):
        if wanted is not None:
            text = writable(folded(wanted))
            yield _with_cells(name, values, partial(_is_text, text))


def _is_text(wanted: str, value: ColumnValue) -> bool:
    return _folded(value) == wanted


def _of_membership(where: Filter, values: TableValues) -> Iterator[str]:
    if where.collection is not None:
        wanted = folded_name(where.collection)
        names = [one for one in values.distinct("collections") if folded_name(one) == wanted]
        yield _holding(names, "collections")
    if where.hidden is True:
        yield _HIDDEN
    elif where.hidden is False:
        yield negated(_HIDDEN)


def _named(column: str, values: TableValues, passes: Callable[[str], bool]) -> str:
    return one_of(column, filter(passes, values.distinct(column)))


def _glob(pattern: str, values: TableValues) -> str:
    """Match paths by an expression, and those that are not composed by their names.

    Characters are compared as NFC has them, which the engine cannot bring a path to.
    """
    prefix = path_glob.literal_prefix(pattern)
    within = None
    if prefix:
        past_last = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        within = f"(path >= {literal(prefix)} AND path < {literal(past_last)})"
    matches = f"regexp_like(path, {literal(glob_expression(pattern))})"
    may_compose = f"regexp_like(path, {literal(_may_compose())})"
    escaped = values.escaped_paths()
    others = [
        path
        for path in values.distinct("path", may_compose)
        if path not in escaped and path_glob.matches(pattern, path.encode())
    ]
    others += [path for path, octets in escaped.items() if path_glob.matches(pattern, octets)]
    plain = all_of(["path_bytes IS NULL", f"(NOT {may_compose})", matches])
    found = any_of([plain, one_of("path", others)])
    # What is escaped does not begin as it is written.
    return found if escaped else all_of([within, found])


@cache
def _may_compose() -> str:
    """Make a class of the characters that texts which are not composed (NFC) hold.

    They are those that NFC replaces, and those that it may join with others before them: marks, and
    vowels and final consonants of Hangul.
    """
    found: list[list[int]] = [[0x1161, 0x1175], [0x11A8, 0x11C2]]
    for code in range(0x80, sys.maxunicode + 1):
        character = chr(code)
        is_mark = unicodedata.category(character) in {"Mn", "Mc", "Me"}
        if 0xD800 <= code <= 0xDFFF or (
            unicodedata.is_normalized("NFC", character) and not is_mark
        ):
            continue
        if found[-1][1] == code - 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return "[" + "".join(rf"\x{{{first:x}}}-\x{{{last:x}}}" for first, last in found) + "]"


_EXPRESSIONS = {
    path_glob.STAR: "[^/]*",
    path_glob.STARS: ".*",
    path_glob.BEFORE_SLASH: "",
    path_glob.NOTHING: r"[^\x{0}-\x{10ffff}]",
}


def _dated(wanted: TimeRange) -> Iterator[str]:
    if wanted.recorded:
        yield "taken_at IS NOT NULL"
    for moment, is_since in ((wanted.since, True), (wanted.before, False)):
        if moment is None:
            continue
        # A time without a zone is by the camera's clock.
        column = "taken_local" if moment.tzinfo is None else "date"
        in_utc = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        # Times are whole seconds: from 0.5 s on, and before 0.5 s, both are about 1 s.
        seconds = -((_EPOCH - in_utc) // timedelta(seconds=1))
        yield f"({column} IS NOT NULL AND {column} {'>=' if is_since else '<'} {seconds})"


def _between(column: str, limits: Range) -> Iterator[str]:
    """Compare whole numbers, which the engine does not compare with others."""
    if limits.min is not None:
        least = math.ceil(max(limits.min, -_LARGEST))
        yield f"({column} IS NOT NULL AND {column} >= {least})" if least <= _LARGEST else _FALSE
    if limits.max is not None:
        most = math.floor(min(limits.max, _LARGEST))
        yield f"({column} IS NOT NULL AND {column} <= {most})" if most >= -_LARGEST else _FALSE


def _inside(box: GeoBox) -> str:
    from_west, to_east = f"longitude >= {box.west!r}", f"longitude <= {box.east!r}"
    word = "OR" if box.west > box.east else "AND"  # it crosses the 180th meridian
    return (
        "(latitude IS NOT NULL AND longitude IS NOT NULL AND "
        f"latitude >= {box.south!r} AND latitude <= {box.north!r} AND "
        f"({from_west} {word} {to_east}))"
    )


def _tested(name: str, test: ColumnTest, values: TableValues) -> str:
    """Match rows with a value that passes all of a test; see `catalog.cells.values_that_pass`."""
    name = writable(name)
    is_of_text = isinstance(test.equals, str) and number_of(test.equals) is None
    if (
        is_of_text
        and truth_of(test.equals or "") is None
        and test == ColumnTest(equals=test.equals)
    ):
        # Only one value is equal to it: no others need to be looked through.
        return _holding([cell_of(name, json.dumps(test.equals))])
    return _with_cells(name, values, partial(_passes, test))


def _passes(test: ColumnTest, value: ColumnValue) -> bool:
    number = number_of(value)
    if test.equals is not None and not _equals(test.equals, value):
        return False
    if test.contains is not None and writable(folded(test.contains)) not in _folded(value):
        return False
    if test.min is not None and (number is None or number < test.min):
        return False
    return test.max is None or (number is not None and number <= test.max)


def _equals(wanted: ColumnValue, value: ColumnValue) -> bool:
    if isinstance(wanted, bool):
        return truth_of(value) is wanted
    number = number_of(wanted)
    is_number = number is not None and number_of(value) == number
    if not isinstance(wanted, str):
        return is_number
    if isinstance(value, str):
        return value == wanted
    truth = truth_of(wanted)
    return truth_of(value) is truth if truth is not None else is_number


def _folded(value: ColumnValue) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return writable(folded(text))


def _with_cells(name: str, values: TableValues, passes: Callable[[ColumnValue], bool]) -> str:
    wanted = []
    for written in values.distinct("cells"):
        found = cell_in(written)
        if found is not None and found[0] == name and passes(found[1]):
            wanted.append(written)
    return _holding(wanted)


def _holding(written: Iterable[str], column: str = "cells") -> str:
    listed = ", ".join(map(literal, sorted(set(written))))
    if not listed:
        return _FALSE
    return f"({column} IS NOT NULL AND array_has_any({column}, [{listed}]))"
