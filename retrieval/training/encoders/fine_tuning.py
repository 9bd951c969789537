"""Fine-tune a dual encoder on captioned photos.

Deterministic: the same settings, data, number of processes and machine give the same weights on a
CPU, also where the run was stopped in the middle of an epoch and resumed.
"""

import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from retrieval.errors import MMSearchError, UnreadableFileError, UsageError, require_at_least
from retrieval.files import replacing
from retrieval.media.images import LEAST_SIDE, read_image
from retrieval.training.captions import CaptionedPhoto, digest_of_texts
from retrieval.training.encoders.acceleration import (
    autocast,
    checkpoint_activations,
    fastest_precision,
)
from retrieval.training.encoders.distributed import Processes
from retrieval.training.encoders.frozen_prefix import FrozenPrefix
from retrieval.training.encoders.frozen_states import FrozenStates, frozen_states
from retrieval.training.encoders.gradient_cache import (
    Inputs,
    PairEncoder,
    backward_in_parts,
    moved,
    rows_of,
)
from retrieval.training.encoders.interpolation import (
    SHARES,
    Interpolation,
    choose_share,
    interpolated,
)
from retrieval.training.encoders.logs import TrainingLog
from retrieval.training.encoders.models import DualModel, encode_captions, encode_photos
from retrieval.training.encoders.pairs import (
    Batch,
    DamagedImages,
    PairSource,
    PhotoPairs,
    PhotoSet,
    TrainingPair,
    decoded_batches,
    seed_of,
)
from retrieval.training.encoders.tuning import (
    TUNING_MODES,
    Tuned,
    TuningMode,
    check_mode_options,
    tune,
)
from retrieval.training.feature_folder import Progress
from retrieval.training.hard_negatives import hard_negatives
from retrieval.training.losses import PAIR_LOSSES
from retrieval.training.state import (
    CHECKPOINT_NAME,
    RunConfig,
    TrainingState,
    training_run,
    written,
)
from retrieval.training.validation import Recalls, recalls

ENCODER_NAME = "encoder"
"""Folder of the trained encoder inside of the output."""
BEST_NAME = "best_epoch.safetensors"
NEIGHBOURS_NAME = "neighbours.npy"
"""Photos that are confused with each training photo, as the present epoch has them."""

LEARNING_RATES: Mapping[TuningMode, float] = {
    "full": 1e-5,
    "partial": 1e-5,
    "layerwise": 2e-5,
    "lora": 2e-4,
    "linear": 1e-3,
}
"""Peak learning rates by mode of tuning, where none is chosen."""

AUTO = "auto"
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}

_MOST_SCALE = math.log(100)
"""Logarithm of the highest inverse temperature, as of CLIP (Radford et al. 2021)."""
_BETAS = 0.9, 0.98
_LOGGED_STEPS = 10

CPU_CHUNK = 32
"""All pairs of a batch of 128 took 18 GB with EfficientNet-Lite2 and MiniLM."""
_SPARE_NEIGHBOURS = 4
"""Neighbours looked up for each one wanted: others may be in earlier batches already."""


class TrainingStoppedError(MMSearchError):
    """A training run was stopped, and left a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class EncoderTraining(RunConfig):
    """Settings of a fine-tuning run.

    encoder: name of the encoder to begin with.
    mode: what is trained, one of `TUNING_MODES`.
    batch_size: pairs a step, in all processes together.
    chunk_size: pairs whose activations are in memory at once, by gradient caching; None: all on a
        GPU, at most `CPU_CHUNK` on a CPU.
    loss: one of `PAIR_LOSSES`.
    label_smoothing: share of the target that goes to other pairs of the batch, 0 to less than 1.
    layers: last layers of the image and of the text tower that mode `partial` trains, and `lora`
        adapts; None: two and all.
    layer_norms, gradual, layer_decay, rank, alpha, dropout: as for `tune`.
    recompute_activations: compute activations again in the backward pass, which takes less memory
        and more time; frozen layers are not cached then.
    interpolation: share of the new weights in the result, 0 to 1; None: the best on validation.
    workers: processes that decode images; 0: the training one does.
    precision: `float32` or `bfloat16` for the activations; `auto`: on a GPU what is faster there.
    checkpoint_seconds: time between checkpoints inside of an epoch.
    tensorboard: whether event files are written beside the CSV file.
    cache: directory for outputs of layers that stay frozen; None: they are computed in each step.
    frozen_cache_gb: bound of their size on disk, of photos and of captions; 0: as without `cache`.
    hard_negatives: photos that join each drawn one in its batch, which the encoder confuses most
        with it as the epoch begins.
    """

    warm_up_steps = 200
    most_gradient = 1.0
    local_names: ClassVar[frozenset[str]] = frozenset(
        {"encoder", "interpolation", "workers", "checkpoint_seconds", "tensorboard", "cache"}
    )

    encoder: str
    mode: TuningMode = "full"
    epochs: int = 10
    batch_size: int = 128
    chunk_size: int | None = None
    learning_rate: float = 0.0
    loss: str = "contrastive"
    label_smoothing: float = 0.0
    layers: tuple[int, int] | None = None
    layer_norms: bool = False
    gradual: bool = False
    layer_decay: float = 0.75
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    recompute_activations: bool = False
    averaging: float = 0.0
    interpolation: float | None = None
    workers: int = 0
    precision: str = "auto"
    checkpoint_seconds: float = 300.0
    tensorboard: bool = False
    cache: Path | None = None
    hard_negatives: int = 0
    frozen_cache_gb: float = 50.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_one_of(self, "mode", TUNING_MODES)
        _require_one_of(self, "loss", PAIR_LOSSES)
        _require_one_of(self, "precision", (AUTO, *PRECISIONS))
        check_mode_options(
            self.mode,
            has_layers=self.layers is not None,
            layer_norms=self.layer_norms,
            gradual=self.gradual,
        )
        require_at_least(self, 1, "rank")
        require_at_least(self, 0, "workers", "hard_negatives")
        if self.learning_rate == 0:
            object.__setattr__(self, "learning_rate", LEARNING_RATES[self.mode])
        if self.label_smoothing and self.loss != "contrastive":
            raise UsageError(f"label_smoothing is of the loss contrastive, not of {self.loss}.")
        for name, value, is_fine, allowed in (
            ("learning_rate", self.learning_rate, 0 < self.learning_rate < math.inf, "above 0"),
            ("weight_decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "at least 0"),
            ("label_smoothing", self.label_smoothing, 0 <= self.label_smoothing < 1, "0 to < 1"),
            ("layer_decay", self.layer_decay, 0 < self.layer_decay <= 1, "above 0, at most 1"),
            ("interpolation", self.interpolation, 0 <= (self.interpolation or 0) <= 1, "0 to 1"),
            ("alpha", self.alpha, 0 < self.alpha < math.inf, "above 0"),
            ("dropout", self.dropout, 0 <= self.dropout < 1, "0 to < 1"),
            (
                "frozen_cache_gb",
                self.frozen_cache_gb,
                0 <= self.frozen_cache_gb < 1e9,
                "at least 0",
            ),
            (
                "chunk_size",
                self.chunk_size,
                self.chunk_size is None or self.chunk_size >= 1,
                "from 1",
            ),
        ):
            if not is_fine:
                raise UsageError(f"{name} must be {allowed}, not {value}.")


def _require_one_of(
    settings: object, name: str, allowed: Sequence[str] | Mapping[str, Any]
) -> None:
    if (value := getattr(settings, name)) not in allowed:
        raise UsageError(f"{name} must be one of {', '.join(allowed)}, not {value!r}.")


@dataclass(frozen=True)
class EncoderEpoch:
    """Results of one epoch: mean loss, recalls on validation, whether they are the best so far.

    scale: inverse temperature at its end.
    """

    epoch: int
    loss: float
    recalls: Recalls
    best: bool
    scale: float
    seconds: float = 0.0


@dataclass(frozen=True)
class EncoderResult:
    """A trained encoder.

    encoder: its folder, for `local-dir:`.
    share: of the new weights in it. trials: shares that were measured, the best first; one alone
        where the share was given.
    before: recalls on validation of the encoder to begin with; after: of the trained one.
    steps: of all epochs. trained, parameters: numbers of trained parameters and of all.
    damaged: what could not be read, empty if all could.
    """

    encoder: Path
    share: float
    trials: tuple[Interpolation, ...]
    before: Recalls
    after: Recalls
    epochs: tuple[EncoderEpoch, ...]
    stopped_early: bool
    steps: int
    trained: int
    parameters: int
    damaged: str = ""


def train_encoder(
    config: EncoderTraining,
    dual: DualModel,
    train: PairSource,
    validation: Sequence[CaptionedPhoto],
    *,
    processes: Processes | None = None,
    on_epoch: Callable[[EncoderEpoch], None] = lambda _: None,
    on_progress: Callable[..., None] = lambda *_: None,
    on_note: Callable[[str], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> EncoderResult:
    """Fine-tune an encoder, and save the weights that are best on validation.

    Args:
        config: the settings.
        dual: the encoder to begin with; afterwards it is the trained one.
        train: the pairs to train on.
        validation: at least two photos, for early stopping and the choice of the weights.
        processes: of data-parallel training; the first one writes.
        on_epoch: called after each epoch.
        on_progress: called with stage, done, total and what the loss is.
        on_note: called where the outputs of frozen layers cannot be cached, with the reason.
        should_stop: asked after each step.

    Raises:
        UsageError: a setting or the data cannot be used, or `output` holds another run.
        TrainingStoppedError: `should_stop` said so in one of the processes; there is a checkpoint.
    """
    processes = processes or Processes(device=config.device)
    if len(validation) < 2:
        raise UsageError("There must be at least two photos for validation.")
    if train.size is not None and train.size < config.batch_size:
        raise UsageError(
            f"A batch of {config.batch_size:,} pairs needs as many captions; there are "
            f"{train.size:,} to train on. Choose a smaller batch size."
        )
    require_free_output(config.output, ENCODER_NAME)
    if config.hard_negatives and not isinstance(train, PhotoPairs):
        raise UsageError("Hard negatives are looked up among all photos: a stream has none.")
    log = TrainingLog(config.output, tensorboard=config.tensorboard and processes.is_first)
    with training_run(config, is_first=processes.is_first):
        run = _Run(
            config, dual, train, validation, processes, log, on_progress, on_note, should_stop
        )
        try:
            return run.run(on_epoch)
        finally:
            log.close()


def require_free_output(output: Path, *names: str) -> None:
    """Raise UsageError where a directory without a run has files that a run would replace.

    Before its first checkpoint a run writes none of these names.
    """
    there = [name for name in names if (output / name).exists()]
    if there and not (output / CHECKPOINT_NAME).exists():
        raise UsageError(
            f"{output} has {', '.join(there)} already, and no training run. Nothing was replaced: "
            "choose another output."
        )


class _Run:
    """A run: the model, its data and its processes."""

    def __init__(
        self,
        config: EncoderTraining,
        dual: DualModel,
        train: PairSource,
        validation: Sequence[CaptionedPhoto],
        processes: Processes,
        log: TrainingLog,
        on_progress: Callable[..., None],
        on_note: Callable[[str], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self.config = config
        self.dual = dual
        self.train = train
        self.processes = processes
        self.log = log
        self.on_progress = on_progress
        self.on_note = on_note
        self.should_stop = should_stop
        self.damaged = DamagedImages()
        self.steps_an_epoch = steps_an_epoch(train, config.batch_size)
        self.validation = Validation(validation, dual, config, processes, on_progress)
        self.saved_at = time.monotonic()

    def run(self, on_epoch: Callable[[EncoderEpoch], None]) -> EncoderResult:
        config, processes = self.config, self.processes
        # A seed, since layers that are added begin with random weights.
        torch.manual_seed(config.seed)
        state = _State(config, self.dual, self.train, self.validation, processes)
        self.frozen = self._frozen_states(state, self.train)
        self.quick = self._quick_validation(state)
        before = self._measure(state)
        self.mined: Validation | None = None
        if config.hard_negatives and isinstance(self.train, PhotoPairs):
            self.mined = Validation(
                self.train.photos, self.dual, config, processes, self.on_progress, self.frozen
            )
        self.log_begun = False

        def save_best(_: EncoderEpoch) -> None:
            if processes.is_first:
                save_weights(state.merged(), config.output / BEST_NAME)

        state.run(partial(self._epoch, state), save_best, on_epoch)
        processes.wait()
        trials = self._choose(state, before)
        best = trials[0]
        if processes.is_first:
            with written(config.output / ENCODER_NAME):
                self.dual.save(config.output / ENCODER_NAME)
        processes.wait()
        return EncoderResult(
            encoder=config.output / ENCODER_NAME,
            share=best.share,
            trials=tuple(trials),
            before=before,
            after=best.recalls,
            epochs=tuple(state.epochs),
            stopped_early=len(state.epochs) < config.epochs,
            steps=state.steps,
            trained=sum(each.numel() for each in state.trained),
            parameters=sum(each.numel() for each in self.dual.model.parameters()),
            damaged=str(self.damaged),
        )

    def _quick_validation(self, state: "_State") -> "tuple[Validation, FrozenPrefix] | None":
        """Return what measures from cached outputs of frozen layers, if those are cached."""
        if self.frozen is None:
            return None
        photos = self.validation.photos
        states = self._frozen_states(state, PhotoPairs([PhotoSet(photos)]))
        if states is None:
            return None
        parts = photos, self.dual, self.config, self.processes, self.on_progress, states
        return Validation(*parts), states.prefix

    def _measure(self, state: "_State") -> Recalls:
        """Measure the model that is trained, as it is now."""
        state.learned.eval()
        if self.quick is None:
            return self.validation.measure(state.learned)
        validation, prefix = self.quick
        return validation.measure(prefix)

    def _frozen_states(self, state: "_State", source: PairSource) -> FrozenStates | None:
        """Cache the outputs of frozen layers, if there are any and they can be."""
        config = self.config
        if (
            config.cache is None
            or not config.frozen_cache_gb
            # A layer that is computed again would not get the cached states.
            or config.recompute_activations
            or not state.tuned.frozen[0]
            or not isinstance(source, PhotoPairs)
            or source.fixed_variants is None
        ):
            return None
        found, problem = None, ""
        # The first process fills the cache, and the others read it.
        for is_turn in (self.processes.is_first, not self.processes.is_first):
            if is_turn and not problem:
                try:
                    found = frozen_states(
                        state.tuned,
                        self.dual,
                        source,
                        cache=config.cache,
                        most_bytes=int(config.frozen_cache_gb * 1e9),
                        on_progress=self.on_progress,
                    )
                except UsageError as error:
                    problem = str(error)
            if self.processes.any(bool(problem)):
                problem = problem or "another process cannot."
        if problem:
            self.on_note(f"Frozen layers are computed in each step. {problem}")
        return None if problem else found

    def _with_hard_negatives(self, state: "_State") -> PairSource:
        """Look up the photos that the encoder confuses now, and let them meet in batches."""
        train, mined = self.train, self.mined
        if mined is None or not isinstance(train, PhotoPairs):
            return train
        wanted = self.config.hard_negatives
        path = self.config.output / NEIGHBOURS_NAME
        # A resumed epoch goes on with what it began with.
        if not state.begun:
            state.learned.eval()
            model = self.frozen.prefix if self.frozen else state.learned
            images, texts = mined.vectors(model, "hard negatives")
            if self.processes.is_first:
                counts = [0, *(len(photo.captions) for photo in train.photos)]
                near = hard_negatives(
                    images[:, :-1].numpy(),
                    texts.numpy(),
                    np.cumsum(counts),
                    neighbours=_SPARE_NEIGHBOURS * wanted,
                )
                with replacing(path) as unfinished, unfinished.open("wb") as file:
                    np.save(file, near, allow_pickle=False)
            self.processes.wait()
        near = read_neighbours(path, len(train.photos))
        return train.with_neighbours(lambda photo: near[photo].tolist(), wanted)

    def _epoch(self, state: "_State") -> EncoderEpoch:
        config, number = self.config, len(state.epochs)
        if not self.log_begun and self.processes.is_first:
            self.log.begin(state.steps)
        self.log_begun = True
        state.tuned.unfreeze(number)
        train = self._with_hard_negatives(state)
        state.learned.train()
        keep_statistics(state.learned)
        device = self.processes.device
        stage = f"epoch {number + 1}"
        batches = decoded_batches(
            _Rest(train, state.begun),
            number,
            config.batch_size,
            self.dual.preprocess,
            rank=self.processes.rank,
            world=self.processes.world,
            workers=0 if self.frozen else config.workers,
            damaged=self.damaged,
            read=self.frozen.read if self.frozen else None,
        )
        started, done, logged = time.monotonic(), 0, 0.0
        for batch in batches:
            # A seed per step, so that a resumed run draws what an uninterrupted one would.
            torch.manual_seed(seed_of(config.seed, state.steps, self.processes.rank))
            loss = self._gradients(state, batch, device)
            rate = state.update(self.steps_an_epoch)
            state.limit_scale()
            state.begun += 1
            state.losses += loss
            done += 1
            logged += loss
            if self.processes.is_first and (
                done == _LOGGED_STEPS or state.begun == self.steps_an_epoch
            ):
                seconds = time.monotonic() - started
                self.log.write(
                    state.steps,
                    {
                        "epoch": number + 1,
                        "loss": logged / done,
                        "learning_rate": rate,
                        "pairs_per_second": round(done * config.batch_size / seconds, 2),
                    },
                )
                started, done, logged = time.monotonic(), 0, 0.0
            self.on_progress(stage, state.begun, self.steps_an_epoch, f"loss {loss:.4f}")
            self._checkpoint(state)
        found = self._measure(state)
        if self.processes.is_first:
            self.log.write(state.steps, {"epoch": number + 1, **_columns(found)})
        self.saved_at = time.monotonic()
        return EncoderEpoch(
            epoch=number + 1,
            loss=state.losses / max(1, state.begun),
            recalls=found,
            best=state.is_best(found),
            scale=float(state.learned.logit_scale.detach().exp()),  # type: ignore[operator]
        )

    def _gradients(self, state: "_State", batch: Batch, device: str) -> float:
        """Compute the loss of the whole batch, and the gradients, equal in all processes."""
        processes = self.processes
        pixels = batch.images.to(device, non_blocking=True)
        frozen = self.frozen
        texts = frozen.captions(batch.captions) if frozen else self.dual.tokenize(batch.captions)
        texts = moved(texts, device)
        groups = processes.gather(batch.groups.to(device))
        arguments: dict[str, Any] = {}
        if self.config.label_smoothing:
            arguments["smoothing"] = self.config.label_smoothing

        def loss_of(images: Tensor, texts: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
            images, texts = processes.gather(images), processes.gather(texts)
            pair_loss = PAIR_LOSSES[self.config.loss]
            return pair_loss(images, texts, scale, bias=bias, groups=groups, **arguments)

        encoder = PairEncoder(frozen.prefix if frozen else state.learned)
        part = self.config.chunk_size or (CPU_CHUNK if device == "cpu" else len(pixels))
        precision = self._precision(state, encoder, pixels[:part], rows_of(texts, slice(part)))
        state.optimizer.zero_grad()
        loss = backward_in_parts(
            encoder,
            pixels,
            texts,
            loss_of,
            part=part,
            autocast=partial(autocast, torch.device(device), precision),
        )
        value = float(loss)
        if not math.isfinite(value):
            raise UsageError(
                f"The loss is {value} in step {state.steps + 1}. Choose a lower learning rate, and "
                "another output."
            )
        processes.average_gradients(state.trained)
        return value

    def _precision(
        self, state: "_State", encoder: PairEncoder, images: Tensor, texts: Inputs
    ) -> torch.dtype:
        """Choose the precision in the first step of a run."""
        if not state.precision:
            choice = self.config.precision
            if choice == AUTO and images.device.type == "cpu":
                choice = "float32"
            if choice == AUTO:
                fastest = fastest_precision(encoder, images, texts)
                # All processes take what the first one has found.
                told = torch.tensor([fastest == torch.bfloat16], device=images.device).float()
                choice = "bfloat16" if self.processes.gather(told)[0] else "float32"
            state.precision = choice
        return PRECISIONS[state.precision]

    def _checkpoint(self, state: "_State") -> None:
        """Write a checkpoint when one is due, and stop if that is asked for."""
        checkpoint = self.config.output / CHECKPOINT_NAME
        is_stopped = self.processes.any(self.should_stop())
        is_due = time.monotonic() - self.saved_at >= self.config.checkpoint_seconds
        if is_stopped or is_due:
            state.save(checkpoint)
            self.saved_at = time.monotonic()
        if is_stopped:
            self.processes.wait()
            raise TrainingStoppedError(
                f"Stopped in epoch {len(state.epochs) + 1} after step {state.begun:,} of "
                f"{self.steps_an_epoch:,}; {checkpoint} has all of it. Run the same command with "
                "--resume to go on from there."
            )

    def _choose(self, state: "_State", before: Recalls) -> list[Interpolation]:
        """Choose the share of the new weights, and give them to the model; the best first."""
        model, device = self.dual.model, self.processes.device
        old = {name: value.clone() for name, value in model.state_dict().items()}
        path = self.config.output / BEST_NAME
        new = read_weights(path)
        if any(name not in old or old[name].shape != value.shape for name, value in new.items()):
            raise UsageError(
                f"{path} has the weights of another encoder. Train into another output."
            )
        # Where nothing was added to it, the trained model takes the weights, and measures quickly.
        is_plain = state.learned.state_dict().keys() == old.keys()
        if not is_plain:
            model.to(device).eval()
        done = 0

        def measure(share: float) -> Recalls:
            nonlocal done
            weights = interpolated(old, new, share)
            done += 1
            if is_plain:
                state.learned.load_state_dict(weights)
                found = self._measure(state)
            else:
                model.load_state_dict(weights)
                found = self.validation.measure(model)
            self.on_progress("interpolation", done, len(SHARES) - 2 if given is None else 1)
            return found

        given = self.config.interpolation
        if given is None:
            best = [epoch.recalls for epoch in state.epochs if epoch.best][-1]
            trials = choose_share(measure, {0.0: before, 1.0: best})
        else:
            trials = [Interpolation(given, measure(given))]
        model.load_state_dict(interpolated(old, new, trials[0].share))
        model.cpu()
        return trials


class _State(TrainingState[nn.Module, EncoderEpoch]):
    """The model that is trained, a copy of the one to begin with."""

    def __init__(
        self,
        config: EncoderTraining,
        dual: DualModel,
        train: PairSource,
        validation: "Validation",
        processes: Processes,
    ) -> None:
        learned = copy.deepcopy(dual.model).to(processes.device)
        self.tuned: Tuned = tune(
            learned,
            config.mode,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            layers=config.layers or ((2, 2) if config.mode == "partial" else (None, None)),
            layer_norms=config.layer_norms,
            gradual=config.gradual,
            layer_decay=config.layer_decay,
            rank=config.rank,
            alpha=config.alpha,
            dropout=config.dropout,
        )
        if config.recompute_activations:
            checkpoint_activations(learned)
        optimizer = torch.optim.AdamW(self.tuned.groups, lr=config.learning_rate, betas=_BETAS)
        self.trained = [each for group in self.tuned.groups for each in group["params"]]
        recipe = {
            "settings": json.loads(config.recipe()),
            "weights": dual.checksum,
            "training data": train.digest,
            "validation data": validation.digest,
        }
        super().__init__(config, learned, optimizer, json.dumps(recipe, sort_keys=True))
        self._names = {
            name
            for name, each in learned.named_parameters()
            if any(each is t for t in self.trained)
        }
        self._is_first = processes.is_first
        self.precision = ""
        scale = learned.logit_scale.detach()  # type: ignore[operator]
        self._most_scale = max(_MOST_SCALE, float(scale))

    def limit_scale(self) -> None:
        """Keep the temperature from collapsing."""
        with torch.no_grad():
            self.learned.logit_scale.clamp_(max=self._most_scale)  # type: ignore[operator]

    def merged(self) -> dict[str, Tensor]:
        """Return all weights, by their names in the model to begin with."""
        weights = self.tuned.merged().state_dict()
        return {name: value.detach().cpu() for name, value in weights.items()}

    def weights(self) -> dict[str, Tensor]:
        """Return what is trained; all else is as it was."""
        own = self.learned.state_dict()
        return {name: own[name] for name in sorted(self._names)}

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Take over what `weights` returned."""
        if weights.keys() != self._names:
            raise UsageError("The checkpoint has other weights than are trained.")
        self.learned.load_state_dict(weights, strict=False)

    def chosen(self) -> dict[str, str]:
        """Return the precision."""
        return {"precision": self.precision}

    def take_over(self, chosen: dict[str, str]) -> None:
        """Take over the precision."""
        self.precision = chosen["precision"]

    def save(self, path: Path) -> None:
        """Write a checkpoint, in the first process."""
        if self._is_first:
            super().save(path)

    def read_epoch(self, row: dict[str, Any]) -> EncoderEpoch:
        """Parse an epoch."""
        return EncoderEpoch(**{**row, "recalls": Recalls.from_json(row["recalls"])})


class Validation:
    """Photos and captions that recall is measured on, as a search would encode them.

    frozen: photos and captions are read as outputs of frozen layers, for a `FrozenPrefix`.
    """

    def __init__(
        self,
        photos: Sequence[CaptionedPhoto],
        dual: DualModel,
        config: EncoderTraining,
        processes: Processes,
        on_progress: Progress = lambda *_: None,
        frozen: FrozenStates | None = None,
    ) -> None:
        self._frozen = frozen
        self.photos = photos
        self._dual = dual
        self._batch = max(1, min(config.batch_size // processes.world, 64))
        self._processes = processes
        self._on_progress = on_progress
        self._captions = [text for photo in photos for text in photo.captions]
        counts = torch.tensor([len(photo.captions) for photo in photos])
        self._photo_of = torch.repeat_interleave(torch.arange(len(photos)), counts)

    @property
    def digest(self) -> str:
        """SHA-256 of the names of the photos and of their captions."""
        names = [f"{photo.path.name}\t{len(photo.captions)}" for photo in self.photos]
        return digest_of_texts([*names, *self._captions])

    @torch.inference_mode()
    def measure(self, model: nn.Module) -> Recalls:
        """Measure a model in evaluation mode; photos that cannot be read are left out.

        Raises UsageError where fewer than two can be read.
        """
        images, texts = self.vectors(model)
        is_read = images[:, -1] > 0
        if int(is_read.sum()) < 2:
            raise UsageError("Fewer than two photos for validation can be read.")
        kept = is_read[self._photo_of]
        place = torch.cumsum(is_read.long(), 0) - 1
        return recalls(images[is_read, :-1], texts[kept], place[self._photo_of[kept]])

    @torch.inference_mode()
    def vectors(self, model: nn.Module, stage: str = "validation") -> tuple[Tensor, Tensor]:
        """Encode all photos, (n, d + 1), with 1 in the last column, or 0 in all; and captions."""
        images = self._in_parts(len(self.photos), partial(self._images, model), stage)
        return images, self._in_parts(len(self._captions), partial(self._texts, model), "")

    def _images(self, model: nn.Module, rows: range) -> Tensor:
        """Encode photos: (n, d + 1), with 1 in the last column, or 0 in all."""
        with ThreadPoolExecutor(max_workers=4) as pool:
            read = list(pool.map(self._read, rows))
        some = next((each for each in read if each is not None), None)
        shape = self._frozen.prefix.image_shape if self._frozen else None
        empty = torch.zeros(shape or (3, *self._dual.input_shape)) if some is None else some * 0
        pixels = torch.stack([empty if each is None else each for each in read])
        vectors = encode_photos(model, pixels.to(self._processes.device))
        good = torch.tensor([[each is not None] for each in read], device=vectors.device).float()
        return torch.cat([vectors * good, good], dim=1)

    def _texts(self, model: nn.Module, rows: range) -> Tensor:
        captions = [self._captions[row] for row in rows]
        frozen = self._frozen
        texts = frozen.captions(captions) if frozen else self._dual.tokenize(captions)
        return encode_captions(model, moved(texts, self._processes.device))

    def _read(self, number: int) -> Tensor | None:
        try:
            if self._frozen:
                return self._frozen.photo(number)
            photo = self.photos[number]
            return self._dual.preprocess(read_image(photo.path, least_side=LEAST_SIDE))
        except (OSError, UnreadableFileError):
            return None

    def _in_parts(self, count: int, encode: Callable[[range], Tensor], stage: str) -> Tensor:
        """Encode rows [0, count), a part of them in each process: (count, ...) on the CPU."""
        processes = self._processes
        each = math.ceil(count / processes.world)
        # All parts have the same length; what is too much is encoded twice, and dropped.
        start = min(processes.rank * each, count - each)
        parts = []
        for begin in range(start, start + each, self._batch):
            rows = range(begin, min(begin + self._batch, start + each))
            parts.append(encode(rows))
            if stage:
                self._on_progress(stage, rows.stop - start, each)
        found = processes.gather(torch.cat(parts)).cpu()
        starts = [min(rank * each, count - each) for rank in range(processes.world)]
        whole = found.new_empty((count, *found.shape[1:]))
        for begin, part in zip(starts, torch.split(found, each), strict=True):
            whole[begin : begin + each] = part
        return whole


class _Rest:
    """The pairs of a source but for the first batches of an epoch, which a run has seen."""

    def __init__(self, source: PairSource, seen: int) -> None:
        self._source, self._seen = source, seen

    @property
    def size(self) -> int | None:
        return self._source.size

    @property
    def digest(self) -> str:
        return self._source.digest

    def batches(
        self, epoch: int, batch_size: int, *, rank: int = 0, world: int = 1
    ) -> Iterator[list[TrainingPair]]:
        batches = self._source.batches(epoch, batch_size, rank=rank, world=world)
        return islice(batches, self._seen, None)


def steps_an_epoch(source: PairSource, batch_size: int) -> int:
    """Return the number of whole batches of an epoch; raises UsageError where it is not known."""
    if source.size is None:
        raise UsageError(
            "The number of pairs of the dataset is not known, and the learning rate is planned "
            "with it. Give it as the dataset's option for the number of pairs."
        )
    return max(1, source.size // batch_size)


def keep_statistics(model: nn.Module) -> None:
    """Put batch normalisations into evaluation mode: their statistics stay those of the encoder.

    Those of small batches are worse, and would differ by how a batch is divided.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def save_weights(weights: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors, in one atomic step."""
    from safetensors.torch import save_file

    with written(path), replacing(path) as unfinished:
        save_file({name: value.contiguous().clone() for name, value in weights.items()}, unfinished)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors. Raises UsageError for a file that is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UsageError(
            f"The weights of the best epoch, {path}, cannot be read ({error}). Train again into "
            "another output."
        ) from error
    return weights


def read_neighbours(path: Path, photos: int) -> NDArray[np.int64]:
    """Read the neighbours of each photo: (photos, k). Raises UsageError for a damaged file."""
    try:
        near: NDArray[np.int64] = np.load(path, allow_pickle=False)
        is_fine = near.ndim == 2 and len(near) == photos and near.dtype == np.int64
        is_fine = is_fine and bool(((near >= 0) & (near < photos)).all())
    except (OSError, ValueError, EOFError):
        is_fine = False
    if not is_fine:
        raise UsageError(
            f"The hard negatives of the epoch, {path}, cannot be read. Train again into another "
            "output."
        )
    return near


def _columns(found: Recalls) -> dict[str, float]:
    values = (*found.text_to_image, *found.image_to_text)
    names = [f"{way}_r{depth}" for way in ("t2i", "i2t") for depth in (1, 5, 10)]
    return dict(zip(names, (round(value, 6) for value in values), strict=True))
