"""Settings, epochs and checkpoints that all training runs have in common."""

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from retrieval.errors import MMSearchError, UsageError, first_line, require_at_least
from retrieval.files import replacing
from retrieval.training.validation import Recalls

CHECKPOINT_NAME = "checkpoint.pt"

_UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    UnpicklingError,
)
_LOCK_NAME = "run.lock"

_Model = TypeVar("_Model", bound=nn.Module)
_Epoch = TypeVar("_Epoch", bound=Any)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Settings of the loop of a training run.

    output: directory for the weights and the checkpoint.
    epochs: each draws every caption about once.
    batch_size: photos a step, one caption each.
    patience: early stopping after this number of epochs without a better mean recall on `val`.
    averaging: decay of the moving average of the weights, which is measured and saved; 0: the
        weights themselves are.
    resume: go on from the checkpoint in `output`.
    """

    warm_up_steps: ClassVar[int]
    most_gradient: ClassVar[float]
    """Gradients of a larger L2 norm are scaled down to it."""
    local_names: ClassVar[frozenset[str]] = frozenset()
    """Further settings that a resumed run need not share with the first one."""
    _places: ClassVar[frozenset[str]] = frozenset({"output", "device", "resume"})

    output: Path
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.05
    patience: int = 3
    averaging: float
    seed: int = 0
    device: str = "cpu"
    resume: bool = False

    def __post_init__(self) -> None:
        require_at_least(self, 1, "epochs", "patience")
        require_at_least(self, 2, "batch_size")

    def recipe(self) -> str:
        """Serialise the settings that a resumed run must share with the first one, as JSON."""
        where = self._places | self.local_names
        settings = {name: value for name, value in asdict(self).items() if name not in where}
        return json.dumps(settings, sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(RunConfig):
    """Settings of runs that read a directory of photos and captions.

    dataset: directory with `captions.jsonl` and `images/`; its splits `train` and `val` are used.
    captions: further files of captions of its photos, as for `read_captioned_photos`.
    cache: directory for the outputs of the frozen network.
    languages: caption languages to train on.
    variants: augmented copies of each training photo, itself included.
    """

    _places: ClassVar[frozenset[str]] = RunConfig._places | {"cache", "dataset", "captions"}

    dataset: Path
    captions: tuple[Path, ...] = ()
    cache: Path
    languages: tuple[str, ...] = ("en",)
    variants: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, 1, "variants")
        if not self.languages:
            raise UsageError("languages must name at least one language of the captions.")


@contextmanager
def training_run(config: RunConfig, *, is_first: bool = True) -> Iterator[None]:
    """Make the output directory, and leave torch's random state as it was.

    is_first: whether this process is the one of its run that writes. Raises UsageError where the
    directory holds another run, or one that has not ended.
    """
    import filelock

    if (config.output / CHECKPOINT_NAME).exists() and not config.resume:
        raise UsageError(
            f"{config.output} holds a training run already. Resume it, or choose another output."
        )
    with torch.random.fork_rng(devices=[]):
        config.output.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(config.output / _LOCK_NAME)
        if is_first:
            try:
                lock.acquire(timeout=0)
            except filelock.Timeout:
                raise UsageError(
                    f"Another process is training into {config.output}. Wait until it has ended, "
                    "or choose another output."
                ) from None
        try:
            yield
        finally:
            lock.release()


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Say what cannot be written, such as to a full disk; raises MMSearchError."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        raise MMSearchError(
            f"{path} cannot be written: {first_line(error)}. Free some space, then run the same "
            "command again: with --resume, where the output has a checkpoint."
        ) from error


class TrainingState(Generic[_Model, _Epoch]):
    """Trained weights, their moving average, the optimizer, and the epochs so far.

    begun: steps taken of an unfinished epoch, whose losses so far add up to `losses`.
    recipe: settings and data of the run; a checkpoint of another recipe is refused. An epoch is a
    dataclass with its number, `epoch`, its `recalls`, whether they are the `best` so far, and the
    `seconds` that it took.
    """

    def __init__(
        self,
        config: RunConfig,
        learned: _Model,
        optimizer: torch.optim.Optimizer,
        recipe: str,
    ) -> None:
        self._config = config
        self.learned = learned
        self.averaged = learned
        if config.averaging:
            self.averaged = copy.deepcopy(learned).eval().requires_grad_(False)
        self.optimizer = optimizer
        self.epochs: list[_Epoch] = []
        self.steps = 0
        self.begun, self.losses = 0, 0.0
        self._recipe = recipe

    @property
    def stale(self) -> int:
        """Epochs since the best one."""
        best = max((epoch.epoch for epoch in self.epochs if epoch.best), default=0)
        return len(self.epochs) - int(best)

    def is_best(self, recalls: Recalls) -> bool:
        """Return whether recalls are better than those of all epochs so far."""
        return all(recalls.mean > epoch.recalls.mean for epoch in self.epochs)

    def run(
        self,
        run_epoch: Callable[[], _Epoch],
        save_best: Callable[[_Epoch], None],
        on_epoch: Callable[[_Epoch], None],
    ) -> None:
        """Run the epochs that are left, with a checkpoint after each.

        Args:
            run_epoch: trains and measures one epoch; its `seconds` are filled in here.
            save_best: called after an epoch that is the best so far.
            on_epoch: called after each epoch.
        """
        config = self._config
        checkpoint = config.output / CHECKPOINT_NAME
        if config.resume and checkpoint.exists():
            self.load(checkpoint)
        while len(self.epochs) < config.epochs and self.stale < config.patience:
            started = time.monotonic()
            # A seed per epoch, so that a resumed run draws what an uninterrupted one would.
            torch.manual_seed(config.seed * 100_003 + len(self.epochs) + 1)
            epoch = replace(run_epoch(), seconds=time.monotonic() - started)
            self.epochs.append(epoch)
            self.begun, self.losses = 0, 0.0
            if epoch.best:
                save_best(epoch)
            self.save(checkpoint)
            on_epoch(epoch)

    def step(self, loss: Tensor, steps_an_epoch: int) -> None:
        """Take one step down the gradient of a loss."""
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.update(steps_an_epoch)

    def update(self, steps_an_epoch: int) -> float:
        """Take one step with the gradients that there are; returns its learning rate.

        The rate rises linearly, then falls to zero as a half cosine. A parameter group's own `rate`
        is a factor of it.
        """
        config = self._config
        self.steps += 1
        total = steps_an_epoch * config.epochs
        warm = min(1.0, self.steps / min(config.warm_up_steps, max(1, total // 5)))
        rate = config.learning_rate * warm * (1 + math.cos(math.pi * self.steps / total)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("rate", 1.0)
        norm = nn.utils.clip_grad_norm_(self.learned.parameters(), config.most_gradient)
        if not norm.isfinite():  # the weights would not be numbers any more, nor the checkpoint's
            raise UsageError(
                f"The gradients are not finite in step {self.steps}. Choose a lower learning rate, "
                "and another output."
            )
        self.optimizer.step()
        if config.averaging:
            self._average()
        return rate

    def _average(self) -> None:
        """Update the moving average, with a lower decay over the first steps."""
        decay = min(self._config.averaging, self.steps / (self.steps + 10))
        with torch.no_grad():
            for mean, value in zip(
                self.averaged.parameters(), self.learned.parameters(), strict=True
            ):
                mean.lerp_(value, 1 - decay)

    def weights(self) -> dict[str, Tensor]:
        """Return the trained weights, as a checkpoint has them."""
        return self.learned.state_dict()

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Take over what `weights` returned."""
        self.learned.load_state_dict(weights)

    def chosen(self) -> dict[str, str]:
        """Return what the run has chosen for itself, which a resumed one takes over."""
        return {}

    def take_over(self, chosen: dict[str, str]) -> None:
        """Take over what `chosen` returned."""

    def save(self, path: Path) -> None:
        """Write a checkpoint in one atomic step."""
        checkpoint = {
            "recipe": self._recipe,
            "learned": self.weights(),
            "averaged": self.averaged.state_dict() if self._config.averaging else {},
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "begun": self.begun,
            "losses": self.losses,
            "chosen": self.chosen(),
            "epochs": json.dumps([asdict(epoch) for epoch in self.epochs]),
        }
        with written(path), replacing(path) as unfinished:
            torch.save(checkpoint, unfinished)

    def read_epoch(self, row: dict[str, Any]) -> _Epoch:
        """Parse an epoch from the JSON of its `dataclasses.asdict`."""
        raise NotImplementedError

    def load(self, path: Path) -> None:
        """Read a checkpoint; raises UsageError for one made with other settings or data."""
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            recipe = str(saved["recipe"])
        except _UNREADABLE as error:
            raise _damaged(path, error) from error
        if recipe != self._recipe:
            raise UsageError(
                f"{path} was made with other settings or data "
                f"({_differences(recipe, self._recipe)}). Resume with the same ones, or choose "
                "another output."
            )
        try:
            self.load_weights(saved["learned"])
            if self._config.averaging:
                self.averaged.load_state_dict(saved["averaged"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.steps = int(saved["steps"])
            self.begun, self.losses = int(saved.get("begun", 0)), float(saved.get("losses", 0.0))
            self.take_over(saved.get("chosen", {}))
            self.epochs = [self.read_epoch(row) for row in json.loads(saved["epochs"])]
        except _UNREADABLE as error:
            raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> UsageError:
    return UsageError(
        f"{path} is no checkpoint of a training run ({first_line(error)}). Remove it to begin "
        "again, or choose another output."
    )


def _differences(saved: str, now: str) -> str:
    """Say what differs between two recipes; where they are no JSON, both of them whole."""
    try:
        first, second = (dict(_leaves(json.loads(recipe))) for recipe in (saved, now))
    except ValueError:
        return f"{saved}, now {now}"
    missing = "none"
    return ", ".join(
        f"{name} {first.get(name, missing)}, now {second.get(name, missing)}"
        for name in sorted(first.keys() | second.keys())
        if first.get(name, missing) != second.get(name, missing)
    )


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """List what JSON holds, by its path: `data.0.name`."""
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in inner:
            yield from _leaves(each, f"{name}.{key}" if name else f"{key}")
    else:
        yield name, value
