import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from retrieval.encoders.starter_first import FirstStarterEncoder
from retrieval.encoders.weight_files import heads_digest
from retrieval.errors import UsageError
from retrieval.media import Modality
from retrieval.training import heads as training
from retrieval.training.heads import EpochResult, HeadsTraining, train_heads
from retrieval.training.validation import Recalls


@pytest.fixture
def config(heads_config: HeadsTraining) -> HeadsTraining:
    return heads_config


@pytest.mark.slow
def test_two_epochs_lower_the_loss_and_make_usable_heads(config: HeadsTraining) -> None:
    state = torch.random.get_rng_state()
    seen: list[EpochResult] = []
    result = train_heads(config, on_epoch=seen.append)
    assert result.epochs == tuple(seen)
    assert [epoch.epoch for epoch in seen] == [1, 2]
    assert seen[1].loss < seen[0].loss
    assert not result.stopped_early
    assert torch.equal(state, torch.random.get_rng_state())
    encoder = FirstStarterEncoder(heads=result.heads)
    assert encoder.space != FirstStarterEncoder().space
    vectors = encoder.encode(Modality.TEXT, ["a red square", "a green stripe"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.slow
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    config: HeadsTraining, tmp_path: Path
) -> None:
    whole = train_heads(config)

    def stop(_: EpochResult) -> None:
        raise KeyboardInterrupt

    cut = dataclasses.replace(config, output=tmp_path / "cut", resume=True)
    with pytest.raises(KeyboardInterrupt):
        train_heads(cut, on_epoch=stop)
    resumed = train_heads(cut)
    for one, other in zip(whole.epochs, resumed.epochs, strict=True):
        assert dataclasses.replace(one, seconds=0) == dataclasses.replace(other, seconds=0)
    assert heads_digest(whole.heads) == heads_digest(resumed.heads)


@pytest.mark.slow
def test_training_stops_when_validation_no_longer_improves(
    config: HeadsTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.5, 0.6, 0.6, 0.4, 0.9])

    def scripted(*_: object) -> Recalls:
        score = next(scores)
        return Recalls((score, score, score), (score, score, score))

    monkeypatch.setattr(training, "_measure", scripted)
    result = train_heads(dataclasses.replace(config, epochs=5, patience=2))
    assert result.stopped_early
    assert [epoch.best for epoch in result.epochs] == [True, True, False, False]
    assert result.best.epoch == 2


@pytest.mark.slow
def test_class_photos_are_learned_beside_the_captions(
    config: HeadsTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All sentences of all classes take a minute to encode: two a class are enough here.
    short = [texts[:2] for texts in training.class_sentences()]
    monkeypatch.setattr(training, "class_sentences", lambda: short)
    result = train_heads(dataclasses.replace(config, class_photos=32, also_measure=config.dataset))
    last = result.epochs[-1]
    assert 0 < last.class_loss < math.log(32)
    assert last.also == last.recalls


@pytest.mark.slow
def test_a_run_is_not_resumed_with_other_settings(config: HeadsTraining) -> None:
    train_heads(dataclasses.replace(config, epochs=1))
    with pytest.raises(UsageError, match="other settings"):
        train_heads(dataclasses.replace(config, seed=1, resume=True))
