import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from retrieval.encoders.base import Encoder, Inputs, Pixels, Space, Tokens, Vectors
from retrieval.errors import UsageError
from retrieval.media import Modality
from retrieval.rerankers.cross_attention import CrossAttentionReranker, load_model
from retrieval.rerankers.cross_attention_model import CrossAttentionConfig, CrossAttentionModel
from retrieval.training import rerankers as training
from retrieval.training.captions import read_captioned_photos
from retrieval.training.rerankers import (
    BEST_NAME,
    RerankerEpoch,
    RerankerResult,
    RerankerTraining,
    draw_batches,
    train_reranker,
)
from retrieval.training.validation import Recalls


@pytest.fixture
def config(reranker_config: RerankerTraining) -> RerankerTraining:
    return reranker_config


def same_files(one: Path, other: Path) -> bool:
    left, right = load_file(one), load_file(other)
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def without_time(epochs: Sequence[RerankerEpoch]) -> list[RerankerEpoch]:
    return [dataclasses.replace(epoch, seconds=0) for epoch in epochs]


def stop_after(epoch: int) -> Callable[[RerankerEpoch], None]:
    def stop(done: RerankerEpoch) -> None:
        if done.epoch == epoch:
            raise KeyboardInterrupt

    return stop


def test_epochs_lower_the_loss_and_make_a_usable_model(
    config: RerankerTraining, tiny_encoder: Encoder
) -> None:
    state = torch.random.get_rng_state()
    seen: list[RerankerEpoch] = []
    config = dataclasses.replace(config, epochs=8, patience=8, learning_rate=3e-3)
    result = train_reranker(config, tiny_encoder, on_epoch=seen.append)
    assert torch.equal(state, torch.random.get_rng_state())
    assert result.epochs == tuple(seen)
    assert [epoch.epoch for epoch in seen] == list(range(1, 9))
    assert seen[-1].loss < seen[0].loss
    assert not result.stopped_early
    assert {epoch.alone for epoch in seen} == {seen[0].alone}
    reranker = CrossAttentionReranker(result.model, tiny_encoder)
    assert reranker.match_weight == result.match_weight
    assert reranker.depth == config.rerank_depth
    pixels = np.zeros((2, *tiny_encoder.preprocess(Image.new("RGB", (9, 9))).shape), np.float32)
    scores = reranker.match(reranker.text_tokens(["a red square"]), reranker.image_tokens(pixels))
    assert scores.shape == (1, 2)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("kind", ["concat", "gated", "bilinear"])
def test_the_other_kinds_are_trained_as_well(
    kind: str, config: RerankerTraining, tiny_encoder: Encoder
) -> None:
    settings = {"kind": kind, "epochs": 1, "contrastive_weight": 0.5, "depth": 2}
    result = train_reranker(dataclasses.replace(config, **settings), tiny_encoder)
    assert load_model(result.model)[0].config.kind == kind
    assert math.isfinite(result.epochs[0].loss)


def test_the_same_seed_gives_the_same_model(
    config: RerankerTraining, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    results = []
    for number, seed in enumerate((5, 5, 6)):
        torch.manual_seed(number)
        output = tmp_path / str(number)
        results.append(
            train_reranker(dataclasses.replace(config, output=output, seed=seed), tiny_encoder)
        )
    one, same, other = results
    assert without_time(one.epochs) == without_time(same.epochs)
    assert same_files(one.model, same.model)
    assert not same_files(one.model, other.model)


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    epoch: int, config: RerankerTraining, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    config = dataclasses.replace(config, depth=2, feed_forward=1)
    whole = train_reranker(config, tiny_encoder)
    cut = dataclasses.replace(config, output=tmp_path / "cut", resume=True)
    with pytest.raises(KeyboardInterrupt):
        train_reranker(cut, tiny_encoder, on_epoch=stop_after(epoch))
    rest: list[RerankerEpoch] = []
    resumed = train_reranker(cut, tiny_encoder, on_epoch=rest.append)
    assert [each.epoch for each in rest] == list(range(epoch + 1, 4))
    assert without_time(whole.epochs) == without_time(resumed.epochs)
    assert (whole.match_weight, whole.recalls) == (resumed.match_weight, resumed.recalls)
    assert same_files(whole.model, resumed.model)


def test_a_run_cut_within_an_epoch_ends_the_same(
    config: RerankerTraining, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    whole = train_reranker(config, tiny_encoder)

    def stop(stage: str, done: int, _: int) -> None:
        if (stage, done) == ("epoch 2", 2):
            raise KeyboardInterrupt

    cut = dataclasses.replace(config, output=tmp_path / "cut", resume=True)
    with pytest.raises(KeyboardInterrupt):
        train_reranker(cut, tiny_encoder, on_progress=stop)
    assert same_files(whole.model, train_reranker(cut, tiny_encoder).model)


def test_a_finished_run_resumed_stays_as_it_is(
    config: RerankerTraining, tiny_encoder: Encoder
) -> None:
    first = train_reranker(config, tiny_encoder)
    weights, (_, card, digest) = load_file(first.model), load_model(first.model)
    again = train_reranker(dataclasses.replace(config, resume=True), tiny_encoder)
    assert again == first
    assert load_model(again.model)[1:] == (card, digest)
    assert all(torch.equal(value, weights[k]) for k, value in load_file(again.model).items())


@pytest.mark.parametrize("setting", [{"seed": 1}, {"epochs": 5}, {"width": 32}, {"patience": 9}])
def test_a_run_is_not_resumed_with_other_settings(
    setting: dict[str, int], config: RerankerTraining, tiny_encoder: Encoder
) -> None:
    train_reranker(dataclasses.replace(config, epochs=1), tiny_encoder)
    changed = dataclasses.replace(config, **{"epochs": 1, **setting}, resume=True)
    with pytest.raises(UsageError, match="other settings"):
        train_reranker(changed, tiny_encoder)


def test_a_run_goes_on_from_an_earlier_model(
    config: RerankerTraining, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    first = train_reranker(dataclasses.replace(config, epochs=1), tiny_encoder)
    still = dataclasses.replace(
        config, start=first.model, output=tmp_path / "again", epochs=1, learning_rate=1e-30
    )
    again = train_reranker(still, tiny_encoder)
    weights, same = (load_model(result.model)[0].parameters() for result in (first, again))
    assert all(torch.equal(one, other) for one, other in zip(weights, same, strict=True))
    # The trust of the earlier model stands for the data of that one, and is not taken over.
    far = torch.full((1, config.width), 1e4)
    assert load_model(first.model)[0].text_trust(far) == 0
    assert load_model(still.output / BEST_NAME)[0].text_trust(far) == 1
    with pytest.raises(UsageError, match="other settings or data"):
        train_reranker(dataclasses.replace(still, start=None, resume=True), tiny_encoder)


def test_a_model_of_another_shape_is_no_start(
    config: RerankerTraining, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    first = train_reranker(dataclasses.replace(config, epochs=1), tiny_encoder)
    wider = dataclasses.replace(
        config, start=first.model, output=tmp_path / "wider", width=2 * config.width
    )
    with pytest.raises(UsageError, match="another shape"):
        train_reranker(wider, tiny_encoder)


def test_training_stops_when_validation_no_longer_improves(
    config: RerankerTraining, tiny_encoder: Encoder
) -> None:
    still = dataclasses.replace(config, epochs=9, patience=2, learning_rate=1e-30)
    result = train_reranker(still, tiny_encoder)
    assert result.stopped_early
    assert [epoch.best for epoch in result.epochs] == [True, False, False]


@pytest.mark.parametrize("mean_recall", [0.6, 0.8])
def test_the_best_epoch_or_its_mean_with_the_last_is_kept(
    config: RerankerTraining,
    tiny_encoder: Encoder,
    monkeypatch: pytest.MonkeyPatch,
    mean_recall: float,
) -> None:
    # four epochs; then the best one, its mean with the last one, and what is kept of the two
    means = iter([0.5, 0.7, 0.6, 0.7, 0.7, mean_recall, 0.7])
    measured: list[tuple[object, float]] = []

    def scripted(trials: object, _: float) -> Recalls:
        if not measured or measured[-1][0] is not trials:
            measured.append((trials, next(means)))
        mean = measured[-1][1]
        return Recalls((mean, mean, mean), (mean, mean, mean))

    kept: list[dict[str, torch.Tensor]] = []
    monkeypatch.setattr(training, "_recalls", scripted)
    path = config.output / training.BEST_NAME
    result = train_reranker(
        dataclasses.replace(config, epochs=4),
        tiny_encoder,
        on_epoch=lambda _: kept.append(load_file(path)),
    )
    assert [epoch.best for epoch in result.epochs] == [True, True, False, False]
    name = "fusion.word.weight"
    assert not torch.equal(kept[0][name], kept[1][name])
    for later in (kept[2], kept[3], load_file(path)):
        assert torch.equal(later[name], kept[1][name])
    assert result.averaged == (mean_recall > 0.7)
    assert torch.equal(load_file(result.model)[name], kept[1][name]) != result.averaged


@pytest.mark.parametrize(("batch_size", "group_size"), [(2, 1), (6, 3), (7, 40), (12, 4), (50, 5)])
def test_batches_have_distinct_photos_in_groups(
    batch_size: int, group_size: int, config: RerankerTraining
) -> None:
    config = dataclasses.replace(config, batch_size=batch_size, group_size=group_size)
    near = np.array([[p for p in range(12) if p != photo][:4] for photo in range(12)])
    drawn = list(draw_batches(near, 30, config, np.random.default_rng(0)))
    again = list(draw_batches(near, 30, config, np.random.default_rng(0)))
    assert len(drawn) == 30
    for batch, same in zip(drawn, again, strict=True):
        assert batch.tolist() == same.tolist()
        assert len(set(batch.tolist())) == len(batch) == min(batch_size, 12)
        head = batch[1 : min(group_size, 5, len(batch))]
        assert set(head.tolist()) <= set(near[batch[0]].tolist())
    assert {photo for batch in drawn for photo in batch.tolist()} == set(range(12))


def test_each_photo_of_a_batch_meets_one_of_its_own_captions(
    config: RerankerTraining, tiny_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners: list[list[int]] = []
    shown: set[int] = set()
    batch = training.CaptionTokens.batch
    photos = read_captioned_photos(config.dataset, "train")
    first = np.cumsum([0, *(len(photo.captions) for photo in photos)])

    def spy(self: training.CaptionTokens, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        if len(self.lengths) == first[-1] and len(rows) == config.batch_size:
            owners.append(np.searchsorted(first, rows, side="right").tolist())
            shown.update(rows.tolist())
        return batch(self, rows)

    monkeypatch.setattr(training.CaptionTokens, "batch", spy)
    train_reranker(dataclasses.replace(config, epochs=9, patience=9), tiny_encoder)
    assert len(owners) == 9 * (24 // 6)
    assert all(len(set(row)) == 6 for row in owners)
    assert shown == set(range(24))


@pytest.mark.parametrize("setting", [{"group_size": 0}, {"neighbours": 0}, {"rerank_depth": 0}])
def test_settings_that_cannot_be_meant_are_errors(
    setting: dict[str, int], config: RerankerTraining
) -> None:
    with pytest.raises(UsageError, match=next(iter(setting))):
        dataclasses.replace(config, **setting)


COLOURS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
}


class MosaicEncoder:
    """Sees six tiles and reads six words, and has no idea what they say together.

    Every mosaic has the same six colours and every caption the same six words, in an order of
    its own: the mean of the tokens, and with it the vector, is the same for all of them.
    """

    space = Space("mosaic", "none", "none", 3)
    modalities = frozenset({Modality.IMAGE, Modality.TEXT})
    context_length = 6
    input_side = 2

    def preprocess(self, image: Image.Image) -> Pixels:
        return np.asarray(image, np.float32).reshape(6, 3) / 255

    def encode(self, modality: Modality, inputs: Inputs) -> Vectors:
        if modality is Modality.TEXT:
            return np.full((len(inputs), 3), 3**-0.5, np.float32)
        means = np.asarray(inputs).mean(1)
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)

    def image_tokens(self, pixels: Pixels) -> Tokens:
        return Tokens(pixels, np.ones(pixels.shape[:2], np.bool_))

    def text_tokens(self, texts: Sequence[str]) -> Tokens:
        values = np.zeros((len(texts), 6, 12), np.float32)
        for row, text in enumerate(texts):
            for place, word in enumerate(text.split()):
                values[row, place, [place, 6 + list(COLOURS).index(word)]] = 1
        return Tokens(values, np.ones(values.shape[:2], np.bool_))

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        raise NotImplementedError

    def view(self, width: int, height: int) -> tuple[float, float, float, float]:
        return 0.0, 0.0, float(width), float(height)

    def token_count(self, text: str) -> int:
        return len(text.split())


@pytest.fixture(scope="module")
def mosaics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 mosaics to learn from and 40 others, each with the colours of its tiles in order."""
    folder = tmp_path_factory.mktemp("mosaics")
    (folder / "images").mkdir()
    random = np.random.default_rng(0)
    orders: dict[tuple[int, ...], None] = {}
    while len(orders) < 200:
        orders.setdefault(tuple(random.permutation(6).tolist()))
    lines = []
    for number, order in enumerate(orders):
        names = [list(COLOURS)[colour] for colour in order]
        pixels = np.array([COLOURS[name] for name in names], np.uint8).reshape(2, 3, 3)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        split = "train" if number < 160 else "val"
        lines.append(
            json.dumps({"image": f"{number}.png", "split": split, "en": [" ".join(names)]})
        )
    (folder / "captions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def recall_at_1(model: CrossAttentionModel, mosaics: Path) -> float:
    """Of the captions of unseen mosaics among all of these."""
    encoder = MosaicEncoder()
    photos = read_captioned_photos(mosaics, "val")
    pixels = np.stack([encoder.preprocess(Image.open(photo.path)) for photo in photos])
    texts = encoder.text_tokens([photo.captions[0] for photo in photos])
    with torch.inference_mode():
        logits = model(
            torch.from_numpy(texts.values), torch.from_numpy(texts.mask), torch.from_numpy(pixels)
        )
    return float((logits.argmax(0) == torch.arange(len(photos))).float().mean())


@pytest.mark.slow
def test_it_learns_what_no_mean_of_tokens_can_tell(mosaics: Path, tmp_path: Path) -> None:
    config = RerankerTraining(
        dataset=mosaics,
        output=tmp_path / "run",
        cache=tmp_path / "cache",
        width=32,
        heads=2,
        dropout=0.0,
        word_dropout=0.0,
        position_dropout=0.0,
        epochs=25,
        patience=25,
        batch_size=20,
        group_size=1,
        variants=1,
        learning_rate=1e-2,
        averaging=0.9,
    )
    result: RerankerResult = train_reranker(config, MosaicEncoder())
    trained, _, _ = load_model(result.model)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        untrained = CrossAttentionModel(
            CrossAttentionConfig(**dataclasses.asdict(trained.config))
        ).eval()
    assert result.alone.text_to_image[0] == 0
    assert recall_at_1(untrained, mosaics) < 0.2
    assert recall_at_1(trained, mosaics) > 0.6
    assert result.recalls.text_to_image[0] > 0.6
    assert result.recalls.image_to_text[0] > 0.6
    assert result.match_weight > 0
