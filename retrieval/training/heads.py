"""Train the projection heads of the starter encoder.

Over frozen towers, on several losses at once: captioned photos in the main language and in others,
the similarities of a teacher encoder, single words and phrases, sentences that mean the same, and
sentences of class names with synthetic features of those classes (`class_photos`), which preserve
the vocabulary of the towers beyond a few thousand photos.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from retrieval.encoders import e5
from retrieval.encoders.heads import (
    LOG_SCALE,
    SENTENCE_SCALE,
    ImageHead,
    TextHead,
    load_heads,
    save_heads,
)
from retrieval.encoders.starter_inputs import MAP_CHANNELS, TOKEN_CHANNELS
from retrieval.encoders.towers import CLASSES, TOKEN_BLOCKS, ImageTower
from retrieval.encoders.weight_files import HEADS_FORMAT, heads_digest, write_weights
from retrieval.errors import UsageError
from retrieval.training.class_photos import ClassPainter
from retrieval.training.feature_folder import Progress
from retrieval.training.features import PhotoFeatures, SentenceFeatures, map_of
from retrieval.training.head_data import ClassSentences, HeadData, HeadsTraining, Measured, Rows
from retrieval.training.losses import (
    contrastive_loss,
    distillation_loss,
    matching_loss,
    shares_loss,
)
from retrieval.training.state import TrainingState, training_run
from retrieval.training.validation import Recalls, mean_recalls, recalls

HEADS_NAME = "starter_heads.safetensors"
START_SCALE = 20.0
LARGEST_SCALE = 100.0
TEACHER_SCALE = 40.0
PARALLEL_PAIRS = 128
EVALUATION_BATCH = 250
EARLIER_CHANNELS = TOKEN_CHANNELS - MAP_CHANNELS


@dataclass(frozen=True)
class EpochResult:
    """Results of one epoch: mean losses over its steps, and recalls of the averaged weights.

    loss: of the captions in the main language; losses: of all parts, by name. recalls: mean of
    `languages`, those of each language. best: whether their mean was the highest so far.
    """

    epoch: int
    loss: float
    losses: dict[str, float]
    temperature: float
    recalls: Recalls
    languages: dict[str, Recalls]
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
        NotFoundError: the dataset, a photo of it or another file does not exist.
        UsageError: the dataset or a setting cannot be used, or `output` holds another run.
        EncoderUnavailableError: a network, or the heads to start from, cannot be had.
    """
    heads = config.output / HEADS_NAME
    with training_run(config):
        data = HeadData(config, on_progress)
        tower = ImageTower(config.device)
        torch.manual_seed(config.seed)
        state = _State(config, data)
        painter = _painter(data.photos, tower)

        def run_epoch() -> EpochResult:
            losses = _train_epoch(config, data, state, tower, painter, on_progress)
            languages = _measure(state.averaged, data.validation, tower)
            measured = mean_recalls(languages.values())
            also = None
            if data.also:
                also = mean_recalls(_measure(state.averaged, data.also, tower).values())
            return EpochResult(
                epoch=len(state.epochs) + 1,
                loss=losses["captions"],
                losses=losses,
                temperature=math.exp(-state.learned.log_scale.item()),
                recalls=measured,
                languages=languages,
                also=also,
                best=state.is_best(measured),
            )

        def save_best(_: EpochResult) -> None:
            averaged = state.averaged
            save_heads(heads, averaged.image, averaged.text, averaged.log_scale)

        state.run(run_epoch, save_best, on_epoch)
    return TrainingResult(
        heads=heads,
        best=max(state.epochs, key=lambda epoch: epoch.recalls.mean),
        epochs=tuple(state.epochs),
        stopped_early=len(state.epochs) < config.epochs,
    )


def average_heads(files: Sequence[Path], weights: Sequence[float], output: Path) -> None:
    """Write the weighted mean of heads of several runs that went on from each other.

    Wortsman et al. 2022 (model soups).

    Args:
        files: heads files of one architecture.
        weights: of each; they are divided by their sum.
        output: heads file to write.

    Raises:
        EncoderUnavailableError: a file is missing or damaged.
        UsageError: there are not as many weights as files, they cannot be shares, or the files
            are of several architectures.
    """
    from safetensors.torch import load_file

    if len(weights) != len(files) or not files:
        raise UsageError(f"{len(files)} files of heads need as many weights, not {len(weights)}.")
    if not all(0 <= weight < math.inf for weight in weights) or not sum(weights):
        raise UsageError("weights must be at least 0, and one of them greater.")
    mean: dict[str, Tensor] = {}
    for file, weight in zip(files, weights, strict=True):
        heads_digest(file)
        tensors = {name: value.float() for name, value in load_file(file).items()}
        shapes = {name: value.shape for name, value in tensors.items()}
        if mean and shapes != {name: value.shape for name, value in mean.items()}:
            raise UsageError(f"{file} has heads of another architecture than {files[0]}.")
        for name, value in tensors.items():
            mean[name] = mean.get(name, torch.zeros_like(value)) + weight / sum(weights) * value
    output.parent.mkdir(parents=True, exist_ok=True)
    write_weights(output, HEADS_FORMAT, mean)


class _Heads(nn.Module):
    """Both heads and the temperature."""

    def __init__(self, config: HeadsTraining) -> None:
        super().__init__()
        self.image = ImageHead(TOKEN_CHANNELS, config.dropout, config.position_dropout)
        self.text = TextHead(1, config.dropout)
        self.log_scale = nn.Parameter(torch.tensor(math.log(START_SCALE)))

    @torch.no_grad()
    def start_anew(self, data: HeadData) -> None:
        """Take over what the towers know."""
        [layer] = e5.last_layers(1)
        self.text.layers[0].load_state_dict(
            {name: torch.from_numpy(np.array(value)) for name, value in layer.items()}
        )
        mean = torch.from_numpy(data.mean_sentence())
        self.text.sentence_mean.copy_(mean)
        names = torch.from_numpy(data.class_names()) - mean
        self.image.class_vectors.copy_(F.normalize(names, dim=1))
        # Class names enter both heads by the same projection, and so start out aligned.
        self.image.class_out.weight.copy_(SENTENCE_SCALE * self.text.sentence_out.weight)
        self.image.class_out.bias.zero_()

    @torch.no_grad()
    def go_on_from(self, file: Path) -> None:
        """Take over the weights of another run."""
        from safetensors.torch import load_file

        image, text = load_heads(file)
        log_scale = load_file(file).get(LOG_SCALE)
        try:
            self.image.load_state_dict(image.state_dict())
            self.text.load_state_dict(text.state_dict())
        except RuntimeError as error:
            raise UsageError(
                f"{file} has heads of another architecture, such as the first edition's: training "
                "cannot start from them."
            ) from error
        if log_scale is not None:
            self.log_scale.copy_(log_scale.float())


class _State(TrainingState[_Heads, EpochResult]):
    def __init__(self, config: HeadsTraining, data: HeadData) -> None:
        learned = _Heads(config)
        if config.start is None:
            learned.start_anew(data)
        else:
            learned.go_on_from(config.start)
        learned.to(config.device)
        # The own layer is that of the tower, whose outputs are cached: it stays as it is.
        learned.text.layers.requires_grad_(False)
        trained = [each for each in learned.parameters() if each.requires_grad]
        groups = [
            {
                "params": [each for each in trained if each.ndim > 1],
                "weight_decay": config.weight_decay,
            },
            {"params": [each for each in trained if each.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))
        start = config.start and heads_digest(config.start)
        recipe = json.dumps([json.loads(config.recipe()), start, data.digest()])
        super().__init__(config, learned, optimizer, recipe)

    def read_epoch(self, row: dict[str, Any]) -> EpochResult:
        languages = {name: Recalls.from_json(each) for name, each in row["languages"].items()}
        read = {name: row[name] and Recalls.from_json(row[name]) for name in ("recalls", "also")}
        return EpochResult(**{**row, "languages": languages, **read})


def _painter(photos: PhotoFeatures, tower: ImageTower) -> ClassPainter:
    mean = photos.tokens[0, :2000, :, EARLIER_CHANNELS:].astype(np.float32).mean((0, 1))
    return ClassPainter(tower, torch.from_numpy(TOKEN_BLOCKS[6] * mean).to(tower.device))


def _train_epoch(
    config: HeadsTraining,
    data: HeadData,
    state: _State,
    tower: ImageTower,
    painter: ClassPainter,
    on_progress: Progress,
) -> dict[str, float]:
    random = np.random.default_rng([config.seed, len(state.epochs)])
    batches = list(_batches(data, config.batch_size, random))
    totals: dict[str, float] = {}
    state.learned.train()
    weights = {
        "teacher": config.teacher_weight,
        "words": config.word_weight,
        "parallel": config.parallel_weight,
        "classes": config.class_weight,
    }
    for number, photos in enumerate(batches):
        step = _Step(config, data, state.learned, tower, random, photos)
        losses = step.losses(painter)
        state.step(
            torch.stack([weights.get(name, 1.0) * each for name, each in losses.items()]).sum(),
            len(batches),
        )
        for name, each in losses.items():
            totals[name] = totals.get(name, 0.0) + each.item()
        on_progress(f"epoch {len(state.epochs) + 1}", number + 1, len(batches))
    return {name: total / len(batches) for name, total in totals.items()}


def _batches(data: HeadData, size: int, random: np.random.Generator) -> Iterator[Rows]:
    """Draw batches of distinct photos, each photo about as often as it has main captions."""
    size = min(size, len(data.usable))
    captions = data.main.rows[data.usable, 0]
    for _ in range(max(1, round((captions[:, 1] - captions[:, 0]).mean()))):
        shuffled = random.permutation(data.usable)
        for start in range(0, len(shuffled) - size + 1, size):
            # In order within the batch: the features are read from disk.
            yield np.sort(shuffled[start : start + size])


@dataclass(frozen=True)
class _Step:
    """One batch: the losses of the heads on some photos and what is drawn beside them."""

    config: HeadsTraining
    data: HeadData
    heads: _Heads
    tower: ImageTower
    random: np.random.Generator
    photos: Rows

    def losses(self, painter: ClassPainter) -> dict[str, Tensor]:
        """Compute all losses that the settings ask for, by name."""
        data, random = self.data, self.random
        scale = self.heads.log_scale.exp().clamp(max=LARGEST_SCALE)
        images = self._images()
        captions = data.main.draw(self.photos, random)
        logits = scale * images @ self._texts(data.main.features, captions).T
        losses = {"captions": matching_loss(logits)}
        if data.others:
            rows = data.others.draw(self.photos, random)
            texts = self._texts(data.others.features, rows)
            losses["other languages"] = contrastive_loss(images, texts, scale)
        if data.teacher:
            taught = TEACHER_SCALE * data.teacher.similarity(self.photos, captions)
            losses["teacher"] = distillation_loss(logits.T, taught.to(logits.device))
        if data.words:
            rows = data.words.draw(self.config.words, random)
            texts = self._texts(data.word_features, rows)
            shown = torch.from_numpy(data.words.shown[rows][:, self.photos]).to(texts.device)
            losses["words"] = shares_loss(scale * texts @ images.T, shown.float() / 2)
        if data.parallel:
            pair = np.concatenate(data.parallel.draw(PARALLEL_PAIRS, random))
            first, second = self._texts(data.parallel.features, pair).chunk(2)
            losses["parallel"] = contrastive_loss(first, second, scale)
        if data.classes:
            losses["classes"] = contrastive_loss(*self._classes(painter, data.classes), scale)
        return losses

    def _images(self) -> Tensor:
        variants = self.random.integers(0, len(self.data.photos.tokens), len(self.photos))
        tokens, pooled = _photo_batch(self.data.photos, variants, self.photos, self.tower.device)
        hidden = self.random.random(len(tokens)) < self.config.earlier_dropout
        tokens[torch.from_numpy(hidden).to(tokens.device), :, :EARLIER_CHANNELS] = 0
        images: Tensor = self.heads.image(tokens, pooled, self.tower.classify(pooled))
        return images

    def _classes(self, painter: ClassPainter, sentences: ClassSentences) -> tuple[Tensor, Tensor]:
        """Vectors of synthetic photos of classes, on photos of the batch, and of sentences."""
        count = self.config.class_photos
        canvases = self.random.choice(self.photos, count)
        classes = self.random.choice(CLASSES, count, replace=False)
        plain = np.zeros(count, np.int64)
        tokens, _ = _photo_batch(self.data.photos, plain, canvases, self.tower.device)
        painted = painter(map_of(tokens), torch.from_numpy(classes).to(tokens.device))
        tokens = F.pad(painted.map / TOKEN_BLOCKS[6], (EARLIER_CHANNELS, 0))
        rows = sentences.draw(classes, self.random)
        images = self.heads.image(tokens, painted.pooled, painted.logits)
        return images, self._texts(sentences.features, rows)

    def _texts(self, sentences: SentenceFeatures, rows: Rows) -> Tensor:
        return _encode_sentences(self.heads.text, sentences, rows)


def _photo_batch(
    features: PhotoFeatures, variants: NDArray[np.int64], photos: Rows, device: torch.device
) -> tuple[Tensor, Tensor]:
    tokens = torch.from_numpy(features.tokens[variants, photos]).float()
    pooled = torch.from_numpy(features.pooled[variants, photos]).float()
    return tokens.to(device), pooled.to(device)


def _encode_sentences(
    head: TextHead, sentences: SentenceFeatures, rows: Rows, parts: int = 4
) -> Tensor:
    """Encode rows in parts of like length, so that little of the work is padding."""
    lengths = sentences.offsets[rows + 1] - sentences.offsets[rows]
    order = np.argsort(lengths, kind="stable")
    device = next(head.parameters()).device
    vectors = torch.cat(
        [
            head.project(*(tensor.to(device) for tensor in sentences.batch(rows[part])))
            for part in np.array_split(order, min(parts, len(order)))
        ]
    )
    return vectors[torch.from_numpy(np.argsort(order)).to(device)]


@torch.inference_mode()
def _measure(heads: _Heads, split: Measured, tower: ImageTower) -> dict[str, Recalls]:
    """Measure recall by language, each among the photos that have captions in it."""
    vectors = []
    n = split.photos.tokens.shape[1]
    for start in range(0, n, EVALUATION_BATCH):
        rows = np.arange(start, min(start + EVALUATION_BATCH, n))
        tokens, pooled = _photo_batch(split.photos, np.zeros_like(rows), rows, tower.device)
        vectors.append(heads.image(tokens, pooled, tower.classify(pooled)))
    images = torch.cat(vectors)
    found = {}
    for language, captions in split.captions.items():
        rows = np.arange(len(captions.texts))
        texts = torch.cat(
            [
                _encode_sentences(heads.text, captions.features, part)
                for part in np.array_split(rows, -(-len(rows) // EVALUATION_BATCH))
            ]
        )
        counts = captions.rows[:, 0, 1] - captions.rows[:, 0, 0]
        described = np.flatnonzero(counts)
        photo = torch.from_numpy(np.repeat(np.arange(len(described)), counts[described]))
        chosen = images[torch.from_numpy(described).to(images.device)]
        found[language] = recalls(chosen, texts, photo.to(images.device))
    return found
