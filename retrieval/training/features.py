"""Cache the outputs of the frozen towers for a dataset, memory-mapped, for training heads.

An epoch then takes a minute instead of many. Caches are named after the content of what they were
made from, the tower's checksum and the augmentation, so none is ever stale.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from retrieval.encoders import e5, starter
from retrieval.encoders.base import Encoder
from retrieval.encoders.runtimes.network_folder import NetworkFolder
from retrieval.encoders.starter_inputs import (
    MAP_CHANNELS,
    MAP_POSITIONS,
    TOKEN_CHANNELS,
    cut,
    resize,
)
from retrieval.encoders.towers import POOLED_CHANNELS, TOKEN_BLOCKS, ImageTower
from retrieval.media import Modality
from retrieval.training.augmentation import read_variant, variant_of
from retrieval.training.captions import CaptionedPhoto, digest_of_photos, digest_of_texts
from retrieval.training.feature_folder import FeatureFolder, Mapped, Progress

AUGMENTATION = "1: plain, mirrored, then crops of area 0.4-1, ratio 3/4-4/3, half mirrored"
PHOTO_BATCH = 32
SENTENCE_BATCH = 64
VECTOR_BATCH = 128
SENTENCE_STATES = f"hidden_{e5.LAYERS}"


@dataclass(frozen=True)
class PhotoFeatures:
    """Tower outputs of n photos in v augmented variants, memory-mapped float16.

    tokens: (v, n, 81, 734). pooled: (v, n, 1280). Variant 0 is the photo as it is.
    """

    tokens: NDArray[np.float16]
    pooled: NDArray[np.float16]


@dataclass(frozen=True)
class SentenceFeatures:
    """Tower outputs of n sentences, memory-mapped float16.

    last: the last layer's states, (tokens of all sentences, 384), one sentence after the other.
    pooled: (n, 384). offsets: (n + 1,) int64, where each sentence starts in `last`.
    """

    last: NDArray[np.float16]
    pooled: NDArray[np.float16]
    offsets: NDArray[np.int64]

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Pad sentences to the longest: states, pooled and mask for `TextHead.project`."""
        last, present = pad(self.last, self.offsets, rows)
        return last, torch.from_numpy(self.pooled[rows]).float(), present


def pad(
    values: NDArray[np.float16], offsets: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    """Pad texts to the longest: (b, t, c) float32 and a (b, t) bool mask.

    Args:
        values: (tokens of all n texts, c), one text after the other.
        offsets: (n + 1,), where each text starts.
        rows: (b,), the texts.
    """
    starts = offsets[rows]
    lengths = offsets[rows + 1] - starts
    steps = np.arange(lengths.max())
    mask = steps < lengths[:, None]
    places = np.where(mask, starts[:, None] + steps, 0)
    present = torch.from_numpy(mask)
    return torch.from_numpy(values[places]).float() * present[:, :, None], present


def map_of(tokens: Tensor) -> Tensor:
    """Return the last block's output, (n, 81, 352), from tokens, (n, 81, 734)."""
    return tokens[..., -MAP_CHANNELS:] * TOKEN_BLOCKS[6]


def photo_features(
    photos: Sequence[CaptionedPhoto],
    *,
    variants: int,
    cache: Path,
    device: str = "cpu",
    on_progress: Progress = lambda *_: None,
) -> PhotoFeatures:
    """Open the cached features of photos, computing missing ones by the networks of `starter`.

    Resumes interrupted work: rows are written in order, with a count of finished rows.

    Args:
        photos: the photos.
        variants: augmented copies of each, itself included.
        cache: directory of the cache.
        device: device of the tower.
        on_progress: called with stage, done and total.

    Raises:
        UsageError: a photo cannot be decoded.
    """
    networks = NetworkFolder(
        starter.NETWORKS, starter.FORMAT, device=device, remedy="Reinstall mmsearch."
    )
    key = [digest_of_photos(photos), networks.checksum("image"), AUGMENTATION]
    folder = FeatureFolder(cache, "photos", key)
    total = variants * len(photos)
    tokens = folder.open("tokens.f16", (total, MAP_POSITIONS, TOKEN_CHANNELS))
    pooled = folder.open("pooled.f16", (total, POOLED_CHANNELS))
    tower = ImageTower() if folder.done < total else None

    def pixels_of(image: Image.Image, variant: int, seed: Sequence[int]) -> NDArray[np.uint8]:
        return resize(variant_of(image, variant, seed))

    with ThreadPoolExecutor() as pool:
        for rows in folder.missing(total, PHOTO_BATCH, "image features", on_progress):
            assert tower is not None
            numbers = range(rows.start, rows.stop)
            pixels = np.stack(
                [*pool.map(lambda row: read_variant(photos, row, pixels_of), numbers)]
            )
            [tokens[rows]] = networks["image"]({"pixels": pixels}, ["tokens"])
            with torch.inference_mode():
                map_ = map_of(torch.from_numpy(tokens[rows]).float())
                pooled[rows] = tower.pool(map_).numpy()
    shape = (variants, len(photos))
    return PhotoFeatures(
        tokens=tokens.reshape(*shape, *tokens.shape[1:]), pooled=pooled.reshape(*shape, -1)
    )


def sentence_features(
    sentences: Sequence[str],
    *,
    cache: Path,
    device: str = "cpu",
    on_progress: Progress = lambda *_: None,
) -> SentenceFeatures:
    """Open the cached features of sentences, computing missing ones as for photos.

    Args:
        sentences: the texts.
        cache: folder of all features.
        device: device of the tower.
        on_progress: called with the step, and how many are done of how many.
    """
    tower = e5.E5Tower(device)
    ids = [cut(row) for row in tower.tokenize(sentences)]
    lengths = np.array([len(row) for row in ids])
    offsets = np.concatenate([[0], lengths.cumsum()])
    folder = FeatureFolder(cache, "sentences", [digest_of_texts(sentences), e5.WEIGHTS_SHA256])
    last = folder.open("last.f16", (int(offsets[-1]), e5.WIDTH))
    pooled = folder.open("pooled.f16", (len(ids), e5.WIDTH))
    # Batches of similar length need little padding.
    order = np.argsort(lengths, kind="stable")
    for part in folder.missing(len(ids), SENTENCE_BATCH, "text features", on_progress):
        rows = order[part]
        features = tower([ids[row] for row in rows], (SENTENCE_STATES, "pooled"))
        pooled[rows] = features["pooled"]
        for row, states in zip(rows, features[SENTENCE_STATES], strict=True):
            last[offsets[row] : offsets[row + 1]] = states[: lengths[row]]
    return SentenceFeatures(last=last, pooled=pooled, offsets=offsets)


def photo_vectors(
    photos: Sequence[CaptionedPhoto],
    encoder: Encoder,
    *,
    cache: Path,
    on_progress: Progress = lambda *_: None,
) -> Mapped:
    """Open the cached vectors that an encoder gives photos, (n, d), computing missing ones."""
    folder = FeatureFolder(cache, "photo-vectors", [digest_of_photos(photos), encoder.space.id])
    vectors = folder.open("vectors.f16", (len(photos), encoder.space.dimension))

    def pixels_of(image: Image.Image, *_: object) -> NDArray[np.uint8]:
        return encoder.preprocess(image)

    for rows in folder.missing(len(photos), PHOTO_BATCH, "teacher: photos", on_progress):
        numbers = range(rows.start, rows.stop)
        pixels = np.stack([read_variant(photos, row, pixels_of) for row in numbers])
        vectors[rows] = encoder.encode(Modality.IMAGE, pixels)
    return vectors


def text_vectors(
    texts: Sequence[str],
    encoder: Encoder,
    *,
    cache: Path,
    on_progress: Progress = lambda *_: None,
) -> Mapped:
    """Open the cached vectors that an encoder gives texts, (n, d), computing missing ones."""
    folder = FeatureFolder(cache, "text-vectors", [digest_of_texts(texts), encoder.space.id])
    vectors = folder.open("vectors.f16", (len(texts), encoder.space.dimension))
    for rows in folder.missing(len(texts), VECTOR_BATCH, "teacher: captions", on_progress):
        vectors[rows] = encoder.encode(Modality.TEXT, texts[rows])
    return vectors
