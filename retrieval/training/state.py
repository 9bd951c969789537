"""Training state and its checkpoints."""

import copy
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from retrieval.errors import UsageError
from retrieval.files import replacing

_Model = TypeVar("_Model", bound=nn.Module)
_Epoch = TypeVar("_Epoch", bound=Any)


class TrainingState(Generic[_Model, _Epoch]):
    """Trained weights, their moving average, the optimizer, and the epochs so far.

    recipe: settings and data of the run; a checkpoint of another recipe is refused. An epoch is a
    dataclass with its number, `epoch`, and whether it is the best so far, `best`.
    """

    def __init__(self, learned: _Model, optimizer: torch.optim.Optimizer, recipe: str) -> None:
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

    def average(self, decay: float) -> None:
        """Update the moving average, with a lower decay over the first steps."""
        decay = min(decay, self.steps / (self.steps + 10))
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
