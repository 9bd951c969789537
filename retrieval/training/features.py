"""Cache the outputs of the frozen towers for a dataset, memory-mapped, for training heads.

An epoch then takes seconds instead of minutes. Caches are named after the content of the photos,
the tower's checksum and the augmentation, so none is ever stale.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from retrieval.encoders import starter_inputs, towers, weight_files
from retrieval.training.augmentation import draw_crop, read_variant
from retrieval.training.captions import CaptionedPhoto, digest_of_photos
from retrieval.training.feature_folder import FeatureFolder, Progress

AUGMENTATION = "v2: 0 plain, 1 mirrored, then crops of area 0.4-1, ratio 3/4-4/3, half mirrored"
PHOTO_BATCH = 32
SENTENCE_BATCH = 128


@dataclass(frozen=True)
class PhotoFeatures:
    """Tower outputs of n photos in v augmented variants, memory-mapped float16.

    map: (v, n, 81, 352). pooled: (v, n, 1280). Variant 0 is the photo as it is.
    """

    map: NDArray[np.float16]
    pooled: NDArray[np.float16]


@dataclass(frozen=True)
class SentenceFeatures:
    """Tower outputs of n sentences, memory-mapped float16.

    early: (tokens of all sentences, 384), one sentence after the other. pooled: (n, 384).
    offsets: (n + 1,) int64, where each sentence starts in `early`.
    """

    early: NDArray[np.float16]
    pooled: NDArray[np.float16]
    offsets: NDArray[np.int64]

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        """Pad sentences to the longest: early, pooled and mask for a text head."""
        early, present = pad(self.early, self.offsets, rows)
        return early, torch.from_numpy(self.pooled[rows]).float(), present


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


def augment(image: Image.Image, variant: int, seed: Sequence[int]) -> NDArray[np.uint8]:
    """Make one variant of a photo, (260, 260, 3) uint8, the same one at each call.

    Crops are drawn as in Szegedy et al. 2015 (area and aspect ratio), with at least two fifths
    of the area, so that most of what a caption describes stays in the picture.
    """
    if variant == 0:
        return starter_inputs.resize(image)
    random = np.random.default_rng([*seed, variant])
    mirrored = variant == 1 or random.random() < 0.5
    box = None if variant == 1 else draw_crop(image.width, image.height, random)
    pixels = starter_inputs.resize(image, box)
    return np.ascontiguousarray(pixels[:, ::-1]) if mirrored else pixels


def photo_features(
    photos: Sequence[CaptionedPhoto],
    *,
    variants: int,
    cache: Path,
    device: str = "cpu",
    on_progress: Progress = lambda *_: None,
) -> PhotoFeatures:
    """Open the cached features of photos, computing missing ones.

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
    key = [digest_of_photos(photos), weight_files.IMAGE_WEIGHTS_SHA256, AUGMENTATION]
    folder = FeatureFolder(cache, "photos", key)
    total = variants * len(photos)
    map_shape = starter_inputs.MAP_POSITIONS, starter_inputs.MAP_CHANNELS
    maps = folder.open("map.f16", (total, *map_shape))
    pooled = folder.open("pooled.f16", (total, towers.POOLED_CHANNELS))
    tower = towers.ImageTower(device) if folder.done < total else None
    for rows in folder.missing(total, PHOTO_BATCH, "image features", on_progress):
        assert tower is not None
        pixels = [read_variant(photos, row, augment) for row in range(rows.start, rows.stop)]
        features = tower(np.stack(pixels))
        maps[rows] = features.map.cpu().numpy()
        pooled[rows] = features.pooled.cpu().numpy()
    shape = (variants, len(photos))
    return PhotoFeatures(
        map=maps.reshape(*shape, *maps.shape[1:]), pooled=pooled.reshape(*shape, -1)
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
        device: as torch names it.
        on_progress: called with the step, and how many are done of how many.
    """
    tower = towers.TextTower(device)
    ids = [starter_inputs.cut(row) for row in tower.tokenize(sentences)]
    lengths = np.array([len(row) for row in ids])
    offsets = np.concatenate([[0], lengths.cumsum()])
    texts = hashlib.sha256("\n".join(sentences).encode()).hexdigest()
    key = [texts, weight_files.TEXT_WEIGHTS_SHA256, weight_files.TOKENIZER_SHA256]
    folder = FeatureFolder(cache, "sentences", key)
    early = folder.open("early.f16", (int(offsets[-1]), starter_inputs.TEXT_WIDTH))
    pooled = folder.open("pooled.f16", (len(ids), starter_inputs.TEXT_WIDTH))
    # Batches of similar length need little padding.
    order = np.argsort(lengths, kind="stable")
    for part in folder.missing(len(ids), SENTENCE_BATCH, "text features", on_progress):
        rows = order[part]
        features = tower([ids[row] for row in rows])
        pooled[rows] = features.pooled.cpu().numpy()
        for row, hidden in zip(rows, features.early.cpu().numpy(), strict=True):
            early[offsets[row] : offsets[row + 1]] = hidden[: lengths[row]]
    return SentenceFeatures(early=early, pooled=pooled, offsets=offsets)
