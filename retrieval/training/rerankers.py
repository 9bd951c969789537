"""Train cross-attention rerankers by image-text matching with hard negatives.

The encoder stays frozen. Each batch is made of groups of photos that the encoder confuses, so that
every caption meets hard and random negatives at once; all pairs of the batch are scored. Other
captions of a photo are never negatives.
"""

import copy
import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from retrieval.encoders.base import Encoder, require_tokens
from retrieval.errors import UsageError, require_at_least, require_share
from retrieval.rerankers.cross_attention import CrossAttentionCard, load_model, save_model
from retrieval.rerankers.cross_attention_model import (
    CrossAttentionConfig,
    CrossAttentionModel,
    Kind,
)
from retrieval.rerankers.ood import mean_state
from retrieval.training.captions import read_captioned_photos
from retrieval.training.feature_folder import Progress
from retrieval.training.hard_negatives import hard_negatives
from retrieval.training.losses import contrastive_loss, matching_loss
from retrieval.training.reranked import Reranked, best_weight
from retrieval.training.state import TrainingConfig, TrainingState, training_run
from retrieval.training.tokens import CaptionTokens, PhotoTokens, caption_tokens, photo_tokens
from retrieval.training.validation import Recalls

BEST_NAME = "best_epoch.safetensors"
TRUST_SAMPLE = 10_000
"""About as many captions fit the out-of-distribution trust; of photos up to 2,000 or 4,000."""
CANDIDATES = 100
"""Candidates to rerank when the final model is measured."""
EPOCH_CANDIDATES = 30
"""Candidates to rerank after each epoch, for one caption a photo and every second photo."""


@dataclass(frozen=True, kw_only=True)
class RerankerTraining(TrainingConfig):
    """Settings of a training run.

    kind, width, heads, depth, feed_forward, dropout: as in `CrossAttentionConfig`.
    batch_size: photos a step, of which all pairs are scored.
    group_size: photos of a batch that are hard negatives of each other; 1: random negatives only.
    neighbours: nearest photos, by the encoder, that hard negatives are drawn from.
    matching_weight: weight of the matching loss over single pairs beside the listwise loss.
    contrastive_weight: weight of a contrastive loss over the mean tokens of both sides.
    word_dropout, position_dropout: share of text and image tokens masked while training.
    rerank_depth: candidates that the model reranks by default.
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
    batch_size: int = 32
    group_size: int = 6
    neighbours: int = 60
    learning_rate: float = 5e-4
    matching_weight: float = 0.2
    contrastive_weight: float = 0.0
    word_dropout: float = 0.1
    position_dropout: float = 0.2
    variants: int = 2
    averaging: float = 0.998
    rerank_depth: int = 50
    start: Path | None = None
    file_name: str = "reranker.safetensors"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "group_size", "neighbours", "rerank_depth")
        require_share(self, "word_dropout", "position_dropout", "averaging")
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(f"learning_rate must be greater than 0, not {self.learning_rate}.")
        self.shape(1, 1, 1)

    def shape(
        self, image_width: int, text_width: int, image_positions: int
    ) -> CrossAttentionConfig:
        """Build the configuration of the model for tokens of some widths; checks it."""
        own = vars(self)
        shared = {f.name: own[f.name] for f in fields(CrossAttentionConfig) if f.name in own}
        return CrossAttentionConfig(image_width, text_width, image_positions, **shared)


@dataclass(frozen=True)
class RerankerEpoch:
    """Results of one epoch: mean loss, and reranked recalls of the averaged weights.

    alone: recalls of the encoder on the same queries. weight: best weight of the match.
    """

    epoch: int
    loss: float
    weight: float
    recalls: Recalls
    alone: Recalls
    best: bool
    seconds: float = 0.0


@dataclass(frozen=True)
class RerankerResult:
    """Path of the trained model, and its recalls on all of `val` at 100 candidates.

    alone: recalls of the encoder. averaged: whether the model is the mean of the best and the last
    epoch.
    """

    model: Path
    match_weight: float
    recalls: Recalls
    alone: Recalls
    averaged: bool
    epochs: tuple[RerankerEpoch, ...]
    stopped_early: bool


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
        near = hard_negatives(
            train.photo_vectors, train.caption_vectors, train.first, neighbours=config.neighbours
        )
        torch.manual_seed(config.seed)
        state = _State(config, train)

        def run_epoch() -> RerankerEpoch:
            loss = _train_epoch(config, train, near, state, on_progress)
            trials = _rerank(state.averaged, validation, EPOCH_CANDIDATES, quick=True)
            weight = best_weight(trials)
            recalls = _recalls(trials, weight)
            return RerankerEpoch(
                epoch=len(state.epochs) + 1,
                loss=loss,
                weight=weight,
                recalls=recalls,
                alone=_recalls(trials, 0.0),
                best=state.is_best(recalls),
            )

        def save_best(epoch: RerankerEpoch) -> None:
            _save(config, encoder, state.averaged, epoch.weight, BEST_NAME)

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
        for value, last in zip(mean.parameters(), state.averaged.parameters(), strict=True):
            value.copy_(value.lerp(last, 0.5).half())
    model = max(best, mean, key=lambda each: _best_recall(each, validation))
    _fit_trust(model, train, validation)
    trials = _rerank(model, validation, CANDIDATES, quick=False)
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
        self.photo_vectors = np.asarray(self.photos.vectors, np.float32)
        self.caption_vectors = np.asarray(self.captions.vectors, np.float32)


class _State(TrainingState[CrossAttentionModel, RerankerEpoch]):
    def __init__(self, config: RerankerTraining, data: _Split) -> None:
        _, _, positions, image_width = data.photos.values.shape
        shape = config.shape(image_width, data.captions.values.shape[1], positions)
        learned = CrossAttentionModel(shape).to(config.device)
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

    def read_epoch(self, row: dict[str, Any]) -> RerankerEpoch:
        recalls = {name: Recalls.from_json(row[name]) for name in ("recalls", "alone")}
        return RerankerEpoch(**{**row, **recalls})


def _go_on_from(path: Path, learned: CrossAttentionModel) -> str:
    """Give a model the weights of a trained one, not its trust; returns their checksum."""
    trained, _, digest = load_model(path)
    if trained.config != learned.config:
        raise UsageError(
            f"{path} is a model of another shape ({trained.config}); this run would make "
            f"{learned.config}, and cannot start from it."
        )
    learned.load_state_dict(dict(trained.named_parameters()), strict=False)
    return digest


def _train_epoch(
    config: RerankerTraining,
    data: _Split,
    near: NDArray[np.int64],
    state: _State,
    on_progress: Progress,
) -> float:
    random = np.random.default_rng([config.seed, len(state.epochs)])
    steps = max(1, len(data.photo_of) // config.batch_size)
    learned = state.learned.train()
    losses = 0.0
    stage = f"epoch {len(state.epochs) + 1}"
    for step, photos in enumerate(draw_batches(near, steps, config, random), start=1):
        counts = np.diff(data.first)[photos]
        captions = data.first[photos] + random.integers(0, counts)
        variants = random.integers(0, len(data.photos.values), len(photos))
        images = torch.from_numpy(data.photos.values[variants, photos]).to(config.device).float()
        texts, words = (part.to(config.device) for part in data.captions.batch(captions))
        loss = _loss(config, learned, texts, words, images)
        state.step(loss, steps)
        losses += loss.item()
        on_progress(stage, step, steps)
    return losses / steps


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


def _loss(
    config: RerankerTraining,
    model: CrossAttentionModel,
    texts: Tensor,
    words: Tensor,
    images: Tensor,
) -> Tensor:
    """Compute the listwise, matching and contrastive losses; text i belongs to image i."""
    kept_words = words & (torch.rand(words.shape, device=words.device) >= config.word_dropout)
    kept_words[:, 0] = True
    seen = torch.rand(images.shape[:2], device=images.device) >= config.position_dropout
    seen[:, 0] = True
    image_states = model.embed_images(images)
    text_states = model.embed_texts(texts, kept_words)
    logits = model.match(text_states, kept_words, image_states, seen)
    loss = matching_loss(logits)
    if config.matching_weight:
        # One positive weighs as much as three negatives: with more, "no" is nearly always right.
        loss = loss + config.matching_weight * F.binary_cross_entropy_with_logits(
            logits,
            torch.eye(len(logits), device=logits.device),
            pos_weight=torch.tensor(len(logits) / 3, device=logits.device),
        )
    if config.contrastive_weight:
        text = F.normalize(mean_state(text_states, kept_words), dim=1)
        image = F.normalize(image_states.mean(1), dim=1)
        loss = loss + config.contrastive_weight * contrastive_loss(image, text, 20.0)
    return loss


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
