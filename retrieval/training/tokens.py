"""Cache an encoder's tokens of a dataset, memory-mapped, for training rerankers.

Caches are named after the content of the data, the encoder's space and the augmentation.
"""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from retrieval.encoders.base import Pixels, TokenEncoder
from retrieval.errors import UsageError
from retrieval.media import Modality
from retrieval.training.augmentation import read_variant, variant_of
from retrieval.training.captions import CaptionedPhoto, digest_of_photos, digest_of_texts
from retrieval.training.feature_folder import FeatureFolder, Progress
from retrieval.training.features import AUGMENTATION, pad

PHOTO_BATCH = 32
CAPTION_BATCH = 64
_FEWEST_USES = 2
"""A word that stands once in all captions is none to learn."""


@dataclass(frozen=True)
class PhotoTokens:
    """Outputs of the image tower for n photos in v variants, memory-mapped float16.

    values: (v, n, t, c), without padding. vectors: (n, d), of the photos without augmentation.
    """

    values: NDArray[np.float16]
    vectors: NDArray[np.float16]


@dataclass(frozen=True)
class CaptionTokens:
    """Outputs of the text tower for n captions, memory-mapped float16.

    values: (tokens of all captions, c), one caption after the other. vectors: (n, d). offsets:
    (n + 1,) int64, where each caption starts in `values`.
    """

    values: NDArray[np.float16]
    vectors: NDArray[np.float16]
    offsets: NDArray[np.int64]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each caption, (n,)."""
        return np.diff(self.offsets)

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Pad captions to the longest: (b, t, c) float32 and a (b, t) bool mask."""
        return pad(self.values, self.offsets, rows)


@dataclass(frozen=True)
class CaptionWords:
    """The word at each token of n captions, for masked language modelling.

    ids: (tokens of all captions,) int64, in the order of `CaptionTokens.values`: a row of the
    vocabulary; -1 for special tokens and rare words. offsets: (n + 1,) int64, as there.
    vocabulary: the words, or the pieces of words where the tokenizer splits them, in lower case.
    """

    ids: NDArray[np.int64]
    offsets: NDArray[np.int64]
    vocabulary: tuple[str, ...]

    def batch(self, rows: NDArray[np.int64]) -> Tensor:
        """Pad captions to the longest, as `CaptionTokens.batch` does: (b, t) int64, -1 for none."""
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        steps = np.arange(lengths.max())
        is_word = steps < lengths[:, None]
        places = np.where(is_word, starts[:, None] + steps, 0)
        return torch.from_numpy(np.where(is_word, self.ids[places], -1))


def caption_words(
    captions: Sequence[str], encoder: TokenEncoder, offsets: NDArray[np.int64]
) -> CaptionWords:
    """Number the words of captions by the spans of their tokens.

    Args:
        captions: n texts.
        encoder: tells where each token lies in its text.
        offsets: (n + 1,) int64, where the tokens of each caption start.

    Raises:
        UsageError: no word occurs twice.
    """
    words: list[str] = []
    for caption, length in zip(captions, np.diff(offsets).tolist(), strict=True):
        spans = encoder.token_spans(caption)[:length]
        spans += [(0, 0)] * (length - len(spans))
        words += [caption[start:end].lower() for start, end in spans]
    counts = Counter(words)
    vocabulary = tuple(
        sorted(word for word, uses in counts.items() if word and uses >= _FEWEST_USES)
    )
    if not vocabulary:
        raise UsageError("No word of the captions occurs twice, so no hidden one can be learned.")
    number = {word: row for row, word in enumerate(vocabulary)}
    ids = np.array([number.get(word, -1) for word in words], np.int64)
    return CaptionWords(ids, offsets, vocabulary)


def photo_tokens(
    photos: Sequence[CaptionedPhoto],
    encoder: TokenEncoder,
    *,
    variants: int,
    cache: Path,
    on_progress: Progress = lambda *_: None,
) -> PhotoTokens:
    """Open the cached tokens of photos, computing missing ones; resumes interrupted work.

    Args:
        photos: the photos.
        encoder: computes tokens and vectors.
        variants: augmented copies of each photo, itself included.
        cache: directory of the cache.
        on_progress: called with stage, done and total.

    Raises:
        UsageError: a photo cannot be decoded.
    """
    probe = encoder.image_tokens(_pixels(photos, encoder, [0])).values.shape[1:]
    key = [digest_of_photos(photos), encoder.space.id, str(probe), AUGMENTATION]
    folder = FeatureFolder(cache, "photo-tokens", key)
    total = variants * len(photos)
    values = folder.open("values.f16", (total, *probe))
    vectors = folder.open("vectors.f16", (len(photos), encoder.space.dimension))
    # A batch ends with its variant: vectors are computed for the first variant only.
    for rows in folder.missing(total, PHOTO_BATCH, "image tokens", on_progress, part=len(photos)):
        pixels = _pixels(photos, encoder, range(rows.start, rows.stop))
        values[rows] = encoder.image_tokens(pixels).values
        if rows.start < len(photos):
            vectors[rows] = encoder.encode(Modality.IMAGE, pixels)
    return PhotoTokens(values.reshape(variants, len(photos), *probe), vectors)


def caption_tokens(
    captions: Sequence[str],
    encoder: TokenEncoder,
    *,
    cache: Path,
    on_progress: Progress = lambda *_: None,
) -> CaptionTokens:
    """Open the cached tokens of captions, computing missing ones as for photos.

    Args:
        captions: the texts.
        encoder: computes the tokens.
        cache: folder of all features.
        on_progress: called with the step, and how many are done of how many.
    """
    lengths = np.array(
        [min(encoder.token_count(text), encoder.context_length) for text in captions]
    )
    offsets = np.concatenate([[0], lengths.cumsum()])
    folder = FeatureFolder(cache, "caption-tokens", [digest_of_texts(captions), encoder.space.id])
    width = encoder.text_tokens(captions[:1]).values.shape[2]
    values = folder.open("values.f16", (int(offsets[-1]), width))
    vectors = folder.open("vectors.f16", (len(captions), encoder.space.dimension))
    # Batches of similar length need little padding.
    order = np.argsort(lengths, kind="stable")
    for part in folder.missing(len(captions), CAPTION_BATCH, "text tokens", on_progress):
        rows = order[part]
        batch = [captions[row] for row in rows]
        tokens = encoder.text_tokens(batch)
        vectors[rows] = encoder.encode(Modality.TEXT, batch)
        for row, padded, present in zip(rows, tokens.values, tokens.mask, strict=True):
            values[offsets[row] : offsets[row + 1]] = padded[present]
    return CaptionTokens(values, vectors, offsets)


def _pixels(photos: Sequence[CaptionedPhoto], encoder: TokenEncoder, rows: Sequence[int]) -> Pixels:
    def pixels_of(image: Image.Image, variant: int, seed: Sequence[int]) -> Pixels:
        return encoder.preprocess(variant_of(image, variant, seed))

    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(lambda row: read_variant(photos, row, pixels_of), rows)))
