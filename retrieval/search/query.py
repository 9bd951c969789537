"""What can be asked: texts, images, sounds and items with signed weights, and which hits."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray
from PIL import Image

from retrieval.errors import UnreadableFileError, UsageError
from retrieval.filters import Filter
from retrieval.media import SILENCE, Modality
from retrieval.rerankers.registry import AUTO
from retrieval.search.cut import AUTO as AUTO_CUT
from retrieval.search.limits import (
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
    SOUND_RATE,
)

# The limits of queries are imported from here, too.
__all__ = [
    "DEFAULT_BUDGET_MS",
    "MAX_ITEM_ID",
    "MAX_K",
    "MAX_LITERAL",
    "MAX_PARTS",
    "MAX_RERANK_BUDGET_MS",
    "MAX_RERANK_DEPTH",
    "MAX_SOUND_S",
    "MAX_SPACES",
    "MAX_TEXT_LENGTH",
    "MAX_WEIGHT",
    "SOUND_RATE",
]


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

    @cached_property
    def digest(self) -> str:
        """Return a short digest of the pixels."""
        digest = xxhash.xxh3_128(repr((self.image.size, self.image.mode)).encode())
        digest.update(self.image.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class AudioPart:
    """A sound to be near to (weight > 0) or far from (weight < 0).

    samples: (n,) float32, mono, at `SOUND_RATE`; not silent.

    Raises UsageError for another shape, for silence and for values that are not finite.
    """

    samples: NDArray[np.float32]
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.samples.ndim != 1 or not len(self.samples):
            raise UsageError(f"A sound has one channel, not the shape {self.samples.shape}.")
        loudest = float(np.abs(self.samples).max())
        if not np.isfinite(loudest) or loudest < SILENCE:
            raise UsageError("The sound to search for is silent.")

    @cached_property
    def digest(self) -> str:
        """Return a short digest of the samples."""
        return xxhash.xxh3_128(np.ascontiguousarray(self.samples, np.float32).tobytes()).hexdigest()


@dataclass(frozen=True)
class ItemPart:
    """An item of the library to be near to (weight > 0) or far from (weight < 0)."""

    item_id: int
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class VectorPart:
    """A vector of the searched space to be near to (weight > 0) or far from (weight < 0).

    vector: (d,) numbers that are finite and not all zero; its length does not matter.

    Raises UsageError for another shape or other values.
    """

    vector: NDArray[Any]
    weight: float = 1.0

    def __post_init__(self) -> None:
        vector = np.asarray(self.vector, np.float64)
        if vector.ndim != 1 or not len(vector):
            raise UsageError(f"A query vector has one dimension, not the shape {vector.shape}.")
        length = np.linalg.norm(vector)
        if not np.isfinite(length) or length == 0:
            raise UsageError("A query vector has values that are finite and not all zero.")

    @cached_property
    def unit(self) -> NDArray[np.float32]:
        """Return the vector scaled to unit length, (d,) float32."""
        vector = np.asarray(self.vector, np.float64)
        unit: NDArray[np.float32] = (vector / np.linalg.norm(vector)).astype(np.float32)
        return unit

    @cached_property
    def digest(self) -> str:
        """Return a short digest of the unit vector."""
        return xxhash.xxh3_128(self.unit.tobytes()).hexdigest()


Part = TextPart | ImagePart | AudioPart | ItemPart | VectorPart


class Mode(StrEnum):
    """A search mode: by embeddings, by words (BM25), or by both.

    auto: hybrid if some file has a telling word of the query, one that less than half of the
    library has, else vector. Only texts with a positive weight are searched for by their words.
    """

    AUTO = "auto"
    VECTOR = "vector"
    TEXT = "text"
    HYBRID = "hybrid"


class Sort(StrEnum):
    """The order of hits: the most relevant, the newest or the oldest first, or by path.

    By date and by name come the hits above a minimum relevance alone, by date those without one
    last. By name: by path, folder by folder, as `sort` in the C locale orders them.
    """

    RELEVANCE = "relevance"
    DATE = "date"
    DATE_ASC = "date-asc"
    NAME = "name"


@dataclass(frozen=True)
class Query:
    """A query: its parts' unit vectors are weighted, summed and scaled to unit length.

    where: what hits must be like. min_relevance: 0..1, hits below are left out unless telling words
    of the query found them; `auto`: the cut with the highest expected F1, by query; None: 0, or
    `auto` for hits by date or name. group_by_file: the best item of each file stands for the
    others. diversity: 0..1, how much hits should differ from those before them (1 - lambda
    of maximal marginal relevance). cursor: from the answer whose next hits are wanted. sort: the
    order of the hits. parse: words of texts that say when, where or with which camera become
    filters, but for those in `literal`.

    Raises UsageError for no parts, blank texts, weights that are 0, a mode that needs words where
    there are none, diverse hits in another order than by relevance, and what is beyond a limit.
    """

    parts: tuple[Part, ...]
    k: int = 10
    modality: Modality = Modality.IMAGE
    where: Filter | None = None
    mode: Mode = Mode.AUTO
    min_relevance: float | Literal["auto"] | None = None
    group_by_file: bool = False
    diversity: float = 0.0
    cursor: str | None = None
    sort: Sort = Sort.RELEVANCE
    parse: bool = False
    literal: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_filter(self.where)
        if not self.parts:
            raise UsageError("The query is empty: give a text, an image, or both.")
        if len(self.parts) > MAX_PARTS:
            raise UsageError(f"A query has at most {MAX_PARTS} parts, not {len(self.parts)}.")
        for part in self.parts:
            _check_part(part)
        if not 1 <= self.k <= MAX_K:
            raise UsageError(
                f"The number of hits (k) must be between 1 and {MAX_K:,}, not {self.k}."
            )
        if self.mode in {Mode.TEXT, Mode.HYBRID} and not self.words:
            raise UsageError(f"The mode {self.mode} needs a text whose words can be looked for.")
        if len(self.literal) > MAX_LITERAL:
            raise UsageError(
                f"At most {MAX_LITERAL} texts can be literal, not {len(self.literal)}."
            )
        least = self.least
        if least != AUTO_CUT and (isinstance(least, str) or not 0 <= least <= 1):
            raise UsageError(f"min_relevance must be between 0 and 1, or {AUTO_CUT}, not {least}.")
        if not 0 <= self.diversity <= 1:
            raise UsageError(f"diversity must be between 0 and 1, not {self.diversity}.")
        if self.diversity and self.sort is not Sort.RELEVANCE:
            raise UsageError(
                "Hits in the order of their dates or names cannot be diversified: leave out the "
                "diversity, or sort by relevance."
            )

    @property
    def least(self) -> float | Literal["auto"]:
        """Return the relevance below which hits are left out, 0 to 1, or that `auto` finds it."""
        if self.min_relevance is not None:
            return self.min_relevance
        return 0.0 if self.sort is Sort.RELEVANCE else AUTO_CUT

    @property
    def words(self) -> str:
        """Join the texts of positive weight; "" if there are none."""
        return " ".join(p.text for p in self.parts if isinstance(p, TextPart) and p.weight > 0)

    @property
    def weight_of_words(self) -> float:
        """Return how much of the query the texts of `words` are, by their weights, 0..1."""
        texts = sum(part.weight for part in self.text_parts if part.weight > 0)
        return texts / sum(abs(part.weight) for part in self.parts)

    @property
    def text_parts(self) -> list[TextPart]:
        """List the texts among the parts."""
        return [part for part in self.parts if isinstance(part, TextPart)]


class PartKind(StrEnum):
    """What the words of a query mean as a filter."""

    TIME = "time"
    PLACE = "place"
    CAMERA = "camera"
    FOLDER = "folder"


@dataclass(frozen=True)
class UnderstoodPart:
    """Words of a query that became a filter.

    words: as they were written, with their preposition. label: what they mean, as ISO dates or the
    name in the library. first, last: tokens of the text, from first to before last.
    """

    words: str
    kind: PartKind
    label: str
    where: Filter
    first: int = 0
    last: int = 0


@dataclass(frozen=True)
class ParsedQuery:
    """A query as it is searched for. asked: as it came. warnings: what was not understood."""

    asked: Query
    query: Query
    understood: tuple[UnderstoodPart, ...] = ()
    warnings: tuple[str, ...] = ()


ANY = "any"
"""What can be found where a query names no modality: pictures, passages and sounds, joined."""


@dataclass(frozen=True)
class JointQuery:
    """A query whose answer joins those for several modalities, or from several spaces.

    modalities: what to find; they take the place of the query's own. space_ids: of the spaces to
    search, whose answers are joined; none: the default space, and for what its encoder does not
    take another one of the library.
    """

    query: Query
    modalities: tuple[Modality, ...] = tuple(Modality)
    space_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.space_ids) > MAX_SPACES:
            raise UsageError(
                f"A query searches at most {MAX_SPACES} spaces, not {len(self.space_ids)}."
            )
        if len(set(self.space_ids)) < len(self.space_ids):
            raise UsageError(f"A space is named twice: {', '.join(self.space_ids)}.")


@dataclass(frozen=True)
class Reranking:
    """How the best candidates are scored again.

    name: `auto`, `none` or another name that `load_reranker` knows. depth: how many candidates;
    None: as many as the reranker says. budget_ms: wall time that it may take; None: all it needs.
    """

    name: str = AUTO
    depth: int | None = None
    budget_ms: float | None = DEFAULT_BUDGET_MS

    def __post_init__(self) -> None:
        if self.depth is not None and not 1 <= self.depth <= MAX_RERANK_DEPTH:
            raise UsageError(
                f"The rerank depth must be between 1 and {MAX_RERANK_DEPTH:,}, not {self.depth}."
            )
        if self.budget_ms is not None and not 0 <= self.budget_ms <= MAX_RERANK_BUDGET_MS:
            raise UsageError(
                f"The rerank budget must be between 0 and {MAX_RERANK_BUDGET_MS:,.0f} ms, not "
                f"{self.budget_ms}."
            )


def _check_filter(where: object) -> None:
    if where is not None and not isinstance(where, Filter):
        raise TypeError(
            f"where is a Filter, not {type(where).__name__}: Filter.model_validate(...) makes one."
        )


def _check_part(part: Part) -> None:
    if isinstance(part, TextPart):
        if not part.text.strip():
            raise UsageError("The query text is empty. Say in a few words what to look for.")
        if len(part.text) > MAX_TEXT_LENGTH:
            raise UsageError(
                f"The query text has {len(part.text):,} characters; {MAX_TEXT_LENGTH:,} are the "
                "most."
            )
    if isinstance(part, ItemPart) and not 1 <= part.item_id <= MAX_ITEM_ID:
        raise UsageError(f"{part.item_id} is not the id of an item, a whole number from 1.")
    if not 0 < abs(part.weight) <= MAX_WEIGHT:
        raise UsageError(
            f"A weight must be a number other than 0, from -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}, not "
            f"{part.weight}."
        )


def parse_modality(name: str) -> Modality:
    """Say which modality a name means; raises UsageError for an unknown one."""
    if name not in set(Modality):
        raise UsageError(f"What can be found is {' or '.join(Modality)}, not {name!r}.")
    return Modality(name)


def parse_modalities(name: str) -> tuple[Modality, ...]:
    """Say which modalities a name means, where `any` is all; raises UsageError for an unknown one.

    >>> [str(modality) for modality in parse_modalities("any")]
    ['image', 'text', 'audio']
    """
    if name != ANY and name not in set(Modality):
        raise UsageError(f"What can be found is {', '.join(Modality)} or {ANY}, not {name!r}.")
    return tuple(Modality) if name == ANY else (Modality(name),)


def parse_min_relevance(text: str) -> float | Literal["auto"]:
    """Read a least relevance; raises UsageError for what is neither a number nor `auto`."""
    if text == AUTO_CUT:
        return AUTO_CUT
    try:
        least = float(text)
    except ValueError:
        least = -1.0
    if not 0 <= least <= 1:
        raise UsageError(
            f"--min-relevance takes a number from 0 to 1, or {AUTO_CUT}, not {text!r}."
        )
    return least


def parse_mode(name: str) -> Mode:
    """Say which mode a name means; raises UsageError for an unknown one."""
    if name not in set(Mode):
        raise UsageError(f"The mode is one of {', '.join(Mode)}, not {name!r}.")
    return Mode(name)


def parse_sort(name: str) -> Sort:
    """Say which order a name means; raises UsageError for an unknown one."""
    if name not in set(Sort):
        raise UsageError(f"Hits are sorted by {', '.join(Sort)}, not {name!r}.")
    return Sort(name)


def read_parts(
    text: str | None = None,
    image: str | os.PathLike[str] | Image.Image | None = None,
    *,
    audio: str | os.PathLike[str] | None = None,
    minus: Iterable[str] = (),
    like: Iterable[int] = (),
) -> tuple[Part, ...]:
    """Make the parts of the common question: a text, an image, a sound, all with equal weight.

    audio: path of a file of sound. minus: texts to be far from. like: ids of items to be near to.
    Raises UsageError for an image or a sound that does not exist or cannot be read.
    """
    from retrieval.media.images import read_image

    parts: list[Part] = []
    if text is not None:
        if not isinstance(text, str):
            raise TypeError(
                f"text is a str, not {type(text).__name__}. `mmsearch.open` gives a library that "
                "answers a list of queries."
            )
        parts.append(TextPart(text))
    parts += [TextPart(unwanted, -1.0) for unwanted in minus]
    parts += [ItemPart(item_id) for item_id in like]
    if isinstance(image, Image.Image):
        parts.append(ImagePart(image))
    elif image is not None:
        if not isinstance(image, str | os.PathLike):
            raise TypeError(
                f"image is a path or a PIL image, not {type(image).__name__}. `mmsearch.open` "
                "gives a library that takes bytes and arrays, too."
            )
        try:
            parts.append(ImagePart(read_image(image)))
        except (OSError, UnreadableFileError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"The query image {os.fspath(image)}: {reason}.") from error
    if audio is not None:
        parts.append(read_sound(audio, f"The query sound {os.fspath(audio)}"))
    return tuple(parts)


def read_sound(source: str | os.PathLike[str] | bytes, name: str, weight: float = 1.0) -> AudioPart:
    """Make a part of a sound: of a file's first minute, or of its content.

    Args:
        source: Path, or the content of a file.
        name: Names it in errors.
        weight: Of the part.

    Raises:
        UsageError: It cannot be read, or is silent.
    """
    from retrieval.media.audio import read_samples

    given = source if isinstance(source, bytes) else os.fspath(source)
    try:
        samples = read_samples(given, SOUND_RATE, seconds=MAX_SOUND_S)
    except (OSError, UnreadableFileError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{name}: {reason}.") from error
    return AudioPart(samples, weight)
