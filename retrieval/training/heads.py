"""Train the projection heads of the starter encoder.

The shipped heads were trained by `train_heads` on Flickr8k with its defaults, on two kinds of pairs
at once: captioned photos, and sentences of class names with synthetic features of those classes
(`class_photos`), which preserve the vocabulary of the towers beyond a few thousand photos.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from retrieval.encoders.heads import SENTENCE_SCALE, ImageHead, TextHead, save_heads
from retrieval.encoders.towers import ImageTower, TextTower
from retrieval.errors import require_at_least
from retrieval.training.captions import read_captioned_photos
from retrieval.training.class_names import class_sentences
from retrieval.training.class_photos import ClassPainter
from retrieval.training.feature_folder import Progress
from retrieval.training.features import (
    PhotoFeatures,
    SentenceFeatures,
    photo_features,
    sentence_features,
)
from retrieval.training.losses import contrastive_loss
from retrieval.training.state import TrainingConfig, TrainingState, training_run
from retrieval.training.validation import Recalls, recalls

HEADS_NAME = "starter_heads.safetensors"
TOWER_LAYER_RATE = 0.1
LARGEST_SCALE = 100.0
EVALUATION_BATCH = 250


@dataclass(frozen=True, kw_only=True)
class HeadsTraining(TrainingConfig):
    """Settings of a training run.

    cache: about 60 KB a photo and variant.
    class_photos: synthetic photos of classes a step; 0 for none.
    class_weight: weight of their loss beside that of the captions.
    also_measure: second dataset whose `val` is measured after each epoch only.
    """

    warm_up_steps = 60
    most_gradient = 5.0
    local_names: ClassVar[frozenset[str]] = frozenset({"also_measure"})

    epochs: int = 8
    batch_size: int = 512
    learning_rate: float = 1e-3
    variants: int = 8
    class_photos: int = 128
    class_weight: float = 0.5
    averaging: float = 0.99
    also_measure: Path | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 0, "class_photos")


@dataclass(frozen=True)
class EpochResult:
    """Results of one epoch: mean losses over its steps, and recalls of the averaged weights.

    best: whether the mean recall on `val` was the highest so far.
    """

    epoch: int
    loss: float
    class_loss: float
    temperature: float
    recalls: Recalls
    also: Recalls | None
    best: bool
    seconds: float = 0.0


@dataclass(frozen=True)
class TrainingResult:
    """Weight file of the best epoch, and the results of all epochs."""

    heads: Path
    best: EpochResult
    epochs: tuple[EpochResult, ...]
    stopped_early: bool


def train_heads(
    config: HeadsTraining,
    *,
    on_epoch: Callable[[EpochResult], None] = lambda _: None,
    on_progress: Progress = lambda *_: None,
) -> TrainingResult:
    """Train projection heads and save those of the best epoch.

    Deterministic: the same settings, data and machine give the same heads, resumed or not.

    Args:
        config: the settings.
        on_epoch: called after each epoch.
        on_progress: called with stage, done and total.

    Raises:
        NotFoundError: the dataset or a photo of it does not exist.
        UsageError: the dataset or a setting cannot be used, or `output` holds another run.
    """
    heads = config.output / HEADS_NAME
    with training_run(config):
        data = _Data(config, on_progress)
        torch.manual_seed(config.seed)
        state = _State(config, data)

        def run_epoch() -> EpochResult:
            loss, class_loss = _train_epoch(config, data, state)
            measured = _measure(state.averaged, data.validation, data.tower)
            return EpochResult(
                epoch=len(state.epochs) + 1,
                loss=loss,
                class_loss=class_loss,
                temperature=math.exp(-state.learned.log_scale.item()),
                recalls=measured,
                also=_measure(state.averaged, data.also, data.tower) if data.also else None,
                best=state.is_best(measured),
            )

        def save_best(_: EpochResult) -> None:
            save_heads(heads, state.averaged.image, state.averaged.text)

        state.run(run_epoch, save_best, on_epoch)
    return TrainingResult(
        heads=heads,
        best=max(state.epochs, key=lambda epoch: epoch.recalls.mean),
        epochs=tuple(state.epochs),
        stopped_early=len(state.epochs) < config.epochs,
    )


@dataclass(frozen=True)
class _Split:
    """Features of one split; photo i has the captions `first[i]` to `first[i + 1]`."""

    photos: PhotoFeatures
    captions: SentenceFeatures
    first: NDArray[np.int64]


class _Data:
    """Tower outputs of all splits and of class names."""

    def __init__(self, config: HeadsTraining, on_progress: Progress) -> None:
        photos = partial(
            photo_features, cache=config.cache, device=config.device, on_progress=on_progress
        )
        texts = partial(
            sentence_features, cache=config.cache, device=config.device, on_progress=on_progress
        )

        def split(dataset: Path, name: str, variants: int = 1) -> _Split:
            extra = config.captions if dataset == config.dataset else ()
            found = read_captioned_photos(dataset, name, config.languages, extra)
            features = photos(found, variants=variants)
            captions = texts([text for photo in found for text in photo.captions])
            return _Split(features, captions, np.cumsum([0, *(len(p.captions) for p in found)]))

        self.train = split(config.dataset, "train", config.variants)
        self.validation = split(config.dataset, "val")
        self.also = split(config.also_measure, "val") if config.also_measure else None
        sentences = class_sentences()
        self.class_names = texts([of_class[0] for of_class in sentences])
        self.class_first = np.cumsum([0, *map(len, sentences)])
        self.class_sentences = None
        if config.class_photos:
            self.class_sentences = texts([text for of_class in sentences for text in of_class])
        self.tower = ImageTower(config.device)
        sample = self.train.photos.map[0, :2000].astype(np.float32)
        self.painter = ClassPainter(
            self.tower, torch.from_numpy(sample.mean((0, 1))).to(config.device)
        )


class _Heads(nn.Module):
    """Both heads and the temperature."""

    def __init__(self) -> None:
        super().__init__()
        self.image = ImageHead()
        self.text = TextHead()
        self.log_scale = nn.Parameter(torch.tensor(math.log(20.0)))


class _State(TrainingState[_Heads, EpochResult]):
    def __init__(self, config: HeadsTraining, data: _Data) -> None:
        learned = _Heads()
        learned.text.start_from(TextTower().layers[-1])
        names = torch.from_numpy(np.array(data.class_names.pooled)).float()
        learned.image.class_vectors.copy_(F.normalize(names, dim=1))
        with torch.no_grad():
            # Class names enter both heads by the same projection, and so start out aligned.
            start = SENTENCE_SCALE * learned.text.sentence_out.weight
            learned.image.class_out.weight.copy_(start)
            learned.image.class_out.bias.zero_()
        learned.to(config.device)
        optimizer = torch.optim.AdamW(
            _parameter_groups(learned, config), lr=config.learning_rate, betas=(0.9, 0.98)
        )
        super().__init__(config, learned, optimizer, config.recipe())

    def read_epoch(self, row: dict[str, Any]) -> EpochResult:
        also = Recalls.from_json(row["also"]) if row["also"] else None
        return EpochResult(**{**row, "recalls": Recalls.from_json(row["recalls"]), "also": also})


def _parameter_groups(heads: _Heads, config: HeadsTraining) -> list[dict[str, object]]:
    """Set weight decay for matrices only, and a lower rate for the layer copied from the tower."""
    taken: list[nn.Parameter] = []
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in heads.named_parameters():
        kind = (
            taken if name.startswith("text.layers.") else matrices if parameter.ndim > 1 else rest
        )
        kind.append(parameter)
    return [
        {"params": matrices, "weight_decay": config.weight_decay, "rate": 1.0},
        {"params": rest, "weight_decay": 0.0, "rate": 1.0},
        {"params": taken, "weight_decay": config.weight_decay / 5, "rate": TOWER_LAYER_RATE},
    ]


def _train_epoch(config: HeadsTraining, data: _Data, state: _State) -> tuple[float, float]:
    random = np.random.default_rng([config.seed, len(state.epochs)])
    batches = list(_batches(data.train, config.batch_size, random))
    losses = torch.zeros(2)
    learned = state.learned.train()
    for photos, captions in batches:
        scale = learned.log_scale.exp().clamp(max=LARGEST_SCALE)
        maps, pooled = _photo_batch(data.train.photos, photos, random, config.device)
        images = learned.image(maps, pooled, data.tower.classify(pooled))
        texts = _encode_sentences(learned.text, data.train.captions, captions)
        loss = contrastive_loss(images, texts, scale)
        losses[0] += loss.item()
        if config.class_photos and data.class_sentences:
            # With replacement: there may be fewer photos in the batch than classes to paint.
            canvases = torch.from_numpy(random.integers(0, len(maps), config.class_photos))
            classes = random.choice(1000, config.class_photos, replace=False)
            painted = data.painter(
                maps[canvases.to(maps.device)], torch.from_numpy(classes).to(maps.device)
            )
            images = learned.image(painted.map, painted.pooled, painted.logits)
            rows = _class_rows(data.class_first, classes, random)
            texts = _encode_sentences(learned.text, data.class_sentences, rows)
            class_loss = contrastive_loss(images, texts, scale)
            losses[1] += class_loss.item()
            loss = loss + config.class_weight * class_loss
        state.step(loss, len(batches))
    captions_loss, class_loss_mean = (losses / len(batches)).tolist()
    return captions_loss, class_loss_mean


def _batches(
    split: _Split, size: int, random: np.random.Generator
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Draw batches of distinct photos with one caption each, every caption about once in all."""
    counts = np.diff(split.first)
    n = len(counts)
    size = min(size, n)
    orders = [random.permutation(count) for count in counts]
    for turn in range(round(counts.mean())):
        shuffled = random.permutation(n)
        for start in range(0, n - size + 1, size):
            # In order within the batch: the features are read from disk.
            photos = np.sort(shuffled[start : start + size])
            chosen = [orders[photo][turn % counts[photo]] for photo in photos]
            yield photos, split.first[photos] + np.array(chosen)


def _photo_batch(
    features: PhotoFeatures, photos: NDArray[np.int64], random: np.random.Generator, device: str
) -> tuple[Tensor, Tensor]:
    variants = random.integers(0, len(features.map), len(photos))
    maps = torch.from_numpy(features.map[variants, photos]).float()
    pooled = torch.from_numpy(features.pooled[variants, photos]).float()
    return maps.to(device), pooled.to(device)


def _class_rows(
    first: NDArray[np.int64], classes: NDArray[np.int64], random: np.random.Generator
) -> NDArray[np.int64]:
    """Draw one sentence a class; the smaller of two draws favours the best known name."""
    counts = first[classes + 1] - first[classes]
    draws = np.minimum(random.integers(0, counts), random.integers(0, counts))
    return np.asarray(first[classes] + draws)


def _encode_sentences(
    head: TextHead, sentences: SentenceFeatures, rows: NDArray[np.int64], parts: int = 6
) -> Tensor:
    """Encode rows in parts of like length, so that little of the work is padding."""
    lengths = sentences.offsets[rows + 1] - sentences.offsets[rows]
    order = np.argsort(lengths, kind="stable")
    device = next(head.parameters()).device
    vectors = torch.cat(
        [
            head(*(tensor.to(device) for tensor in sentences.batch(rows[part])))
            for part in np.array_split(order, min(parts, len(order)))
        ]
    )
    return vectors[torch.from_numpy(np.argsort(order)).to(device)]


@torch.inference_mode()
def _measure(heads: _Heads, split: _Split, tower: ImageTower) -> Recalls:
    device = next(heads.parameters()).device
    images, texts = [], []
    photos, counts = split.photos, np.diff(split.first)
    for start in range(0, len(counts), EVALUATION_BATCH):
        part = slice(start, start + EVALUATION_BATCH)
        maps = torch.from_numpy(np.array(photos.map[0, part])).float().to(device)
        pooled = torch.from_numpy(np.array(photos.pooled[0, part])).float().to(device)
        images.append(heads.image(maps, pooled, tower.classify(pooled)))
    for start in range(0, int(split.first[-1]), EVALUATION_BATCH):
        rows = np.arange(start, min(start + EVALUATION_BATCH, int(split.first[-1])))
        texts.append(_encode_sentences(heads.text, split.captions, rows))
    photo_of_text = torch.from_numpy(np.repeat(np.arange(len(counts)), counts)).to(device)
    return recalls(torch.cat(images), torch.cat(texts), photo_of_text)
