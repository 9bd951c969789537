"""Schemas of facets."""

from collections.abc import Sequence
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from api.http.schemas.items import FilterText
from retrieval.files import valid_text
from retrieval.media import MediaKind, Modality
from retrieval.search.facet_values import FacetQuestion, FacetValues, NestedValue
from retrieval.search.facets import DEFAULT_VALUES, MAX_VALUES, OF_FILES, Facets, FacetValue
from retrieval.search.query import MAX_TEXT_LENGTH

_Value = TypeVar("_Value")

ValueCount = Annotated[
    int,
    Field(ge=1, le=MAX_VALUES, description="Maximum number of values of each facet."),
]


class FacetsLimit(BaseModel):
    """Size of the answer."""

    model_config = ConfigDict(extra="forbid")

    limit: ValueCount = DEFAULT_VALUES


class CountedItems(BaseModel):
    """What is counted: all items, those that pass a filter, or the hits of a text."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[
        str | None,
        Field(min_length=1, max_length=MAX_TEXT_LENGTH, description="Count the hits of a text."),
    ] = None
    min_relevance: Annotated[
        Annotated[float, Field(ge=0, le=1)] | Literal["auto"],
        Field(
            description="Minimum relevance of these hits; auto: the best cut; 0: everything is a "
            "hit."
        ),
    ] = 0.0
    modality: Annotated[
        Modality,
        Field(description="image: images, frames, pages; text: chunks of text; audio: sounds."),
    ] = Modality.IMAGE
    where: FilterText = None


class FacetsRequest(CountedItems, FacetsLimit):
    """What is counted, and the size of the answer."""


class FacetValuesRequest(FacetsLimit):
    """Which values of which facet are wanted."""

    facet: Annotated[
        str,
        Field(
            max_length=1000,
            description="years, months, folders, places, cameras or kinds; or columns.NAME for a "
            "table column.",
        ),
    ]
    below: Annotated[
        list[Annotated[str, Field(max_length=4096)]],
        Field(
            max_length=3,
            description="What they are in: the year of months; the path of a folder; a country, "
            "then a region of it. Without any: sources, countries.",
        ),
    ] = []
    contains: Annotated[
        str,
        Field(
            max_length=200,
            description="Part of their names, not case-sensitive; values of all levels are "
            "looked through.",
        ),
    ] = ""

    @property
    def question(self) -> FacetQuestion:
        """What the engine is asked."""
        return FacetQuestion(self.facet, tuple(self.below), self.contains, self.limit)


class FacetValuesOfText(CountedItems, FacetValuesRequest):
    """What is counted, and which values are wanted."""


class FacetValueSchema(BaseModel, Generic[_Value]):
    """A value and the number of items that have it."""

    value: _Value
    count: int


class FacetsSchema(BaseModel):
    """Counts of items by value, each facet with its most frequent values."""

    total: Annotated[int, Field(description="Number of items that were counted.")]
    is_partial: Annotated[
        bool, Field(description="Whether the query has more hits than were counted.")
    ]
    years: Annotated[list[FacetValueSchema[str]], Field(description="As `2019`, the newest first.")]
    months: Annotated[
        list[FacetValueSchema[str]], Field(description="As `2019-05`, the newest first.")
    ]
    folders: Annotated[
        list[FacetValueSchema[str]],
        Field(description="Sources and the first two levels of folders in them, by path."),
    ]
    places: Annotated[list[FacetValueSchema[str]], Field(description="Names of places.")]
    cameras: Annotated[list[FacetValueSchema[str]], Field(description="Names of cameras.")]
    kinds: Annotated[list[FacetValueSchema[MediaKind]], Field(description="Kinds of files.")]
    collections: Annotated[
        list[FacetValueSchema[str]], Field(description="Names of collections.")
    ] = []
    columns: Annotated[
        dict[str, list[FacetValueSchema[str | int | float | bool]]],
        Field(description="Values of table columns, by name of the column."),
    ]

    @classmethod
    def of(cls, facets: Facets) -> Self:
        """Convert the facets of the engine."""
        return cls.model_validate(
            {
                "total": facets.total,
                "is_partial": facets.is_partial,
                "columns": {
                    valid_text(name): _values(values) for name, values in facets.columns.items()
                },
                **{name: _values(getattr(facets, name)) for name in OF_FILES},
            }
        )


class NestedValueSchema(FacetValueSchema[str | int | float | bool]):
    """A value, the number of items that have it, and where it is."""

    within: Annotated[
        list[str], Field(description="Of a place: the larger ones it is in, the country first.")
    ] = []
    has_more: Annotated[bool, Field(description="Whether smaller values are `below` it.")] = False


class FacetValuesSchema(BaseModel):
    """Values of one facet: folders by path, dates newest first, others the most frequent first."""

    total: Annotated[int, Field(description="Number of items that were counted.")]
    is_partial: Annotated[
        bool, Field(description="Whether the query has more hits than were counted.")
    ]
    values: list[NestedValueSchema]
    left_out: Annotated[
        int,
        Field(
            description="Number of values that are not in the answer. Of a column with more than "
            "1,000, those that `contains` finds are counted alone."
        ),
    ]

    @classmethod
    def of(cls, found: FacetValues) -> Self:
        """Convert the values of the engine."""
        values = [
            {**vars(value), **shown, "within": [valid_text(name) for name in value.within]}
            for value, shown in zip(found.values, _values(found.values), strict=True)
        ]
        return cls.model_validate(vars(found) | {"values": values})


def _values(values: Sequence[FacetValue[Any] | NestedValue]) -> list[dict[str, object]]:
    return [
        {
            "value": valid_text(found.value) if isinstance(found.value, str) else found.value,
            "count": found.count,
        }
        for found in values
    ]
