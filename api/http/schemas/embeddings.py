"""Schemas of embeddings."""

from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, model_validator

from retrieval.search.query import MAX_TEXT_LENGTH

MOST_TEXTS = 256
MOST_IMAGES = 32


class EmbedRequest(BaseModel):
    """Texts and images to embed, at least one."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"texts": ["a dog", "a cat"]}]}
    )

    texts: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=MAX_TEXT_LENGTH, pattern=r"\S")]],
        Field(max_length=MOST_TEXTS),
    ] = []
    images: Annotated[
        list[Annotated[Base64Bytes, Field(min_length=1)]],
        Field(max_length=MOST_IMAGES, description="Image files in base64."),
    ] = []

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        if not self.texts and not self.images:
            raise ValueError("give at least one text or image")
        return self


Vector = list[float]


class Embeddings(BaseModel):
    """Vectors of unit L2 norm in one space, in the order of the request.

    Eight significant digits: float32 to within one unit in the last place.
    """

    space: Annotated[str, Field(description="Vectors of other spaces cannot be compared.")]
    dimension: int
    texts: list[Vector]
    images: list[Vector]


def rounded(vectors: NDArray[np.float32]) -> list[Vector]:
    """Convert (n, d) float32 to lists of numbers with eight significant digits."""
    return [[float(f"{value:.8g}") for value in vector] for vector in vectors.tolist()]
