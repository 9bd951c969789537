"""Schemas of explanations, also for `--json`."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from api.http.schemas.items import MOST_IN_AN_ADDRESS
from retrieval.recognition.base import Task
from retrieval.search.query import MAX_ITEM_ID

if TYPE_CHECKING:
    from retrieval.rerankers.explanation import Explanation, HeatMap, WordExplanation
    from retrieval.search.found_text import FoundText


class ExplainRequest(BaseModel):
    """Text and item to explain, and the format of the answer."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[
        str,
        Field(min_length=1, max_length=MOST_IN_AN_ADDRESS, description="Text to explain."),
    ]
    item: Annotated[int, Field(ge=1, le=MAX_ITEM_ID, description="The id of an item.")]
    format: Annotated[
        Literal["json", "png"], Field(description="Numbers, or an image of the heat maps.")
    ] = "json"


HeatMapRows = Annotated[
    list[list[float]],
    Field(
        description="Attention over the view: rows from top to bottom, not negative, sum 1. Four "
        "significant digits."
    ),
]


class WordSchema(BaseModel):
    """A word of the text, `text[start:end]` in Unicode code points."""

    word: str
    start: int
    end: int
    contribution: Annotated[float, Field(description="How much the match falls without the word.")]
    heat: Annotated[HeatMapRows, Field(title="Where the word looked")]

    @classmethod
    def of(cls, word: "WordExplanation") -> Self:
        """Build from a word of an explanation."""
        return cls(**vars(word) | {"heat": _rows(word.heat)})


class FoundTextInPicture(BaseModel):
    """A line of recognised text, or of a caption, that holds words of the text to explain."""

    task: Annotated[Task, Field(description="ocr: in the picture; caption: of what it shows.")]
    line: Annotated[str, Field(description="The line as the model found it.")]
    found_words: Annotated[list[str], Field(description="Words of the text that are in it.")]
    confidence: Annotated[float | None, Field(description="Of the model, 0 to 1.")]
    box: Annotated[
        list[tuple[float, float]] | None,
        Field(
            description="Its four corners (x, y), clockwise from the upper left of the text, as "
            "fractions of the upright picture's width and height; null: of no place."
        ),
    ]

    @classmethod
    def of(cls, found: "FoundText") -> Self:
        """Build from a segment with words of the text."""
        return cls(
            task=found.task,
            line=found.segment.text,
            found_words=list(found.words),
            confidence=found.segment.confidence,
            box=None if found.segment.box is None else list(found.segment.box),
        )


class ExplanationSchema(BaseModel):
    """Explanation why a text and an image match; words in the order of the text."""

    text: str
    match: Annotated[float, Field(description="Logit of the reranker; 0 means even odds.")]
    similarity: Annotated[float, Field(description="Cosine of both vectors, -1 to 1.")]
    words: list[WordSchema]
    heat: Annotated[HeatMapRows, Field(title="Where the words looked together")]
    view: Annotated[
        tuple[float, float, float, float],
        Field(
            description="Box that the heat maps cover: left, top, right and bottom in pixels of "
            "the upright image."
        ),
    ]

    found_text: Annotated[
        list[FoundTextInPicture],
        Field(description="Lines that models found, with words of the text, in reading order."),
    ]

    @classmethod
    def of(cls, explanation: "Explanation", found: "Iterable[FoundText]" = ()) -> Self:
        """Build from an explanation of a reranker, and the found lines with words of its text."""
        words = [WordSchema.of(word) for word in explanation.words]
        return cls(
            **vars(explanation) | {"words": words, "heat": _rows(explanation.heat)},
            found_text=[FoundTextInPicture.of(one) for one in found],
        )


def _rows(heat: "HeatMap") -> list[list[float]]:
    return [[float(f"{value:.4g}") for value in row] for row in heat.tolist()]
