"""Fields of rows as whole numbers, for engines that filter by them where the vectors are.

A copy of them lies beside the index: with it a filter's own condition is corrected to the rows that
the catalog allows now, whatever has changed since. So no answer depends on these fields; they only
spare naming rows one by one.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.filters import Filter, Range, TimeRange
from retrieval.indices.base import AllowedRows

FIELDS = ("kind", "width", "height", "taken_local", "date", "camera", "folder")
"""Names of the fields; kind, camera and folder are numbers of names."""

NAMED = ("kind", "camera", "folder")

_TRANSLATED = {
    "source", "kind", "taken_at", "width", "height", "camera_name",
    "hidden", "all_of", "any_of", "none_of",
}  # fmt: skip
"""Parts of a filter; hidden rows are few, and named one by one."""

NOTHING = -(1 << 62)
"""Value of a field that a row does not have; it lies in no range."""

_LIMIT = 1 << 61
_MOST_RANGES = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Bitmap = NDArray[np.bool_]


@dataclass
class RowFields:
    """The fields of some rows, and the names behind their numbers.

    values: (n,) int64 by the names of `FIELDS`. names: a list of names by a field of `NAMED`, whose
    value is a place in it.
    """

    values: dict[str, NDArray[np.int64]]
    names: dict[str, list[str]]

    @classmethod
    def empty(cls) -> "RowFields":
        """Of no rows."""
        return cls({name: np.empty(0, np.int64) for name in FIELDS}, {name: [] for name in NAMED})

    @classmethod
    def of(cls, items: Sequence[tuple[Any, ...]], first: int, last: int) -> "RowFields":
        """Make those of rows first .. last-1 of what `Snapshot.fields_of_rows` gives."""
        fields = cls(
            {name: np.full(last - first, NOTHING) for name in FIELDS}, {name: [] for name in NAMED}
        )
        places: dict[str, dict[str, int]] = {name: {} for name in NAMED}
        for row, width, height, taken_local, date, kind, camera, path in items:
            numbers = {"width": width, "height": height, "taken_local": taken_local, "date": date}
            folder = os.path.join(os.path.dirname(path), "")  # noqa: PTH118, PTH120 - with a slash
            for name, word in {"kind": str(kind), "camera": camera, "folder": folder}.items():
                if word is not None:
                    numbers[name] = places[name].setdefault(word, len(places[name]))
            for name, number in numbers.items():
                if number is not None:
                    fields.values[name][row - first] = number
        for name in NAMED:
            fields.names[name] += places[name]
        return fields

    def __len__(self) -> int:
        return len(self.values[FIELDS[0]])

    def extended(self, more: "RowFields") -> "RowFields":
        """Append the fields of the rows that follow; numbers of names stay what they are."""
        names = {name: [*self.names[name]] for name in NAMED}
        values = {}
        for name in FIELDS:
            numbers = more.values[name]
            if name in NAMED:
                places = {known: place for place, known in enumerate(names[name])}
                new = [known for known in more.names[name] if known not in places]
                places |= {known: len(names[name]) + place for place, known in enumerate(new)}
                names[name] += new
                table = np.array([*(places[known] for known in more.names[name]), NOTHING])
                numbers = table[np.where(numbers == NOTHING, -1, numbers)]
            values[name] = np.concatenate([self.values[name], numbers])
        return RowFields(values, names)

    def condition(self, where: Filter) -> "Condition | None":
        """Translate a filter; None if it asks for anything besides these fields."""
        if any(getattr(where, name) is not None for name in where.model_fields_set - _TRANSLATED):
            return None
        parts = [
            *(self._parts(where)),
            *(self.condition(part) for part in where.all_of or ()),
        ]
        if where.any_of:
            parts.append(_joined("or", [self.condition(part) for part in where.any_of]))
        if where.none_of:
            negated = self.condition(where.none_of)
            parts.append(negated and Negated(negated))
        return _joined("and", parts)

    def _parts(self, where: Filter) -> "list[Condition | None]":
        parts: list[Condition | None] = []
        if where.source is not None:
            below = os.path.join(where.source, "")  # noqa: PTH118 - keeps the slash at the end
            folders = [path.startswith(below) for path in self.names["folder"]]
            parts.append(_of_places("folder", np.flatnonzero(folders)))
        if where.kind is not None:
            kinds = [name in where.kind for name in self.names["kind"]]
            parts.append(_of_places("kind", np.flatnonzero(kinds)))
        if where.camera_name is not None:
            cameras = [name == where.camera_name for name in self.names["camera"]]
            parts.append(_of_places("camera", np.flatnonzero(cameras)))
        for name, limits in (("width", where.width), ("height", where.height)):
            if limits is not None and limits != Range():
                parts.append(InRanges(name, (_whole(limits),)))
        if where.taken_at is not None:
            parts += _dated(where.taken_at)
        return parts


@dataclass(frozen=True)
class InRanges:
    """A field is in one of some ranges, inclusive; without any, no row passes."""

    field: str
    ranges: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        """Write it as SQL and Milvus both read it."""
        one = [f"({self.field} >= {low} and {self.field} <= {high})" for low, high in self.ranges]
        return f"({' or '.join(one)})" if one else f"({self.field} < {-_LIMIT * 2})"

    def passing(self, fields: RowFields) -> Bitmap:
        """Return which rows pass, (n,) bool."""
        values = fields.values[self.field]
        passes = np.zeros(len(values), np.bool_)
        for low, high in self.ranges:
            passes |= (values >= low) & (values <= high)
        return passes


@dataclass(frozen=True)
class Joined:
    """All (`and`) or some (`or`) of several conditions hold."""

    word: str
    parts: "tuple[Condition, ...]"

    def __str__(self) -> str:
        """Write it as SQL and Milvus both read it."""
        return "(" + f" {self.word} ".join(map(str, self.parts)) + ")"

    def passing(self, fields: RowFields) -> Bitmap:
        """Return which rows pass, (n,) bool."""
        joining = np.logical_and if self.word == "and" else np.logical_or
        passes: Bitmap = joining.reduce([part.passing(fields) for part in self.parts])
        return passes


@dataclass(frozen=True)
class Negated:
    """A condition does not hold."""

    part: "Condition"

    def __str__(self) -> str:
        """Write it as SQL and Milvus both read it."""
        return f"(not {self.part})"

    def passing(self, fields: RowFields) -> Bitmap:
        """Return which rows pass, (n,) bool."""
        return ~self.part.passing(fields)


Condition = InRanges | Joined | Negated


@dataclass(frozen=True, eq=False)
class Selection:
    """Exactly the rows that are allowed: a condition, and rows that it does not tell right.

    condition: None: every row passes. included: rows that pass besides; only_included: no others.
    excluded: rows that do not, of those that pass.
    """

    condition: Condition | None
    included: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    excluded: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    only_included: bool = False

    @property
    def named(self) -> int:
        """Return how many rows are named one by one."""
        return len(self.included) + len(self.excluded)


class Selector:
    """Selects allowed rows by their fields where that names fewer of them one by one."""

    _MOST_CONDITIONS = 16

    def __init__(self, fields: RowFields | None) -> None:
        self._fields = fields
        self._passing: dict[Filter, tuple[Condition, Bitmap] | None] = {}

    def select(self, allowed: AllowedRows) -> Selection:
        """Say which rows are allowed, in the way that names the fewest."""
        bitmap = allowed.bitmap
        if 2 * allowed.count < len(bitmap):
            best = Selection(None, included=allowed.ids, only_included=True)
        else:
            best = Selection(None, excluded=np.flatnonzero(~bitmap))
        known = None if allowed.filter is None else self._condition(allowed.filter, len(bitmap))
        if known is not None and best.named:
            condition, passing = known
            excluded = np.flatnonzero(passing & ~bitmap)
            included = np.flatnonzero(bitmap & ~passing)
            if len(excluded) + len(included) < best.named:
                return Selection(condition, included, excluded)
        return best

    def _condition(self, where: Filter, count: int) -> tuple[Condition, Bitmap] | None:
        if self._fields is None or len(self._fields) != count:
            return None
        if where not in self._passing:
            condition = self._fields.condition(where)
            if len(self._passing) >= self._MOST_CONDITIONS:
                self._passing.clear()
            self._passing[where] = (
                None if condition is None else (condition, condition.passing(self._fields))
            )
        return self._passing.get(where)


def _joined(word: str, parts: "Sequence[Condition | None]") -> Condition | None:
    known = tuple(part for part in parts if part is not None)
    if not known or len(known) < len(parts):
        return None
    return known[0] if len(known) == 1 else Joined(word, known)


def _of_places(name: str, places: NDArray[np.int64]) -> InRanges | None:
    """Put numbers of names together to ranges; None for too many."""
    if not len(places):
        return InRanges(name, ())
    runs = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
    if len(runs) > _MOST_RANGES:
        return None
    return InRanges(name, tuple((int(run[0]), int(run[-1])) for run in runs))


def _whole(limits: Range) -> tuple[int, int]:
    low, high = limits.min, limits.max
    return (
        -_LIMIT if low is None else math.ceil(max(low, -_LIMIT)),
        _LIMIT if high is None else math.floor(min(high, _LIMIT)),
    )


def _dated(wanted: TimeRange) -> "list[Condition | None]":
    if wanted.recorded:
        return [None]
    parts: list[Condition | None] = []
    for moment, is_since in ((wanted.since, True), (wanted.before, False)):
        if moment is not None:
            name = "taken_local" if moment.tzinfo is None else "date"
            instant = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            seconds = -((_EPOCH - instant) // timedelta(seconds=1))
            ends = (seconds, _LIMIT) if is_since else (-_LIMIT, seconds - 1)
            parts.append(InRanges(name, (ends,)))
    return parts
