"""Schemas of facets."""

from collections.abc import Sequence
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from api.http.schemas.items import FilterText
from retrieval.files import valid_text
from retrieval.media import MediaKind, Modality
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


class FacetsRequest(FacetsLimit):
    """What is counted: all items, those that pass a filter, or the hits of a text."""

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
        Modality, Field(description="image: images, frames and pages; text: chunks of text.")
    ] = Modality.IMAGE
    where: FilterText = None


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


def _values(values: Sequence[FacetValue[Any]]) -> list[dict[str, object]]:
    return [
        {
            "value": valid_text(found.value) if isinstance(found.value, str) else found.value,
            "count": found.count,
        }
        for found in values
    ]
