"""Queries and answers, in HTTP bodies and in `--json`."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_serializer, model_validator

from api.http.schemas.items import (
    MOST_IN_AN_ADDRESS,
    DateSource,
    FoundBy,
    ServedPath,
    TakenLocal,
    item_facts,
)
from retrieval.filters import Filter
from retrieval.media import MediaKind, Modality
from retrieval.search.answer import Answer
from retrieval.search.cursor import MAX_CURSOR_LENGTH
from retrieval.search.query import (
    DEFAULT_BUDGET_MS,
    MAX_ITEM_ID,
    MAX_K,
    MAX_LITERAL,
    MAX_PARTS,
    MAX_RERANK_BUDGET_MS,
    MAX_RERANK_DEPTH,
    MAX_SOUND_S,
    MAX_SPACES,
    MAX_TEXT_LENGTH,
    MAX_WEIGHT,
    Mode,
    PartKind,
    Sort,
)

ItemNumber = Annotated[int, Field(ge=1, le=MAX_ITEM_ID)]
QueryText = Annotated[str, Field(min_length=1, max_length=MAX_TEXT_LENGTH)]
Base64Image = Annotated[
    str, Field(min_length=1, json_schema_extra={"contentEncoding": "base64", "format": "byte"})
]
Base64Sound = Base64Image
Cursor = Annotated[str, Field(min_length=1, max_length=MAX_CURSOR_LENGTH)]

HitCount = Annotated[int, Field(ge=1, le=MAX_K, description="Maximum number of hits.")]
GroupByFile = Annotated[
    bool, Field(description="Collapse by file: the best frame, page or chunk of each file.")
]
Rerank = Annotated[
    Literal["auto", "none"], Field(description="auto: with the reranker of the service.")
]


class PartSchema(BaseModel):
    """A query part: a text, an image, a sound or an item, with a signed weight."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[QueryText | None, Field(description="Text to search for.")] = None
    image: Annotated[Base64Image | None, Field(description="An image file, in base64.")] = None
    audio: Annotated[Base64Sound | None, Field(description="A sound file, in base64.")] = None
    item: Annotated[ItemNumber | None, Field(description="The id of an item.")] = None
    weight: Annotated[
        float,
        Field(
            ge=-MAX_WEIGHT, le=MAX_WEIGHT, description="Below 0: hits should be unlike it. Not 0."
        ),
    ] = 1.0

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        given = (self.text, self.image, self.audio, self.item)
        if sum(value is not None for value in given) != 1:
            raise ValueError("a part is a text, an image, a sound or an item: give one of them")
        return self


class SearchRequest(BaseModel):
    """A query as JSON."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"text": "two dogs fighting over a stick", "k": 5}]},
    )

    text: Annotated[
        QueryText | None, Field(description="Text to search for: a part of weight 1.")
    ] = None
    image: Annotated[
        Base64Image | None, Field(description="An image file, in base64: a part of weight 1.")
    ] = None
    audio: Annotated[
        Base64Sound | None,
        Field(
            description="A sound file, in base64: a part of weight 1. The first "
            f"{MAX_SOUND_S} seconds are searched for."
        ),
    ] = None
    item: Annotated[ItemNumber | None, Field(description="The id of an item: as a part.")] = None
    parts: Annotated[
        list[PartSchema], Field(max_length=MAX_PARTS, description="Parts, summed by weight.")
    ] = []
    k: HitCount = 10
    cursor: Annotated[
        Cursor | None,
        Field(description="`next_cursor` of an earlier answer to the same query."),
    ] = None
    modality: Annotated[
        Modality | Literal["any"],
        Field(
            description="image: images, frames and pages; text: chunks of text; audio: windows of "
            "sound; any: all, joined by rank fusion, where the text of a page finds the page."
        ),
    ] = Modality.IMAGE
    spaces: Annotated[
        list[str],
        Field(
            max_length=MAX_SPACES,
            description="Ids of the vector spaces to search, of those that the service was started "
            "with; several are joined by rank fusion. Default: the first of them, and for what its "
            "encoder does not take the first other one that does.",
        ),
    ] = []
    where: Annotated[Filter | None, Field(description="Filter of the hits.")] = None
    mode: Annotated[
        Mode,
        Field(
            description="vector: by embeddings; text: by words; hybrid: both; auto: hybrid if "
            "some file has a telling word of the query, else vector."
        ),
    ] = Mode.AUTO
    min_relevance: Annotated[
        Annotated[float, Field(ge=0, le=1)] | Literal["auto"] | None,
        Field(
            description="Minimum relevance of a hit; auto: found by query, by the highest expected "
            "F1; null: 0, or auto when sorted by date. Hits that telling words found stay."
        ),
    ] = None
    group_by_file: GroupByFile = False
    diversity: Annotated[
        float,
        Field(ge=0, le=1, description="Diversify: difference from earlier hits."),
    ] = 0.0
    parse: Annotated[
        bool,
        Field(
            description="Turn words of the texts that say when, where or with which camera into "
            "filters; false: all words are searched for as they are."
        ),
    ] = True
    literal: Annotated[
        list[QueryText],
        Field(
            max_length=MAX_LITERAL,
            description="Words that are not to become filters, as `understood` has them.",
        ),
    ] = []
    rerank: Rerank = "auto"
    rerank_depth: Annotated[
        int | None,
        Field(
            ge=1,
            le=MAX_RERANK_DEPTH,
            description="Number of candidates to rerank; null: the reranker's default.",
        ),
    ] = None
    rerank_budget_ms: Annotated[
        float,
        Field(ge=0, le=MAX_RERANK_BUDGET_MS, description="Time limit of reranking, in ms."),
    ] = DEFAULT_BUDGET_MS
    sort: Annotated[
        Sort,
        Field(
            description="relevance: best first; date: newest first, of the hits above the minimum "
            "relevance; date-asc: oldest first; name: by path."
        ),
    ] = Sort.RELEVANCE


class SimilarRequest(BaseModel):
    """Options of a search for items similar to one."""

    model_config = ConfigDict(extra="forbid")

    k: HitCount = 10
    cursor: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=MOST_IN_AN_ADDRESS,
            description="`next_cursor` of an earlier answer. One longer than "
            f"{MOST_IN_AN_ADDRESS:,} characters, after thousands of hits, goes to "
            "`POST /v1/search`.",
        ),
    ] = None
    modality: Annotated[
        Modality | None, Field(description="image, text or audio; default: that of the item.")
    ] = None
    group_by_file: GroupByFile = False
    rerank: Rerank = "auto"


class UnderstoodSchema(BaseModel):
    """Words of the query that became a filter."""

    words: Annotated[str, Field(description="As they were written.")]
    kind: PartKind
    label: Annotated[str, Field(description="What they mean, for people.")]
    where: Annotated[Filter, Field(description="The filter, as in a request.")]

    @field_serializer("where")
    def _as_asked(self, where: Filter) -> dict[str, Any]:
        return where.model_dump(
            mode="json", by_alias=True, exclude_none=True, exclude_defaults=True
        )


class HitSchema(BaseModel):
    """An item in the answer; scores that do not exist are null."""

    rank: int
    item_id: int
    path: str
    kind: MediaKind
    modality: Modality
    page: Annotated[int | None, Field(description="Of a document, from 1.")] = None
    time_s: Annotated[float | None, Field(description="Of a video's frame, in seconds.")] = None
    start_s: Annotated[float | None, Field(description="When it begins, in seconds.")] = None
    end_s: Annotated[float | None, Field(description="When it ends, in seconds.")] = None
    text: Annotated[
        str | None, Field(description="Text of a chunk; of a page, the chunk that was found.")
    ] = None
    found_by: FoundBy = None
    columns: Annotated[
        dict[str, Any] | None, Field(description="Other values of a table's row.")
    ] = None
    width: Annotated[int | None, Field(description="In pixels, upright.")] = None
    height: Annotated[int | None, Field(description="In pixels, upright.")] = None
    taken_local: TakenLocal = None
    taken_from: DateSource = None
    similarity: Annotated[float, Field(description="Cosine with the query, -1 to 1.")]
    match: Annotated[float | None, Field(description="The reranker's logit, 0 at even odds.")] = (
        None
    )
    relevance: Annotated[float | None, Field(description="Calibrated, 0 to 1.")] = None
    words: Annotated[
        float | None, Field(description="Lexical score: BM25, or inverse document frequency.")
    ] = None
    group: Annotated[list[int], Field(description="Ids of the other items of the same file.")] = []


class ServedHit(HitSchema):
    """A hit in an HTTP answer."""

    path: ServedPath
    thumbnail: Annotated[
        str | None,
        Field(description="Address of its thumbnail, immutable; null: no picture."),
    ] = None


class _AnswerBase(BaseModel):
    query: Annotated[str | None, Field(description="Text of the query.")]
    mode: Annotated[Mode, Field(description="How the hits were found; never auto.")]
    timings_ms: Annotated[dict[str, float], Field(description="Wall time of each stage.")]
    warnings: list[str] = []
    technical: Annotated[
        list[str],
        Field(
            description="Those of the warnings that only tell how the search ran, such as that "
            "the time for reranking was up."
        ),
    ] = []
    reranker: Annotated[
        str | None,
        Field(
            description="Name of the reranker; `/v1/explain` can explain hits of `fusion` and "
            "`late-interaction`."
        ),
    ] = None
    reranked: Annotated[
        int, Field(description="Number of candidates that it scored; they rank before all others.")
    ] = 0
    next_cursor: Annotated[
        str | None, Field(description="Repeat the query with this `cursor` for the next hits.")
    ] = None
    understood: Annotated[
        list[UnderstoodSchema],
        Field(description="Words that became filters; the others were searched for."),
    ] = []
    expected: Annotated[
        float | None,
        Field(description="Expected number of right items in the library, by their relevances."),
    ] = None
    left_out: Annotated[
        int, Field(description="About how many items `min_relevance` left out of the answer.")
    ] = 0
    unknown_language: Annotated[
        str | None,
        Field(description="Language or script of the query, if the encoder does not know it."),
    ] = None

    @classmethod
    def of(
        cls,
        answer: Answer,
        query: str | None,
        *,
        image: str | None = None,
        timings_ms: Mapping[str, float] = {},
    ) -> Self:
        """Flatten an answer of the engine; `timings_ms` are of stages before it."""
        timings = {**timings_ms, **answer.timings_ms}
        facts = vars(answer) | {
            "query": query,
            "image": image,
            "timings_ms": {stage: round(ms, 3) for stage, ms in timings.items()},
            "understood": [vars(part) for part in answer.understood],
            "hits": [item_facts(hit.item) | vars(hit) for hit in answer.hits],
        }
        return cls(**facts)


class SearchAnswer(_AnswerBase):
    """Hits in their order, with the wall time of each stage in milliseconds."""

    image: str | None = None
    hits: list[HitSchema]


class ServedAnswer(_AnswerBase):
    """Hits in their order, with the wall time of each stage in milliseconds."""

    hits: list[ServedHit]
