"""What goes over the wire and into `--json`, as pydantic models."""

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from retrieval.catalog import FileDetails, Item, Modality
from retrieval.engine import DEFAULT_BUDGET_MS, Answer, Hit
from retrieval.media import MediaKind
from retrieval.query import MAX_K

if TYPE_CHECKING:
    from retrieval.fusion.explanation import Explanation, HeatMap, WordExplanation


class SearchRequest(BaseModel):
    """A question in JSON."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"text": "two dogs fighting over a stick", "k": 5}]},
    )

    text: Annotated[str, Field(min_length=1, max_length=10_000, description="What to look for.")]
    k: Annotated[int, Field(ge=1, le=MAX_K, description="How many hits at most.")] = 10
    modality: Annotated[
        Modality, Field(description="image: images, frames and pages; text: passages.")
    ] = Modality.IMAGE
    rerank: Annotated[
        Literal["auto", "none"], Field(description="auto: with the reranker of the service.")
    ] = "auto"
    rerank_depth: Annotated[
        int | None,
        Field(ge=1, le=1000, description="Candidates to rerank; null: the reranker's own number."),
    ] = None
    rerank_budget_ms: Annotated[
        float, Field(ge=0, le=60_000, description="Time that reranking may take.")
    ] = DEFAULT_BUDGET_MS


class HitSchema(BaseModel):
    """An item in the answer; scores that do not exist are null."""

    rank: int
    item_id: int
    path: str
    kind: MediaKind
    modality: Modality
    page: Annotated[int | None, Field(description="Of a document, from 1.")] = None
    time_s: Annotated[float | None, Field(description="Of a video's frame, in seconds.")] = None
    text: Annotated[str | None, Field(description="The passage, of a text.")] = None
    columns: Annotated[
        dict[str, Any] | None, Field(description="Other values of a table's row.")
    ] = None
    similarity: Annotated[float, Field(description="Cosine with the query, -1 to 1.")]
    match: Annotated[float | None, Field(description="The reranker's logit, 0 at even odds.")] = (
        None
    )
    relevance: Annotated[float | None, Field(description="Calibrated, 0 to 1.")] = None

    @classmethod
    def of(cls, hit: Hit) -> Self:
        """Flatten a hit of the engine."""
        return cls(
            rank=hit.rank,
            item_id=hit.item.id,
            path=hit.path,
            kind=hit.item.kind,
            modality=hit.item.modality,
            page=hit.item.page,
            time_s=hit.item.time_s,
            text=hit.item.text,
            columns=hit.item.columns,
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
    reranker: Annotated[str | None, Field(description="Whose match is in the hits.")] = None
    reranked: Annotated[
        int, Field(description="How many candidates it scored; they stand before all others.")
    ] = 0

    @classmethod
    def of(cls, answer: Answer, query: str | None, image: str | None = None) -> Self:
        """Flatten an answer of the engine."""
        return cls(
            query=query,
            image=image,
            hits=[HitSchema.of(hit) for hit in answer.hits],
            timings_ms={stage: round(ms, 3) for stage, ms in answer.timings_ms.items()},
            warnings=list(answer.warnings),
            reranker=answer.reranker,
            reranked=answer.reranked,
        )


class ItemSchema(BaseModel):
    """A searchable thing and what is known of its file. Sizes in pixels, upright."""

    item_id: int
    path: str
    kind: MediaKind
    modality: Modality
    width: int | None
    height: int | None
    page: Annotated[int | None, Field(description="Of a document, from 1.")]
    time_s: Annotated[float | None, Field(description="Of a video's frame, in seconds.")]
    text: Annotated[str | None, Field(description="The passage, of a text.")]
    columns: Annotated[dict[str, Any] | None, Field(description="Other values of a table's row.")]
    bytes: Annotated[int, Field(description="Size of the file.")]
    taken_at: Annotated[
        datetime, Field(description="As the file says, else when it was last changed.")
    ]
    camera: str | None
    latitude: float | None
    longitude: float | None
    duration_s: float | None
    description: Annotated[
        str | None, Field(description="Title, description and keywords in the file, a line each.")
    ]
    annotations: Annotated[
        list[dict[str, Any]], Field(description="What rows of tables say of the file.")
    ]

    @classmethod
    def of(cls, item: Item, details: FileDetails) -> Self:
        """Describe an item of the catalog."""
        metadata = details.metadata
        return cls(
            item_id=item.id,
            path=valid_text(item.path),
            kind=item.kind,
            modality=item.modality,
            width=item.width,
            height=item.height,
            page=item.page,
            time_s=item.time_s,
            text=item.text,
            columns=item.columns,
            bytes=details.size,
            taken_at=datetime.fromtimestamp(details.taken_at, UTC),
            camera=metadata.camera,
            latitude=metadata.latitude,
            longitude=metadata.longitude,
            duration_s=metadata.duration_s,
            description=metadata.text,
            annotations=details.annotations,
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


class ExplainRequest(BaseModel):
    """Which text and which item to explain, and how."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[
        str, Field(min_length=1, max_length=10_000, description="What the image may show.")
    ]
    item: Annotated[int, Field(ge=1, le=2**63 - 1, description="The id of an item.")]
    format: Annotated[
        Literal["json", "png"], Field(description="Numbers, or a picture of the heat maps.")
    ] = "json"


HeatMapRows = Annotated[
    list[list[float]],
    Field(
        description="Rows from top to bottom, not negative, sum 1: how the look is spread over "
        "the view. Four significant digits."
    ),
]


class WordSchema(BaseModel):
    """One word of the text, `text[start:end]` in Unicode code points."""

    word: str
    start: int
    end: int
    contribution: Annotated[
        float, Field(description="By how much the match falls without the word.")
    ]
    heat: Annotated[HeatMapRows, Field(title="Where the word looked")]

    @classmethod
    def of(cls, word: "WordExplanation") -> Self:
        """Flatten one word of an explanation."""
        return cls(
            word=word.word,
            start=word.start,
            end=word.end,
            contribution=word.contribution,
            heat=_rows(word.heat),
        )


class ExplanationSchema(BaseModel):
    """Why a text and an image match; words in the order of the text."""

    text: str
    match: Annotated[float, Field(description="The reranker's logit, 0 where it is even odds.")]
    similarity: Annotated[float, Field(description="Cosine of both vectors, -1 to 1.")]
    words: list[WordSchema]
    heat: Annotated[HeatMapRows, Field(title="Where the words looked together")]
    view: Annotated[
        tuple[float, float, float, float],
        Field(
            description="What the heat maps cover: left, top, right and bottom in pixels of the "
            "upright image."
        ),
    ]

    @classmethod
    def of(cls, explanation: "Explanation") -> Self:
        """Flatten an explanation of a reranker."""
        return cls(
            text=explanation.text,
            match=explanation.match,
            similarity=explanation.similarity,
            words=[WordSchema.of(word) for word in explanation.words],
            heat=_rows(explanation.heat),
            view=explanation.view,
        )


def _rows(heat: "HeatMap") -> list[list[float]]:
    return [[float(f"{value:.4g}") for value in row] for row in heat.tolist()]
