"""What can be asked: texts, images and items, each with a signed weight, and how hits are chosen."""

import os
from dataclasses import dataclass
from enum import StrEnum

from PIL import Image

from retrieval.catalog import Modality
from retrieval.errors import UnreadableFileError, UsageError
from retrieval.filters import Filter
from retrieval.images import read_image

MAX_K = 10_000


@dataclass(frozen=True)
class TextPart:
    """A text to be near to (weight > 0) or far from (weight < 0)."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True)
class ImagePart:
    """An upright RGB image to be near to (weight > 0) or far from (weight < 0)."""

    image: Image.Image
    weight: float = 1.0


@dataclass(frozen=True)
class ItemPart:
    """An item of the library to be near to (weight > 0) or far from (weight < 0)."""

    item_id: int
    weight: float = 1.0


class Mode(StrEnum):
    """How hits are found: by meaning, by words, or by both joined.

    auto: both, where the words of the query stand together in what is known of some file, else by
    meaning.
    """

    AUTO = "auto"
    VECTOR = "vector"
    TEXT = "text"
    HYBRID = "hybrid"


@dataclass(frozen=True)
class Query:
    """A question: its parts' unit vectors are weighted, summed and scaled to unit length.

    where: what hits must be like. min_relevance: 0..1, hits below are left out. group_by_file: the
    best item of each file stands for the others. diversity: 0..1, how much hits should differ from
    those before them (1 - lambda of maximal marginal relevance). cursor: from the answer whose next
    hits are wanted.

    Raises UsageError for no parts, blank texts, weights that cancel out or are not finite, and
    numbers outside their ranges (k: 1..10,000).
    """

    parts: tuple[TextPart | ImagePart | ItemPart, ...]
    k: int = 10
    modality: Modality = Modality.IMAGE
    where: Filter | None = None
    mode: Mode = Mode.AUTO
    min_relevance: float = 0.0
    group_by_file: bool = False
    diversity: float = 0.0
    cursor: str | None = None

    def __post_init__(self) -> None:
        if not self.parts:
            raise UsageError("The query is empty: give a text, an image, or both.")
        for part in self.parts:
            if isinstance(part, TextPart) and not part.text.strip():
                raise UsageError("The query text is empty. Say in a few words what to look for.")
            if not 0 < abs(part.weight) < float("inf"):
                raise UsageError(f"A weight must be a number other than 0, not {part.weight}.")
        if not 1 <= self.k <= MAX_K:
            raise UsageError(
                f"The number of hits (k) must be between 1 and {MAX_K:,}, not {self.k}."
            )
        for name in ("min_relevance", "diversity"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"{name} must be between 0 and 1, not {getattr(self, name)}.")


def parse_modality(name: str) -> Modality:
    """Say which modality a name means; raises UsageError for an unknown one."""
    if name not in set(Modality):
        raise UsageError(f"What can be found is {' or '.join(Modality)}, not {name!r}.")
    return Modality(name)


def read_parts(
    text: str | None = None, image: str | os.PathLike[str] | Image.Image | None = None
) -> tuple[TextPart | ImagePart, ...]:
    """Make the parts of the common question: a text, an image, or both with equal weight.

    Raises UsageError for an image file that does not exist or cannot be read.
    """
    parts: list[TextPart | ImagePart] = []
    if text is not None:
        parts.append(TextPart(text))
    if isinstance(image, Image.Image):
        parts.append(ImagePart(image))
    elif image is not None:
        try:
            parts.append(ImagePart(read_image(image)))
        except (OSError, UnreadableFileError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"The query image {os.fspath(image)}: {reason}.") from error
    return tuple(parts)
