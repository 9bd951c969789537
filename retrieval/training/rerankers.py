"""Train rerankers of all kinds by image-text matching with hard negatives.

The encoder stays frozen. Each batch is made of groups of photos that the encoder confuses, so that
every caption meets hard and random negatives at once; all pairs of the batch are scored. Other
captions of a photo are never negatives.
"""

import copy
import hashlib
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retrieval.encoders.base import Encoder, require_tokens
from retrieval.errors import UsageError, require_at_least, require_share
from retrieval.rerankers.cross_attention import CrossAttentionCard, load_model, save_model
from retrieval.rerankers.cross_attention_model import CrossAttentionModel
from retrieval.rerankers.layers import JOINT_KINDS, CrossAttentionConfig, Kind
from retrieval.rerankers.ood import mean_state
from retrieval.training.captions import read_captioned_photos
from retrieval.training.feature_folder import Progress
from retrieval.training.hard_negatives import hard_negatives
from retrieval.training.reranked import Reranked, best_weight
from retrieval.training.reranker_tasks import Batch, Objectives, RerankerTasks
from retrieval.training.state import TrainingConfig, TrainingState, training_run
from retrieval.training.tokens import (
    CaptionTokens,
    CaptionWords,
    PhotoTokens,
    caption_tokens,
    caption_words,
    photo_tokens,
)
from retrieval.training.validation import Recalls

BEST_NAME = "best_epoch.safetensors"
TRUST_SAMPLE = 10_000
"""About as many captions fit the out-of-distribution trust; of photos up to 2,000 or 4,000."""
CANDIDATES = 100
"""Candidates to rerank when the final model is measured."""
EPOCH_CANDIDATES = 30
"""Candidates to rerank after each epoch, for one caption a photo and every second photo."""
_TOTAL = "total"
_UNTIMED_STEPS, _MOST_TIMED_STEPS = 2, 1000
"""Of `seconds_per_step`: the first steps allocate memory."""


@dataclass(frozen=True, kw_only=True)
class RerankerTraining(TrainingConfig, Objectives):
    """Settings of a training run, with those of `TrainingConfig` and `Objectives`.

    kind, width, heads, depth, feed_forward, dropout: as in `CrossAttentionConfig`.
    limit: use only the first photos of each split; None: all.
    steps: steps an epoch; None: enough to draw each caption about once.
    batch_size: photos a step, of which all pairs are scored.
    group_size: photos of a batch that are hard negatives of each other; 1: random negatives only.
    neighbours: nearest photos, by the encoder, that hard negatives are drawn from.
    rerank_depth: candidates that the model reranks by default.
    candidates: number of them that are reranked when the final model is measured.
    start: model of an earlier run to go on from.
    file_name: name of the model in `output`.
    """

    warm_up_steps = 200
    most_gradient = 2.0
    local_names: ClassVar[frozenset[str]] = frozenset({"file_name", "start"})

    kind: Kind = "cross"
    width: int = 256
    heads: int = 4
    depth: int = 1
    feed_forward: int = 0
    dropout: float = 0.2
    epochs: int = 6
    limit: int | None = None
    steps: int | None = None
    batch_size: int = 32
    group_size: int = 6
    neighbours: int = 60
    learning_rate: float = 5e-4
    variants: int = 2
    averaging: float = 0.998
    rerank_depth: int = 50
    candidates: int = CANDIDATES
    start: Path | None = None
    file_name: str = "reranker.safetensors"

    def __post_init__(self) -> None:
        super().__post_init__()
        Objectives.__post_init__(self)
        require_at_least(self, 1, "group_size", "neighbours", "rerank_depth", "candidates")
        for name, least in (("limit", 2), ("steps", 1)):
            if getattr(self, name) is not None:
                require_at_least(self, least, name)
        require_share(self, "averaging")
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(f"learning_rate must be greater than 0, not {self.learning_rate}.")
        if (self.masked_word_weight or self.alignment_weight) and self.kind not in JOINT_KINDS:
            raise UsageError(
                f"kind {self.kind} pools each side before they meet: masked words and alignment "
                f"need {' or '.join(JOINT_KINDS)}."
            )
        self.shape(1, 1, 1)

    def shape(
        self, image_width: int, text_width: int, image_positions: int
    ) -> CrossAttentionConfig:
        """Build the configuration of the model for tokens of some widths; checks it.

        A single stream has no layers of one side: its own are its layers of both.
        """
        own = dict(vars(self))
        if self.kind == "single-stream":
            own |= {"text_layers": 0, "image_layers": 0}
        shared = {f.name: own[f.name] for f in fields(CrossAttentionConfig) if f.name in own}
        return CrossAttentionConfig(image_width, text_width, image_positions, **shared)


def default_layers(kind: str) -> dict[str, int]:
    """Return the `depth` and `feed_forward` of a kind where nothing else is asked for."""
    if kind == "single-stream":
        return {"depth": 2, "feed_forward": 2}
    return {"depth": 1, "feed_forward": 0}


@dataclass(frozen=True)
class RerankerEpoch:
    """Results of one epoch: mean loss, and reranked recalls of the averaged weights.

    alone: recalls of the encoder on the same queries. weight: best weight of the match. losses:
    mean loss of each objective, before it is weighted. training_seconds: those of the steps alone.
    """

    epoch: int
    loss: float
    weight: float
    recalls: Recalls
    alone: Recalls
    best: bool
    losses: dict[str, float] = field(default_factory=dict)
    training_seconds: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True)
class RerankerResult:
    """Path of the trained model, and its recalls on all of `val`.

    alone: recalls of the encoder. averaged: whether the model is the mean of the best and the last
    epoch. text_to_image, image_to_text: the candidates that the recalls were measured with, of
    every caption and of every photo.
    """

    model: Path
    match_weight: float
    recalls: Recalls
    alone: Recalls
    averaged: bool
    epochs: tuple[RerankerEpoch, ...]
    stopped_early: bool
    text_to_image: Reranked = field(compare=False, repr=False)
    image_to_text: Reranked = field(compare=False, repr=False)


def train_reranker(
    config: RerankerTraining,
    encoder: Encoder,
    *,
    on_epoch: Callable[[RerankerEpoch], None] = lambda _: None,
    on_progress: Progress = lambda *_: None,
) -> RerankerResult:
    """Train a reranker for the space of an encoder and save the best one.

    Deterministic: the same settings, data and machine give the same model, resumed or not.

    Args:
        config: the settings.
        encoder: the encoder whose candidates are reranked from its tokens.
        on_epoch: called after each epoch.
        on_progress: called with stage, done and total.

    Raises:
        NotFoundError: the dataset or a photo of it does not exist.
        UsageError: the dataset or a setting cannot be used, `start` is a model of another shape, or
            `output` holds another run.
        EncoderUnavailableError: `start` cannot be read.
    """
    with training_run(config):
        train = _Split(config, encoder, "train", on_progress)
        validation = _Split(config, encoder, "val", on_progress)
        torch.manual_seed(config.seed)
        state = _State(config, train)

        def run_epoch() -> RerankerEpoch:
            began = time.monotonic()
            losses = _train_epoch(config, train, state, on_progress)
            training_seconds = time.monotonic() - began
            trials = _rerank(state.averaged.model, validation, EPOCH_CANDIDATES, quick=True)
            weight = best_weight(trials)
            recalls = _recalls(trials, weight)
            return RerankerEpoch(
                epoch=len(state.epochs) + 1,
                loss=losses.pop(_TOTAL),
                losses=losses,
                training_seconds=training_seconds,
                weight=weight,
                recalls=recalls,
                alone=_recalls(trials, 0.0),
                best=state.is_best(recalls),
            )

        def save_best(epoch: RerankerEpoch) -> None:
            _save(config, encoder, state.averaged.model, epoch.weight, BEST_NAME)

        state.run(run_epoch, save_best, on_epoch)
        return _finish(config, encoder, state, train, validation)


def _finish(
    config: RerankerTraining,
    encoder: Encoder,
    state: "_State",
    train: "_Split",
    validation: "_Split",
) -> RerankerResult:
    """Choose the final model, fit its out-of-distribution trust and measure it on all of `val`.

    The best epoch's weights compete with their mean with the last epoch's: averaging over a
    longer part of the run often generalises better (Wortsman et al. 2022, model soups).
    """
    path = config.output / config.file_name
    best = load_model(config.output / BEST_NAME, config.device)[0]
    mean = copy.deepcopy(best)
    with torch.no_grad():
        for value, last in zip(mean.parameters(), state.averaged.model.parameters(), strict=True):
            value.copy_(value.lerp(last, 0.5).half())
    model = max(best, mean, key=lambda each: _best_recall(each, validation))
    _fit_trust(model, train, validation)
    trials = _rerank(model, validation, config.candidates, quick=False)
    weight = best_weight(trials)
    _save(config, encoder, model, weight, config.file_name)
    return RerankerResult(
        model=path,
        match_weight=weight,
        recalls=_recalls(trials, weight),
        alone=_recalls(trials, 0.0),
        averaged=model is mean,
        epochs=tuple(state.epochs),
        stopped_early=len(state.epochs) < config.epochs,
        text_to_image=trials[0],
        image_to_text=trials[1],
    )


def _best_recall(model: CrossAttentionModel, validation: "_Split") -> float:
    trials = _rerank(model, validation, EPOCH_CANDIDATES, quick=True)
    return _recalls(trials, best_weight(trials)).mean


@torch.inference_mode()
def _fit_trust(model: CrossAttentionModel, train: "_Split", validation: "_Split") -> None:
    device = next(model.parameters()).device

    def texts(data: _Split) -> Tensor:
        rows = np.arange(0, len(data.photo_of), max(1, len(data.photo_of) // TRUST_SAMPLE))
        means = []
        for part in np.array_split(rows, max(1, len(rows) // 250)):
            tokens, words = (each.to(device) for each in data.captions.batch(part))
            means.append(mean_state(model.embed_texts(tokens, words), words))
        return torch.cat(means)

    def images(data: _Split) -> Tensor:
        rows = np.arange(0, len(data.photo_vectors), max(1, len(data.photo_vectors) // 2000))
        parts = np.array_split(rows, max(1, len(rows) // 100))
        tokens = (torch.from_numpy(data.photos.values[0, part]).float() for part in parts)
        return torch.cat([model.embed_images(each.to(device)).mean(1) for each in tokens])

    model.text_trust.fit(texts(train), texts(validation))
    model.image_trust.fit(images(train), images(validation))


def _save(
    config: RerankerTraining, encoder: Encoder, model: CrossAttentionModel, weight: float, name: str
) -> None:
    space = encoder.space
    card = CrossAttentionCard(space.encoder, space.id, weight, config.rerank_depth)
    save_model(config.output / name, model, card)


class _Split:
    """Tokens and vectors of one split; photo i has the captions `first[i]` to `first[i + 1]`."""

    def __init__(
        self, config: RerankerTraining, encoder: Encoder, name: str, on_progress: Progress
    ) -> None:
        photos = read_captioned_photos(config.dataset, name, config.languages, config.captions)
        photos = photos[: config.limit]
        captions = [text for photo in photos for text in photo.captions]
        self.captions: CaptionTokens = caption_tokens(
            captions, require_tokens(encoder), cache=config.cache, on_progress=on_progress
        )
        self.photos: PhotoTokens = photo_tokens(
            photos,
            require_tokens(encoder),
            variants=config.variants if name == "train" else 1,
            cache=config.cache,
            on_progress=on_progress,
        )
        self.first = np.cumsum([0, *(len(photo.captions) for photo in photos)])
        self.photo_of = np.repeat(np.arange(len(photos)), np.diff(self.first))
        self.words: CaptionWords | None = None
        if config.masked_word_weight and name == "train":
            self.words = caption_words(captions, require_tokens(encoder), self.captions.offsets)
        self.photo_vectors = np.asarray(self.photos.vectors, np.float32)
        self.caption_vectors = np.asarray(self.captions.vectors, np.float32)


class _State(TrainingState[RerankerTasks, RerankerEpoch]):
    def __init__(self, config: RerankerTraining, data: _Split) -> None:
        _, _, positions, image_width = data.photos.values.shape
        shape = config.shape(image_width, data.captions.values.shape[1], positions)
        vocabulary = len(data.words.vocabulary) if data.words else 0
        learned = RerankerTasks(shape, config, vocabulary).to(config.device)
        start = None
        if config.start is not None:
            start = _go_on_from(config.start, learned)
        matrices = [p for p in learned.parameters() if p.ndim > 1]
        vectors = [p for p in learned.parameters() if p.ndim <= 1]
        optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": config.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            betas=(0.9, 0.98),
        )
        vectors_digest = hashlib.sha256(data.photo_vectors.tobytes())
        vectors_digest.update(data.caption_vectors.tobytes())
        recipe = f"{config.recipe()} on {vectors_digest.hexdigest()[:16]}"
        if start is not None:
            recipe += f" from {start[:16]}"
        super().__init__(config, learned, optimizer, recipe)
        self.near = hard_negatives(
            data.photo_vectors, data.caption_vectors, data.first, neighbours=config.neighbours
        )

    def read_epoch(self, row: dict[str, Any]) -> RerankerEpoch:
        recalls = {name: Recalls.from_json(row[name]) for name in ("recalls", "alone")}
        return RerankerEpoch(**{**row, **recalls})


def _go_on_from(path: Path, learned: RerankerTasks) -> str:
    """Give tasks the weights of a trained model, not its trust; returns their checksum."""
    trained, _, digest = load_model(path)
    if trained.config != learned.model.config:
        raise UsageError(
            f"{path} is a model of another shape ({trained.config}); this run would make "
            f"{learned.model.config}, and cannot start from it."
        )
    learned.start_from(trained)
    return digest


def seconds_per_step(
    config: RerankerTraining,
    encoder: Encoder,
    *,
    seconds: float = 5.0,
    on_progress: Progress = lambda *_: None,
) -> float:
    """Measure the median time of a training step of a run, which is not begun.

    Args:
        config: the settings; nothing is written to `output`.
        encoder: the encoder whose tokens are read, made where the cache lacks them.
        seconds: time to measure for, after two more steps; one step at least.
        on_progress: as of `train_reranker`.

    Raises:
        NotFoundError: as of `train_reranker`.
        UsageError: as of `train_reranker`.
    """
    with torch.random.fork_rng(devices=[]):
        data = _Split(config, encoder, "train", on_progress)
        state = _State(config, data)
        lasted: list[float] = []
        began = time.monotonic()
        # Each step ends with reading its loss, for which a GPU has finished.
        for _ in _steps(config, data, state, _MOST_TIMED_STEPS):
            lasted.append(time.monotonic() - began)
            began = time.monotonic()
            if len(lasted) > _UNTIMED_STEPS and sum(lasted[_UNTIMED_STEPS:]) >= seconds:
                break
    return statistics.median(lasted[_UNTIMED_STEPS:])


def _train_epoch(
    config: RerankerTraining, data: _Split, state: _State, on_progress: Progress
) -> dict[str, float]:
    """Train one epoch; returns the mean loss of each objective and their total."""
    steps = config.steps or max(1, len(data.photo_of) // config.batch_size)
    stage = f"epoch {len(state.epochs) + 1}"
    sums: dict[str, float] = defaultdict(float)
    for step, losses in enumerate(_steps(config, data, state, steps), start=1):
        for name, loss in losses.items():
            sums[name] += loss
        on_progress(stage, step, steps)
    return {name: total / steps for name, total in sums.items()}


def _steps(
    config: RerankerTraining, data: _Split, state: _State, steps: int
) -> Iterator[dict[str, float]]:
    """Take the steps of an epoch; yields the losses of each."""
    random = np.random.default_rng([config.seed, len(state.epochs)])
    learned = state.learned.train()
    for photos in draw_batches(state.near, steps, config, random):
        counts = np.diff(data.first)[photos]
        captions = data.first[photos] + random.integers(0, counts)
        variants = random.integers(0, len(data.photos.values), len(photos))
        images = torch.from_numpy(data.photos.values[variants, photos]).to(config.device).float()
        texts, words = (part.to(config.device) for part in data.captions.batch(captions))
        ids = data.words.batch(captions).to(config.device) if data.words else None
        losses = learned.losses(Batch(texts, words, images, ids))
        total = learned.total(losses)
        state.step(total, steps)
        yield {_TOTAL: total.item(), **{name: loss.item() for name, loss in losses.items()}}


def draw_batches(
    near: NDArray[np.int64], steps: int, config: RerankerTraining, random: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Draw batches of distinct photos: groups of a random photo and some of its neighbours.

    Args:
        near: (n, neighbours) int64 as of `hard_negatives`.
        steps: number of batches.
        config: the settings; `batch_size` and `group_size` are used.
        random: the source of randomness.
    """
    size = min(config.batch_size, len(near))
    for _ in range(steps):
        chosen: dict[int, None] = {}
        while len(chosen) < size:
            first = int(random.integers(len(near)))
            others = random.permutation(near[first])[: config.group_size - 1]
            for photo in (first, *others.tolist()):
                if len(chosen) < size:
                    chosen.setdefault(photo)
        yield np.array(list(chosen))


@torch.inference_mode()
def _rerank(
    model: CrossAttentionModel, data: _Split, depth: int, *, quick: bool
) -> tuple[Reranked, Reranked]:
    """Rerank candidates of captions among photos, and of photos among captions.

    quick: one caption a photo, in turn its first, second, ..., and every second photo.
    """
    device = next(model.parameters()).device
    n = len(data.photo_vectors)
    counts = np.diff(data.first)
    captions = data.first[:-1] + np.arange(n) % counts if quick else np.arange(len(data.photo_of))
    photos = np.arange(0, n, 2 if quick else 1)
    parts = np.array_split(np.arange(n), max(1, n // 100))
    states = torch.cat(
        [
            model.embed_images(torch.from_numpy(data.photos.values[0, part]).float().to(device))
            for part in parts
        ]
    )
    similarity = data.caption_vectors @ data.photo_vectors.T

    def embed(rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        texts, words = (part.to(device) for part in data.captions.batch(rows))
        return model.embed_texts(texts, words), words

    to_image, matches = _top(similarity[captions], depth), []
    for caption, candidates in zip(captions, to_image, strict=True):
        text, words = embed(np.array([caption]))
        trust = model.text_trust(mean_state(text, words))
        matches.append((trust * model.match(text, words, states[candidates])[:, 0]).cpu())
    t2i = Reranked(
        similarity=np.take_along_axis(similarity[captions], to_image, 1),
        match=torch.stack(matches).numpy(),
        right=to_image == data.photo_of[captions][:, None],
    )
    to_text, matches = _top(similarity.T[photos], depth), []
    for photo, candidates in zip(photos, to_text, strict=True):
        text, words = embed(candidates)
        image = states[photo : photo + 1]
        trust = model.image_trust(image.mean(1))
        matches.append((trust * model.match(text, words, image)[0]).cpu())
    i2t = Reranked(
        similarity=np.take_along_axis(similarity.T[photos], to_text, 1),
        match=torch.stack(matches).numpy(),
        right=data.photo_of[to_text] == photos[:, None],
    )
    return t2i, i2t


def _top(similarity: NDArray[np.float32], depth: int) -> NDArray[np.int64]:
    return np.argsort(-similarity, axis=1, kind="stable")[:, :depth]


def _recalls(trials: tuple[Reranked, Reranked], weight: float) -> Recalls:
    t2i, i2t = trials
    return Recalls(t2i.recalls(weight), i2t.recalls(weight))
