"""Filters: conditions on items, combined with and, or and not."""

import json
import re
from datetime import datetime
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    model_validator,
)

from retrieval.media import MediaKind

MAX_DEPTH = 8
MAX_CONDITIONS = 100

_TIME = TypeAdapter(datetime)
_NUMBER = re.compile(
    r"[+-]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(e[+-]?\d+)?|[+-]?(nan|inf(inity)?)", re.IGNORECASE
)
_SHORT_DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?", re.ASCII)

Degrees = Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]
ColumnValue = str | int | float | bool


class _Condition(BaseModel):
    """Base of conditions, compared and hashed by their JSON, so that they can be cache keys.

    Comparing the fields would not do: a dict is not hashable, and in Python `True == 1`, which are
    different values of a column.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self._json == other._json

    def __hash__(self) -> int:
        return hash(self._json)

    @cached_property
    def _json(self) -> str:
        return json.dumps(self.model_dump(mode="json", exclude_none=True), sort_keys=True)


def _whole_date(value: object) -> object:
    """Read a time, or make a day, month or year (`2023-05`) the time at which it begins."""
    if not isinstance(value, str):
        return value
    if _NUMBER.fullmatch(value.strip()) and not _SHORT_DATE.fullmatch(value.strip()):
        raise ValueError("a number is no date; write it as 2023, 2023-05 or 2023-05-17")
    try:
        if found := _SHORT_DATE.fullmatch(value.strip()):
            return datetime(*(int(part or 1) for part in found.groups()))  # type: ignore[arg-type]
        # A strict model takes texts of JSON for times, but not those that a validator gives it.
        return _TIME.validate_python(value)
    except ValueError:
        return value


Moment = Annotated[datetime, BeforeValidator(_whole_date)]


class TimeRange(_Condition):
    """At or after `since` and before `before`.

    A time without a time zone is what the camera's clock showed; one with a zone is an instant. A
    day, month or year alone begins at midnight by that clock. recorded: Only dates that the file
    holds itself, not its modification time.
    """

    since: Moment | None = None
    before: Moment | None = None
    recorded: bool = False

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        since, before = self.since, self.before
        if since is None or before is None:
            return self
        # The camera's clock and an instant lie apart by what zones do: cannot be compared.
        if (since.tzinfo is None) == (before.tzinfo is None) and since >= before:
            raise ValueError(
                f"nothing is taken at or after {since.isoformat(' ')} and before "
                f"{before.isoformat(' ')}: put the earlier date first (since, --after), the later "
                "one second (before, --before)"
            )
        return self


class Range(_Condition):
    """Between two numbers, inclusive."""

    min: Annotated[float | None, Field(allow_inf_nan=False)] = None
    max: Annotated[float | None, Field(allow_inf_nan=False)] = None


class GeoBox(_Condition):
    """Bounding box in degrees; west > east if it crosses the 180th meridian."""

    south: Annotated[float, Field(ge=-90, le=90)]
    north: Annotated[float, Field(ge=-90, le=90)]
    west: Degrees
    east: Degrees


class ColumnTest(_Condition):
    """Condition on a table column, in the row of the item itself or in a row about its file."""

    equals: ColumnValue | None = None
    contains: Annotated[str | None, Field(min_length=1, max_length=1000)] = None
    min: Annotated[float | None, Field(allow_inf_nan=False)] = None
    max: Annotated[float | None, Field(allow_inf_nan=False)] = None


class Filter(_Condition):
    """Filter of items; all given fields must hold. An empty filter matches everything.

    At most 8 levels and 100 conditions in total.

    Args:
        source: Absolute path of the file, or of a directory above it.
        path: Glob over the absolute path: `*` within a directory, `**` across directories, `?` and
            `[...]`; a pattern that does not begin with a slash may begin at any directory.
        kind: File kinds.
        taken_at: Date and time that the camera showed, or of the modification of a file without a
            date; instants, where the filter's times have a zone.
        width: Pixels, upright.
        height: Pixels, upright.
        has_text: Whether text was recognised in the picture, the page has a text of its own, or the
            item is a text.
        camera: Part of the camera name, not case-sensitive.
        camera_name: Whole camera name, as facets have it.
        place: Name of the city, region or country of the place, not case-sensitive.
        gps: Bounding box of the place.
        rating: Stars, -1 (rejected) to 5.
        label: Colour label of a photo program, not case-sensitive.
        keyword: A whole keyword, or a level of one in levels, not case-sensitive.
        person: Whole name of a person, not case-sensitive.
        collection: Name of a collection, not case-sensitive.
        hidden: Whether the items are hidden ones; `any`: both. Where no part of a filter says so,
            hidden items do not pass it as a whole.
        columns: Conditions on table columns, by name.
    """

    source: Annotated[str | None, Field(min_length=1, max_length=4096)] = None
    path: Annotated[str | None, Field(min_length=1, max_length=4096)] = None
    kind: Annotated[
        tuple[MediaKind, ...] | None, Field(min_length=1, max_length=len(MediaKind))
    ] = None
    taken_at: TimeRange | None = None
    width: Range | None = None
    height: Range | None = None
    has_text: bool | None = None
    camera: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    camera_name: Annotated[str | None, Field(min_length=1, max_length=1000)] = None
    place: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    gps: GeoBox | None = None
    rating: Range | None = None
    label: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    keyword: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    person: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    collection: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    hidden: bool | Literal["any"] | None = None
    columns: Annotated[dict[str, ColumnTest] | None, Field(max_length=20)] = None
    all_of: Annotated[tuple["Filter", ...] | None, Field(alias="and", min_length=1)] = None
    any_of: Annotated[tuple["Filter", ...] | None, Field(alias="or", min_length=1)] = None
    none_of: Annotated["Filter | None", Field(alias="not")] = None

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        if self.depth > MAX_DEPTH or self.size > MAX_CONDITIONS:
            raise ValueError(
                f"a filter has at most {MAX_DEPTH} levels and {MAX_CONDITIONS} conditions"
            )
        return self

    @property
    def parts(self) -> tuple["Filter", ...]:
        """Filters directly inside this one."""
        negated = (self.none_of,) if self.none_of else ()
        return (self.all_of or ()) + (self.any_of or ()) + negated

    @property
    def depth(self) -> int:
        """Nesting depth, from 1."""
        return 1 + max((part.depth for part in self.parts), default=0)

    @property
    def size(self) -> int:
        """Number of conditions and filters, including this one."""
        fields = self.model_fields_set - {"all_of", "any_of", "none_of"}
        return 1 + len(fields) + len(self.columns or {}) + sum(part.size for part in self.parts)

    @property
    def says_hidden(self) -> bool:
        """Return whether some part says whether items are hidden."""
        return self.hidden is not None or any(part.says_hidden for part in self.parts)

    @property
    def collections(self) -> set[str]:
        """Names of the collections in it."""
        own = set() if self.collection is None else {self.collection}
        return own.union(*(part.collections for part in self.parts))

    @property
    def is_empty(self) -> bool:
        """Return whether the filter matches everything."""
        return self == Filter()
