"""The loop of all training runs, over a model of one number, and what real runs share."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from retrieval.encoders.base import Encoder
from retrieval.errors import NotFoundError, UsageError
from retrieval.training.heads import train_heads
from retrieval.training.rerankers import train_reranker
from retrieval.training.state import CHECKPOINT_NAME, TrainingConfig, TrainingState, training_run
from retrieval.training.validation import Recalls


@dataclass(frozen=True, kw_only=True)
class Config(TrainingConfig):
    warm_up_steps = 2
    most_gradient = 1.0
    local_names = frozenset({"also"})
    also: str = ""


@dataclass(frozen=True)
class Epoch:
    epoch: int
    recalls: Recalls
    best: bool
    value: float
    seconds: float = 0.0


class State(TrainingState[nn.Linear, Epoch]):
    def read_epoch(self, row: dict[str, Any]) -> Epoch:
        return Epoch(**{**row, "recalls": Recalls.from_json(row["recalls"])})


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "run").mkdir()
    return Config(
        dataset=tmp_path,
        output=tmp_path / "run",
        cache=tmp_path,
        epochs=4,
        batch_size=2,
        learning_rate=0.1,
        variants=1,
        averaging=0.5,
    )


def new_state(config: Config, recipe: str = "recipe") -> State:
    learned = nn.Linear(1, 1, bias=False)
    nn.init.ones_(learned.weight)
    return State(config, learned, torch.optim.AdamW(learned.parameters()), recipe)


def run(
    config: Config,
    scores: Callable[[int], float] = float,
    on_epoch: Callable[[Epoch], None] = lambda _: None,
) -> tuple[State, list[int]]:
    """Train with noise as data; give the state and the epochs that were saved as the best."""
    state, saved = new_state(config), []

    def run_epoch() -> Epoch:
        for _ in range(3):
            state.step((state.learned(torch.randn(5, 1)) ** 2).mean(), steps_an_epoch=3)
        number = len(state.epochs) + 1
        recalls = Recalls((scores(number),) * 3, (scores(number),) * 3)
        value = state.learned.weight.item()
        return Epoch(number, recalls, state.is_best(recalls), value)

    state.run(run_epoch, lambda epoch: saved.append(epoch.epoch), on_epoch)
    return state, saved


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(config: Config, tmp_path: Path) -> None:
    whole, _ = run(config)

    def stop(epoch: Epoch) -> None:
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    (tmp_path / "cut").mkdir()
    cut = replace(config, output=tmp_path / "cut", resume=True)
    with pytest.raises(KeyboardInterrupt):
        run(cut, on_epoch=stop)
    resumed, _ = run(cut)
    assert [e.value for e in resumed.epochs] == [e.value for e in whole.epochs]
    assert torch.equal(resumed.averaged.weight, whole.averaged.weight)
    assert resumed.steps == whole.steps == 12


def test_training_stops_after_as_many_worse_epochs_as_patience(config: Config) -> None:
    scores = {1: 0.5, 2: 0.6, 3: 0.6, 4: 0.4, 5: 0.9}
    state, saved = run(replace(config, epochs=5, patience=2), scores.__getitem__)
    assert len(state.epochs) == 4
    assert saved == [1, 2]
    assert state.stale == 2


def test_the_rate_rises_to_its_peak_and_falls_to_zero(config: Config) -> None:
    state = new_state(config)
    state.optimizer.add_param_group({"params": [nn.Parameter(torch.ones(1))], "rate": 0.5})
    rates = []
    for _ in range(40):
        state.step(state.learned.weight.sum(), steps_an_epoch=10)
        first, second = (group["lr"] for group in state.optimizer.param_groups)
        assert second == pytest.approx(first / 2)
        rates.append(first)
    half_cosine = [0.05 * (1 + math.cos(math.pi * step / 40)) for step in range(1, 41)]
    assert rates[0] == pytest.approx(half_cosine[0] / 2)
    assert rates[1:] == pytest.approx(half_cosine[1:])


def test_a_checkpoint_of_other_settings_is_refused(config: Config) -> None:
    new_state(config).save(config.output / CHECKPOINT_NAME)
    with pytest.raises(UsageError, match="other settings or data"):
        new_state(config, "another").load(config.output / CHECKPOINT_NAME)


def test_the_recipe_leaves_out_where_a_run_takes_place(config: Config, tmp_path: Path) -> None:
    elsewhere = replace(config, output=tmp_path, cache=tmp_path / "c", device="cuda", also="x")
    assert elsewhere.recipe() == config.recipe()
    assert replace(config, seed=1).recipe() != config.recipe()


def test_an_output_with_a_run_is_not_overwritten(config: Config) -> None:
    state = torch.random.get_rng_state()
    with training_run(config):
        torch.rand(3)
    assert torch.equal(torch.random.get_rng_state(), state)
    (config.output / CHECKPOINT_NAME).touch()
    with pytest.raises(UsageError, match="holds a training run"), training_run(config):
        pass
    with training_run(replace(config, resume=True)):
        pass


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"batch_size": 1}, {"patience": 0}, {"languages": ()}]
)
def test_settings_that_cannot_be_meant_are_errors(config: Config, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        replace(config, **wrong)


Training = tuple[TrainingConfig, Callable[[Any], object]]


@pytest.fixture(params=["heads", "reranker"])
def training(request: pytest.FixtureRequest, tiny_encoder: Encoder) -> Training:
    """The settings of a run, and what runs it."""
    config = request.getfixturevalue(f"{request.param}_config")
    if request.param == "heads":
        return config, train_heads
    return config, partial(train_reranker, encoder=tiny_encoder)


@pytest.mark.slow
def test_a_whole_run_is_not_overwritten(training: Training) -> None:
    config, train = training
    train(replace(config, epochs=1))
    before = (config.output / CHECKPOINT_NAME).read_bytes()
    with pytest.raises(UsageError, match="holds a training run"):
        train(config)
    assert (config.output / CHECKPOINT_NAME).read_bytes() == before


def test_a_missing_dataset_is_an_error(training: Training, tmp_path: Path) -> None:
    config, train = training
    with pytest.raises(NotFoundError, match=r"captions\.jsonl"):
        train(replace(config, dataset=tmp_path / "nowhere"))


@pytest.mark.parametrize(
    "setting",
    [
        {"epochs": 0},
        {"batch_size": 1},
        {"batch_size": 0},
        {"patience": 0},
        {"variants": 0},
        {"languages": ()},
    ],
)
def test_settings_of_real_runs_that_cannot_be_meant_are_errors(
    setting: dict[str, Any], training: Training
) -> None:
    with pytest.raises(UsageError, match=next(iter(setting))):
        replace(training[0], **setting)


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": {}},
        {"optimizer": [1]},
        {"steps": "many"},
        {"epochs": "[1]"},
        {"epochs": "{"},
        {"learned": {"weight": torch.zeros(9)}},
        {"recipe": None},
    ],
    ids=repr,
)
def test_a_checkpoint_of_a_stranger_is_refused(change: dict[str, Any], config: Config) -> None:
    state = new_state(config, "{}")
    path = config.output / CHECKPOINT_NAME
    state.save(path)
    torch.save(torch.load(path, weights_only=True) | change, path)
    with pytest.raises(UsageError, match=r"no checkpoint|other settings"):
        state.load(path)


def test_gradients_that_are_no_numbers_leave_the_weights(config: Config) -> None:
    state = new_state(config)
    before = state.learned.weight.detach().clone()
    state.learned.weight.grad = torch.full((1, 1), math.nan)
    with pytest.raises(UsageError, match="lower learning rate"):
        state.update(10)
    assert torch.equal(state.learned.weight, before)
