"""Schemas of what recognisers found in the picture or the speech of an item."""

from collections.abc import Iterable
from typing import Annotated, Self

from pydantic import BaseModel, Field

from retrieval.catalog import Enrichment
from retrieval.recognition.base import Task


class SegmentSchema(BaseModel):
    """A piece of found text and where it is."""

    text: str
    confidence: Annotated[float | None, Field(description="Of the model, 0 to 1.")]
    box: Annotated[
        list[list[float]] | None,
        Field(
            description="Its four corners (x, y), clockwise from the upper left of the text, as "
            "fractions of the upright picture's width and height; null: of no place."
        ),
    ]
    start_s: Annotated[float | None, Field(description="When it begins to be said, in seconds.")]
    end_s: Annotated[float | None, Field(description="When it has been said, in seconds.")]


class FoundTextSchema(BaseModel):
    """What one task found."""

    task: Annotated[
        Task,
        Field(
            description="ocr: in the picture; speech: in the whole file; caption: generated, of "
            "what the picture shows."
        ),
    ]
    model: Annotated[str, Field(description="The model that found it, with its version.")]
    text: Annotated[str, Field(description="All of it, a line a segment; empty: nothing.")]
    segments: list[SegmentSchema]
    failure: Annotated[str | None, Field(description="Why the model could not look.")] = None

    @classmethod
    def of(cls, found: Enrichment) -> Self:
        """Build from what the catalog has."""
        return cls(
            task=found.task,
            model=found.model,
            text=found.text or "",
            segments=[SegmentSchema(**segment.to_json()) for segment in found.segments],
            failure=found.failure,
        )


class ItemTexts(BaseModel):
    """Texts that models found in an item; tasks that have not looked at it are left out."""

    texts: list[FoundTextSchema]

    @classmethod
    def of(cls, found: Iterable[Enrichment]) -> Self:
        """Build from what the catalog has."""
        return cls(texts=[FoundTextSchema.of(one) for one in found])
