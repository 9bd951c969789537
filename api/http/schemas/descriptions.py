"""Schemas of descriptions of images and answers about them."""

from typing import Annotated, Self

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, model_validator

from api.http.schemas.search import ItemNumber
from retrieval.recognition.captions.captioner import (
    DEFAULT_NEW_TOKENS,
    MAX_QUESTION_LENGTH,
    MOST_NEW_TOKENS,
)

_Text = Annotated[str, Field(min_length=1, max_length=MAX_QUESTION_LENGTH, pattern=r"\S")]


class _OfImage(BaseModel):
    model_config = ConfigDict(extra="forbid")

    item: Annotated[ItemNumber | None, Field(description="Id of an item with a picture.")] = None
    image: Annotated[Base64Bytes | None, Field(description="An image file in base64.")] = None
    max_tokens: Annotated[
        int, Field(ge=1, le=MOST_NEW_TOKENS, description="Maximum length of the text in tokens.")
    ] = DEFAULT_NEW_TOKENS

    @model_validator(mode="after")
    def _is_of_one_image(self) -> Self:
        if (self.item is None) == (self.image is None):
            raise ValueError("give either an item or an image")
        return self


class DescribeRequest(_OfImage):
    """An image to describe: an item of the library, or an image file."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"item": 12}]})

    prompt: Annotated[
        _Text | None,
        Field(
            description="What to write, for models with a chat template; how it begins, for BLIP."
        ),
    ] = None


class AskRequest(_OfImage):
    """A question about an image: an item of the library, or an image file."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"item": 12, "question": "how many dogs?"}]},
    )

    question: _Text


class GeneratedText(BaseModel):
    """What a model has written about an image; it may be wrong."""

    model: Annotated[str, Field(description="Name of the model that wrote the text.")]
    text: str
