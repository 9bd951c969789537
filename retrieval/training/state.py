"""Settings, epochs and checkpoints that all training runs have in common."""

import copy
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from retrieval.errors import UsageError, require_at_least
from retrieval.files import replacing
from retrieval.training.validation import Recalls

CHECKPOINT_NAME = "checkpoint.pt"

_Model = TypeVar("_Model", bound=nn.Module)
_Epoch = TypeVar("_Epoch", bound=Any)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Settings that all training runs have.

    dataset: directory with `captions.jsonl` and `images/`; its splits `train` and `val` are used.
    captions: further files of captions of its photos, as for `read_captioned_photos`.
    output: directory for the weights and the checkpoint.
    cache: directory for the outputs of the frozen network.
    languages: caption languages to train on.
    epochs: each draws every caption about once.
    batch_size: photos a step, one caption each.
    patience: early stopping after this number of epochs without a better mean recall on `val`.
    variants: augmented copies of each training photo, itself included.
    averaging: decay of the moving average of the weights, which is measured and saved.
    resume: resume after the last epoch in `output`.
    """

    warm_up_steps: ClassVar[int]
    most_gradient: ClassVar[float]
    """Gradients of a larger L2 norm are scaled down to it."""
    local_names: ClassVar[frozenset[str]] = frozenset()
    """Further settings that a resumed run need not share with the first one."""

    dataset: Path
    captions: tuple[Path, ...] = ()
    output: Path
    cache: Path
    languages: tuple[str, ...] = ("en",)
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.05
    patience: int = 3
    variants: int
    averaging: float
    seed: int = 0
    device: str = "cpu"
    resume: bool = False

    def __post_init__(self) -> None:
        require_at_least(self, 1, "epochs", "patience", "variants")
        require_at_least(self, 2, "batch_size")
        if not self.languages:
            raise UsageError("languages must name at least one language of the captions.")

    def recipe(self) -> str:
        """Serialise the settings that a resumed run must share with the first one, as JSON."""
        where = {"output", "cache", "device", "resume", "dataset", "captions", *self.local_names}
        settings = {name: value for name, value in asdict(self).items() if name not in where}
        return json.dumps(settings, sort_keys=True)


@contextmanager
def training_run(config: TrainingConfig) -> Iterator[None]:
    """Make the output directory, and leave torch's random state as it was.

    Raises UsageError where the directory holds another run.
    """
    if (config.output / CHECKPOINT_NAME).exists() and not config.resume:
        raise UsageError(
            f"{config.output} holds a training run already. Resume it, or choose another output."
        )
    with torch.random.fork_rng(devices=[]):
        config.output.mkdir(parents=True, exist_ok=True)
        yield


class TrainingState(Generic[_Model, _Epoch]):
    """Trained weights, their moving average, the optimizer, and the epochs so far.

    recipe: settings and data of the run; a checkpoint of another recipe is refused. An epoch is a
    dataclass with its number, `epoch`, its `recalls`, whether they are the `best` so far, and the
    `seconds` that it took.
    """

    def __init__(
        self,
        config: TrainingConfig,
        learned: _Model,
        optimizer: torch.optim.Optimizer,
        recipe: str,
    ) -> None:
        self._config = config
        self.learned = learned
        self.averaged = copy.deepcopy(learned).eval().requires_grad_(False)
        self.optimizer = optimizer
        self.epochs: list[_Epoch] = []
        self.steps = 0
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
            if epoch.best:
                save_best(epoch)
            self.save(checkpoint)
            on_epoch(epoch)

    def step(self, loss: Tensor, steps_an_epoch: int) -> None:
        """Take one step: the rate rises linearly, then falls to zero as a half cosine.

        A parameter group's own `rate` is a factor of it.
        """
        config = self._config
        self.steps += 1
        total = steps_an_epoch * config.epochs
        warm = min(1.0, self.steps / min(config.warm_up_steps, max(1, total // 5)))
        rate = config.learning_rate * warm * (1 + math.cos(math.pi * self.steps / total)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("rate", 1.0)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.learned.parameters(), config.most_gradient)
        self.optimizer.step()
        self._average()

    def _average(self) -> None:
        """Update the moving average, with a lower decay over the first steps."""
        decay = min(self._config.averaging, self.steps / (self.steps + 10))
        with torch.no_grad():
            for mean, value in zip(
                self.averaged.parameters(), self.learned.parameters(), strict=True
            ):
                mean.lerp_(value, 1 - decay)

    def save(self, path: Path) -> None:
        """Write a checkpoint in one atomic step."""
        checkpoint = {
            "recipe": self._recipe,
            "learned": self.learned.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "epochs": json.dumps([asdict(epoch) for epoch in self.epochs]),
        }
        with replacing(path) as unfinished:
            torch.save(checkpoint, unfinished)

    def read_epoch(self, row: dict[str, Any]) -> _Epoch:
        """Parse an epoch from the JSON of its `dataclasses.asdict`."""
        raise NotImplementedError

    def load(self, path: Path) -> None:
        """Read a checkpoint; raises UsageError for one made with other settings or data."""
        saved = torch.load(path, map_location="cpu", weights_only=True)
        if saved["recipe"] != self._recipe:
            raise UsageError(
                f"{path} was made with other settings or data ({saved['recipe']}, now "
                f"{self._recipe}). Resume with the same ones, or choose another output."
            )
        self.learned.load_state_dict(saved["learned"])
        self.averaged.load_state_dict(saved["averaged"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.steps = saved["steps"]
        self.epochs = [self.read_epoch(row) for row in json.loads(saved["epochs"])]
