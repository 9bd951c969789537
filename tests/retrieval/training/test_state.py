"""What the trainings of heads and of rerankers have in common."""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from retrieval.encoders.base import Encoder
from retrieval.errors import NotFoundError, UsageError
from retrieval.training.heads import train_heads
from retrieval.training.rerankers import train_reranker
from retrieval.training.state import CHECKPOINT_NAME, TrainingConfig

Training = tuple[TrainingConfig, Callable[[Any], object]]


@pytest.fixture(params=["heads", "reranker"])
def training(request: pytest.FixtureRequest, tiny_encoder: Encoder) -> Training:
    """The settings of a run, and what runs it."""
    config = request.getfixturevalue(f"{request.param}_config")
    if request.param == "heads":
        return config, train_heads
    return config, partial(train_reranker, encoder=tiny_encoder)


@pytest.mark.slow
def test_an_output_with_a_run_is_not_overwritten(training: Training) -> None:
    config, train = training
    train(dataclasses.replace(config, epochs=1))
    before = (config.output / CHECKPOINT_NAME).read_bytes()
    with pytest.raises(UsageError, match="holds a training run"):
        train(config)
    assert (config.output / CHECKPOINT_NAME).read_bytes() == before


def test_a_missing_dataset_is_an_error(training: Training, tmp_path: Path) -> None:
    config, train = training
    with pytest.raises(NotFoundError, match=r"captions\.jsonl"):
        train(dataclasses.replace(config, dataset=tmp_path / "nowhere"))


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
def test_settings_that_cannot_be_meant_are_errors(
    setting: dict[str, Any], training: Training
) -> None:
    with pytest.raises(UsageError, match=next(iter(setting))):
        dataclasses.replace(training[0], **setting)
