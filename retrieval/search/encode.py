"""Encoding queries: vectors and tokens, cached since people and pages ask the same again."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import cachetools
import numpy as np
from numpy.typing import NDArray

from retrieval.encoders.base import Encoder, Tokens, cannot_encode, sound_input
from retrieval.encoders.given import no_encoder
from retrieval.errors import MMSearchError, NotFoundError, UsageError
from retrieval.media import Modality
from retrieval.media.audio import cut_windows, resample
from retrieval.rerankers.base import Reranker
from retrieval.search.query import (
    SOUND_RATE,
    AudioPart,
    ImagePart,
    ItemPart,
    Part,
    Query,
    TextPart,
    VectorPart,
)

_VECTOR_BYTES = 16_000_000
_TOKEN_BYTES = 48_000_000

UNWANTED_TEXT = 0.75
"""Factor of the weight of a text that is subtracted.

Of 335 pairs of words of Flickr8k's `val`, of which the first ten hits for the one show the other
in 28%: with this factor 9% do, while 38% show the wanted word, of 44%. With 1 it is 6% and 33%.
"""

MODALITIES = {
    TextPart: Modality.TEXT,
    ImagePart: Modality.IMAGE,
    AudioPart: Modality.AUDIO,
}
"""What an encoder must take, by the type of a part."""

_T = TypeVar("_T")

Vector = NDArray[np.float32]


class CountedCache(Generic[_T]):
    """The most recently used values up to a size in bytes; counts what it had and had not.

    max_bytes of 0 keeps nothing.
    """

    def __init__(self, max_bytes: int, size_of: Callable[[_T], int]) -> None:
        self._kept: cachetools.LRUCache[Any, _T] = cachetools.LRUCache(max_bytes, size_of)
        self.hits = 0
        self.misses = 0

    def get_many(
        self, keys: Iterable[Any], make: Callable[[list[Any]], Iterable[_T]]
    ) -> dict[Any, _T]:
        """Values by key; `make` is called once with the distinct keys that are not here, if any."""
        found: dict[Any, _T] = {}
        missing: list[Any] = []
        for key in dict.fromkeys(keys):
            try:
                found[key] = self._kept[key]
            except KeyError:
                missing.append(key)
        self.hits += len(found)
        self.misses += len(missing)
        if missing:
            for key, value in zip(missing, make(missing), strict=True):
                found[key] = value
                if self._kept.getsizeof(value) <= self._kept.maxsize:
                    self._kept[key] = value
        return found


@dataclass(frozen=True)
class EncodedText:
    """A text's vector, (d,) float32 of unit norm, and how many tokens it had before truncation."""

    vector: Vector
    token_count: int


class QueryVectors:
    """What the encoder and the rerankers make of texts, images and sounds of queries.

    All that is not known of a call's texts is encoded at once, and so with its images and sounds.
    Call it from one thread at a time.

    encoder: asked for when there is something to encode.
    """

    def __init__(self, encoder: Callable[[], Encoder]) -> None:
        self._encoder = encoder
        self.texts: CountedCache[EncodedText] = CountedCache(
            _VECTOR_BYTES, lambda text: text.vector.nbytes + 200
        )
        self.images: CountedCache[Vector] = CountedCache(
            _VECTOR_BYTES, lambda vector: vector.nbytes + 200
        )
        self.sounds: CountedCache[Vector] = CountedCache(
            _VECTOR_BYTES, lambda vector: vector.nbytes + 200
        )
        self._tokens: CountedCache[Vector] = CountedCache(
            _TOKEN_BYTES, lambda values: values.nbytes + 200
        )

    def of_texts(self, texts: Iterable[str]) -> dict[str, EncodedText]:
        """Vectors and lengths by text."""
        return self.texts.get_many(texts, self._encode_texts)

    def of_images(self, parts: Sequence[ImagePart]) -> list[Vector]:
        """Vectors of upright RGB images, in their order."""
        by_digest = {part.digest: part for part in parts}
        found = self.images.get_many(
            by_digest, lambda missing: self._encode([by_digest[digest] for digest in missing])
        )
        return [found[part.digest] for part in parts]

    def of_sounds(self, parts: Sequence[AudioPart]) -> list[Vector]:
        """Vectors of sounds, in their order: of several windows the mean, as a unit vector."""
        by_digest = {part.digest: part for part in parts}
        found = self.sounds.get_many(
            by_digest, lambda missing: [self._encode_sound(by_digest[one]) for one in missing]
        )
        return [found[part.digest] for part in parts]

    def text_tokens(self, reranker: Reranker, texts: Iterable[str]) -> dict[str, Tokens]:
        """Compute what a reranker needs of texts, by text, (1, t, c) each."""
        keys = {(reranker.identity, "text", text): text for text in texts}
        found = self._tokens.get_many(
            keys, lambda missing: _split(reranker.text_tokens([keys[key] for key in missing]))
        )
        return {text: _whole(found[key]) for key, text in keys.items()}

    def image_tokens(self, reranker: Reranker, part: ImagePart) -> Tokens:
        """Compute what a reranker needs of an upright RGB image, (1, t, c)."""
        key = (reranker.identity, "image", part.digest)
        found = self._tokens.get_many(
            [key],
            lambda _: _split(reranker.image_tokens(reranker.preprocess(part.image)[np.newaxis])),
        )
        return _whole(found[key])

    def _encode_texts(self, texts: list[str]) -> list[EncodedText]:
        vectors = self._encoder().encode(Modality.TEXT, texts)
        counts = [self._encoder().token_count(text) for text in texts]
        return [EncodedText(vectors[i].copy(), counts[i]) for i in range(len(texts))]

    def _encode(self, parts: list[ImagePart]) -> list[Vector]:
        pixels = np.stack([self._encoder().preprocess(part.image) for part in parts])
        return [vector.copy() for vector in self._encoder().encode(Modality.IMAGE, pixels)]

    def _encode_sound(self, part: AudioPart) -> Vector:
        heard = sound_input(self._encoder())
        assert heard is not None  # others were refused before
        samples = resample(part.samples, SOUND_RATE, heard.rate)
        windows = cut_windows(samples, heard.length, heard.rate)
        vectors = self._encoder().encode(Modality.AUDIO, windows)
        return join_parts([1.0] * len(vectors), list(vectors))


@dataclass(frozen=True, eq=False)
class EncodedQuery:
    """A query's unit vector, (d,) float32, and what the user should know of its encoding.

    length: of the vector before it was made a unit vector, where that of the wanted parts is 1. A
    cosine times it is that with the wanted parts, less what unwanted ones take off. unwanted: what
    they take off is the product with this, (d,) float32; None: there are none.
    """

    vector: Vector
    warnings: tuple[str, ...] = ()
    length: float = 1.0
    unwanted: Vector | None = None


def encode(
    queries: Sequence[Query],
    vectors: QueryVectors,
    encoder: Encoder,
    item_vectors: Mapping[int, Vector],
) -> list[EncodedQuery | MMSearchError]:
    """Encode all that is new of several queries at once, and join the parts of each.

    item_vectors: unit vectors of the items that queries name, by id. What is wrong with a query
    stands in its place: UsageError for parts that cancel out, that the space has no encoder
    for, and for vectors of another dimension; NotFoundError for an unknown item.
    """
    refusals = [_refusal(query, encoder) for query in queries]
    taken = [query for query, error in zip(queries, refusals, strict=True) if error is None]
    parts = [part for query in taken for part in query.parts]
    texts = vectors.of_texts(part.text for part in parts if isinstance(part, TextPart))
    shown: dict[str, Vector] = {}
    if pictures := [part for part in parts if isinstance(part, ImagePart)]:
        found = vectors.of_images(pictures)
        shown |= zip((part.digest for part in pictures), found, strict=True)
    if sounds := [part for part in parts if isinstance(part, AudioPart)]:
        found = vectors.of_sounds(sounds)
        shown |= zip((part.digest for part in sounds), found, strict=True)

    limit = encoder.context_length
    encoded: list[EncodedQuery | MMSearchError] = []
    for query, refusal in zip(queries, refusals, strict=True):
        try:
            if refusal is not None:
                raise refusal
            joined = [_vector(part, texts, shown, item_vectors) for part in query.parts]
            warnings = [
                f"The text has {texts[part.text].token_count:,} tokens, but "
                f"{encoder.space.encoder} reads only {limit}: its end was not searched for."
                for part in query.text_parts
                if texts[part.text].token_count > limit
            ]
            join_parts([part.weight for part in query.parts], joined)  # raises if they cancel out
            weights = [_weight(part) for part in query.parts]
            vector = join_parts(weights, joined)
            encoded.append(EncodedQuery(vector, tuple(warnings), *_signed(weights, joined)))
        except UsageError as error:
            encoded.append(error)
        except KeyError as missing:
            encoded.append(
                NotFoundError(
                    f"There is no item {missing} to compare with: its file was removed or changed, "
                    "or it never was."
                )
            )
    return encoded


def _vector(
    part: Part,
    texts: Mapping[str, EncodedText],
    shown: Mapping[str, Vector],
    item_vectors: Mapping[int, Vector],
) -> Vector:
    """Return the unit vector of a part; raises KeyError for an unknown item.

    shown: those of images and sounds, by digest.
    """
    if isinstance(part, ItemPart):
        return item_vectors[part.item_id]
    if isinstance(part, VectorPart):
        return part.unit
    return texts[part.text].vector if isinstance(part, TextPart) else shown[part.digest]


def _refusal(query: Query, encoder: Encoder) -> UsageError | None:
    """Say what of a query does not belong to the space of an encoder; None: nothing."""
    space = encoder.space
    for part in query.parts:
        if isinstance(part, VectorPart) and len(part.unit) != space.dimension:
            return UsageError(
                f"The query vector has {len(part.unit):,} dimensions, but the space {space.id} has "
                f"{space.dimension:,}."
            )
        modality = MODALITIES.get(type(part))
        if modality is not None and space.is_given:
            return no_encoder(space, modality)
        if modality is not None and modality not in encoder.modalities:
            return cannot_encode(encoder, modality)
    return None


def _weight(part: Part) -> float:
    is_unwanted_text = isinstance(part, TextPart) and part.weight < 0
    return UNWANTED_TEXT * part.weight if is_unwanted_text else part.weight


def _signed(weights: Sequence[float], vectors: Sequence[Vector]) -> tuple[float, Vector | None]:
    """Compute the length and the unwanted parts of a query, as of `EncodedQuery`."""
    signed, stacked = np.array(weights, np.float32), np.stack(vectors)
    wanted = np.linalg.norm(np.maximum(signed, 0) @ stacked)
    if wanted < 1e-6 or (signed > 0).all():
        return 1.0, None
    length = np.linalg.norm(signed @ stacked) / wanted
    return float(length), (np.maximum(-signed, 0) @ stacked / wanted).astype(np.float32)


def join_parts(weights: Sequence[float], vectors: Sequence[Vector]) -> Vector:
    """Join the unit vectors of a query's parts into one of unit L2 norm, (d,) float32.

    Raises UsageError when the weighted parts cancel out.
    """
    total = np.array(weights, np.float32) @ np.stack(vectors)
    norm = float(np.linalg.norm(total))
    if norm < 1e-6:
        raise UsageError("The parts of the query cancel each other out: nothing is left to find.")
    joined: Vector = total / np.float32(norm)
    return joined


def _split(tokens: Tokens) -> list[Vector]:
    return [values[mask].copy() for values, mask in zip(tokens.values, tokens.mask, strict=True)]


def _whole(values: Vector) -> Tokens:
    return Tokens(values[np.newaxis], np.ones((1, len(values)), np.bool_))
