import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from retrieval.encoders.heads import LOG_SCALE, ImageHead, TextHead, load_heads, save_heads
from retrieval.encoders.starter_inputs import TOKEN_CHANNELS
from retrieval.encoders.weight_files import heads_digest
from retrieval.errors import UsageError
from retrieval.training import head_data
from retrieval.training import heads as training
from retrieval.training.head_data import HeadsTraining
from retrieval.training.heads import EpochResult, average_heads, train_heads
from retrieval.training.validation import Recalls


@pytest.fixture
def config(heads_config: HeadsTraining) -> HeadsTraining:
    return heads_config


@pytest.mark.slow
def test_two_epochs_lower_the_loss_and_make_heads_to_go_on_from(
    config: HeadsTraining, tmp_path: Path
) -> None:
    state = torch.random.get_rng_state()
    seen: list[EpochResult] = []
    result = train_heads(config, on_epoch=seen.append)
    assert result.epochs == tuple(seen)
    assert [epoch.epoch for epoch in seen] == [1, 2]
    assert seen[1].loss < seen[0].loss
    assert not result.stopped_early
    assert torch.equal(state, torch.random.get_rng_state())
    image, text = load_heads(result.heads)
    assert image.map_pooling.score.in_features == TOKEN_CHANNELS
    assert len(text.layers) == 1
    assert config.start is not None
    before = load_heads(config.start)[1]
    assert torch.equal(text.layers[0].qkv.weight, before.layers[0].qkv.weight)
    assert not torch.equal(text.tokens_out.weight, before.tokens_out.weight)
    again = dataclasses.replace(config, start=result.heads, output=tmp_path / "again", epochs=1)
    assert train_heads(again).epochs[0].loss < seen[0].loss


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

    def scripted(*_: object) -> dict[str, Recalls]:
        score = next(scores)
        return {"en": Recalls((score, score, score), (score, score, score))}

    monkeypatch.setattr(training, "_measure", scripted)
    result = train_heads(dataclasses.replace(config, epochs=5, patience=2))
    assert result.stopped_early
    assert [epoch.best for epoch in result.epochs] == [True, True, False, False]
    assert result.best.epoch == 2


@pytest.mark.slow
def test_all_losses_are_learned_from_beside_the_captions(
    config: HeadsTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("stopwordsiso", reason="words of captions need the extra bench")
    # The names of all classes take a while to encode: distinct numbers are enough here.
    monkeypatch.setattr(head_data, "class_names", lambda: [(str(n),) for n in range(1000)])
    monkeypatch.setattr(head_data, "class_sentences", lambda: [[str(n)] for n in range(1000)])
    rows = map(json.loads, (config.dataset / "captions.jsonl").read_text().splitlines())
    german = [{"image": row["image"], "de": row["en"][:1]} for row in rows]
    (tmp_path / "de.jsonl").write_text("\n".join(map(json.dumps, german)))
    pairs = [json.dumps({"en": f"{n} dogs", "de": f"{n} Hunde"}) for n in range(9)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(pairs))
    more = dataclasses.replace(
        config,
        start=None,
        languages=("en", "de"),
        captions=(tmp_path / "de.jsonl",),
        parallel=(tmp_path / "pairs.jsonl",),
        teacher="starter:1",
        words=2,
        class_photos=32,
        also_measure=config.dataset,
        epochs=1,
    )
    [epoch] = train_heads(more).epochs
    names = {"captions", "other languages", "teacher", "words", "parallel", "classes"}
    assert set(epoch.losses) == names
    assert all(0 < each < math.inf for each in epoch.losses.values())
    assert set(epoch.languages) == {"en", "de"}
    assert epoch.also == epoch.languages["en"]


@pytest.mark.slow
def test_a_run_is_not_resumed_with_other_settings_or_another_start(
    config: HeadsTraining, tmp_path: Path
) -> None:
    train_heads(dataclasses.replace(config, epochs=1))
    with pytest.raises(UsageError, match="other settings"):
        train_heads(dataclasses.replace(config, seed=1, epochs=1, resume=True))
    other = tmp_path / "other.safetensors"
    save_heads(other, ImageHead(TOKEN_CHANNELS), TextHead(1))
    with pytest.raises(UsageError, match="other settings"):
        train_heads(dataclasses.replace(config, start=other, epochs=1, resume=True))


def test_heads_of_the_first_edition_are_no_start(config: HeadsTraining, tmp_path: Path) -> None:
    first = tmp_path / "first.safetensors"
    save_heads(first, ImageHead(), TextHead())
    load_heads(first)
    with pytest.raises(UsageError, match="first edition"):
        train_heads(dataclasses.replace(config, start=first))


def test_heads_are_averaged_by_their_weights(tmp_path: Path) -> None:
    files = [tmp_path / name for name in "ab"]
    for file, scale in zip(files, (2.0, 4.0), strict=True):
        save_heads(file, ImageHead(8), TextHead(), torch.tensor(scale))
    average_heads(files, [1, 3], tmp_path / "new" / "mean")
    a, b, mean = map(load_file, [*files, tmp_path / "new" / "mean"])
    assert mean.keys() == a.keys()
    assert mean[LOG_SCALE].item() == pytest.approx(3.5)
    for name, value in mean.items():
        expected = (a[name].float() + 3 * b[name].float()) / 4
        np.testing.assert_allclose(value.float(), expected, atol=2e-3)
    load_heads(tmp_path / "new" / "mean")


@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0], [2.0, -1.0], [math.nan, 1.0]])
def test_weights_that_are_no_shares_are_errors(tmp_path: Path, weights: list[float]) -> None:
    with pytest.raises(UsageError, match="weights"):
        average_heads([tmp_path / "a", tmp_path / "b"], weights, tmp_path / "mean")


def test_heads_of_two_architectures_are_not_averaged(tmp_path: Path) -> None:
    save_heads(tmp_path / "a", ImageHead(8), TextHead())
    save_heads(tmp_path / "b", ImageHead(9), TextHead())
    with pytest.raises(UsageError, match="architecture"):
        average_heads([tmp_path / "a", tmp_path / "b"], [1, 1], tmp_path / "mean")
