"""What goes over the wire and into `--json`, as pydantic models."""

import os
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from retrieval.catalog import Item, Modality
from retrieval.engine import Answer, Hit
from retrieval.query import MAX_K


class SearchRequest(BaseModel):
    """A question in JSON."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"text": "two dogs fighting over a stick", "k": 5}]},
    )

    text: Annotated[str, Field(min_length=1, max_length=10_000, description="What to look for.")]
    k: Annotated[int, Field(ge=1, le=MAX_K, description="How many hits at most.")] = 10


class HitSchema(BaseModel):
    """An item in the answer; scores that do not exist are null."""

    rank: int
    item_id: int
    path: str
    modality: Modality
    similarity: Annotated[float, Field(description="Cosine with the query, -1 to 1.")]
    match: Annotated[float | None, Field(description="The reranker's score.")] = None
    relevance: Annotated[float | None, Field(description="Calibrated, 0 to 1.")] = None

    @classmethod
    def of(cls, hit: Hit) -> Self:
        """Flatten a hit of the engine."""
        return cls(
            rank=hit.rank,
            item_id=hit.item.id,
            path=hit.path,
            modality=hit.item.modality,
            similarity=hit.similarity,
            match=hit.match,
            relevance=hit.relevance,
        )


class SearchAnswer(BaseModel):
    """Hits, best first, with the wall time of each stage in milliseconds."""

    query: str | None
    image: str | None = None
    hits: list[HitSchema]
    timings_ms: dict[str, float]
    warnings: list[str] = []

    @classmethod
    def of(cls, answer: Answer, query: str | None, image: str | None = None) -> Self:
        """Flatten an answer of the engine."""
        return cls(
            query=query,
            image=image,
            hits=[HitSchema.of(hit) for hit in answer.hits],
            timings_ms={stage: round(ms, 3) for stage, ms in answer.timings_ms.items()},
            warnings=list(answer.warnings),
        )


class ItemSchema(BaseModel):
    """A searchable thing. Sizes in pixels, upright."""

    item_id: int
    path: str
    modality: Modality
    width: int | None
    height: int | None

    @classmethod
    def of(cls, item: Item) -> Self:
        """Describe an item of the catalog."""
        return cls(
            item_id=item.id,
            path=item.path,
            modality=item.modality,
            width=item.width,
            height=item.height,
        )


class Health(BaseModel):
    """That the service runs, and over what."""

    status: str
    encoder: str


class Problem(BaseModel):
    """An error, after RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


def valid_text(path: str) -> str:
    """Spell a file name that is not valid UTF-8 with escapes, as JSON can carry no raw bytes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
