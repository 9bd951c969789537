"""What items must be like to be found: a condition, combined with and, or and not."""

import json
from datetime import datetime
from functools import cached_property
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from retrieval.media import MediaKind

MAX_DEPTH = 8
MAX_CONDITIONS = 100

Degrees = Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]
ColumnValue = str | int | float | bool


class _Condition(BaseModel):
    """Equal and hashed by its JSON, so that it can be a cache key.

    Its fields would not do: a dict has no hash, and in Python `True == 1`, which are different
    values of a column.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self._json == other._json

    def __hash__(self) -> int:
        return hash(self._json)

    @cached_property
    def _json(self) -> str:
        return json.dumps(self.model_dump(mode="json", exclude_none=True), sort_keys=True)


class TimeRange(_Condition):
    """From the first instant on and before the second; times without a zone are UTC."""

    since: datetime | None = None
    before: datetime | None = None


class Range(_Condition):
    """Between two numbers, both included."""

    min: Annotated[float | None, Field(allow_inf_nan=False)] = None
    max: Annotated[float | None, Field(allow_inf_nan=False)] = None


class GeoBox(_Condition):
    """A box in degrees; west > east where it crosses the 180th meridian."""

    south: Annotated[float, Field(ge=-90, le=90)]
    north: Annotated[float, Field(ge=-90, le=90)]
    west: Degrees
    east: Degrees


class ColumnTest(_Condition):
    """What a column of a user's table must hold, for the item itself or for the file it is in."""

    equals: ColumnValue | None = None
    contains: Annotated[str | None, Field(min_length=1, max_length=1000)] = None
    min: Annotated[float | None, Field(allow_inf_nan=False)] = None
    max: Annotated[float | None, Field(allow_inf_nan=False)] = None


class Filter(_Condition):
    """All that is given must hold. An empty filter lets everything pass.

    source: a path that the library was told to index, or any path below which the file must lie.
    path: a glob over the absolute path, `*` within a folder, `**` across folders, `?` and `[...]`;
    a pattern that does not begin with a slash may begin at any folder. taken_at: of the file itself
    or, where it does not tell, its modification time. width, height: pixels, upright. camera: part
    of its name, in either case. columns: by name.

    At most 8 levels and 100 conditions in all.
    """

    source: Annotated[str | None, Field(min_length=1, max_length=4096)] = None
    path: Annotated[str | None, Field(min_length=1, max_length=4096)] = None
    kind: Annotated[
        tuple[MediaKind, ...] | None, Field(min_length=1, max_length=len(MediaKind))
    ] = None
    taken_at: TimeRange | None = None
    width: Range | None = None
    height: Range | None = None
    camera: Annotated[str | None, Field(min_length=1, max_length=200)] = None
    gps: GeoBox | None = None
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
        """The filters directly inside this one."""
        negated = (self.none_of,) if self.none_of else ()
        return (self.all_of or ()) + (self.any_of or ()) + negated

    @property
    def depth(self) -> int:
        """Levels of filters within filters, from 1."""
        return 1 + max((part.depth for part in self.parts), default=0)

    @property
    def size(self) -> int:
        """Conditions and filters, this one included."""
        own = len(self.model_fields_set - {"all_of", "any_of", "none_of"}) + len(self.columns or {})
        return 1 + own + sum(part.size for part in self.parts)

    @property
    def is_empty(self) -> bool:
        """Whether everything passes."""
        return self == Filter()
