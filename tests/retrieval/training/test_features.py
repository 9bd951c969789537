from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from retrieval.encoders.base import Encoder, Inputs
from retrieval.encoders.e5 import E5Tower
from retrieval.encoders.starter import StarterEncoder
from retrieval.encoders.towers import ImageTower
from retrieval.errors import UsageError
from retrieval.media import Modality
from retrieval.training import features
from retrieval.training.captions import CaptionedPhoto, read_captioned_photos
from retrieval.training.features import (
    map_of,
    photo_features,
    photo_vectors,
    sentence_features,
    text_vectors,
)


@pytest.mark.slow
def test_interrupted_photo_features_go_on_where_they_stopped(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "PHOTO_BATCH", 4)
    photos = read_captioned_photos(dataset, "val")
    whole = photo_features(photos, variants=3, cache=tmp_path / "whole")

    def stop_after_two(stage: str, done: int, total: int) -> None:
        assert (stage, total) == ("image features", 12)
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        photo_features(photos, variants=3, cache=tmp_path / "cut", on_progress=stop_after_two)
    steps: list[int] = []
    resumed = photo_features(
        photos,
        variants=3,
        cache=tmp_path / "cut",
        on_progress=lambda _, done, __: steps.append(done),
    )
    assert steps == [12]
    np.testing.assert_array_equal(resumed.tokens, whole.tokens)
    np.testing.assert_array_equal(resumed.pooled, whole.pooled)


def test_more_variants_keep_those_already_there(dataset: Path, tmp_path: Path) -> None:
    photos = read_captioned_photos(dataset, "val")
    one = np.array(photo_features(photos, variants=1, cache=tmp_path).tokens)
    steps: list[int] = []
    two = photo_features(
        photos, variants=2, cache=tmp_path, on_progress=lambda _, done, __: steps.append(done)
    )
    assert steps == [8]
    np.testing.assert_array_equal(two.tokens[0], one[0])
    assert not np.array_equal(two.tokens[1], two.tokens[0])


def test_photo_features_are_those_of_the_encoder(dataset: Path, tmp_path: Path) -> None:
    photos = read_captioned_photos(dataset, "val")
    cached = photo_features(photos, variants=1, cache=tmp_path)
    encoder = StarterEncoder()
    with Image.open(photos[2].path) as image:
        pixels = encoder.preprocess(image.convert("RGB"))[None]
    tokens = encoder.image_tokens(pixels).values
    np.testing.assert_allclose(cached.tokens[0, 2], tokens[0], atol=0.02, rtol=2e-3)
    pooled = ImageTower().pool(map_of(torch.from_numpy(tokens)))
    np.testing.assert_allclose(cached.pooled[0, 2], pooled[0], atol=0.02, rtol=5e-3)


def test_another_photo_means_another_cache(dataset: Path, tmp_path: Path) -> None:
    photos = read_captioned_photos(dataset, "val")
    photo_features(photos[:2], variants=1, cache=tmp_path)
    photo_features(photos[2:], variants=1, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_interrupted_sentence_features_go_on_where_they_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "SENTENCE_BATCH", 2)
    texts = ["a dog runs over the wet sand", "snow", "two men in a boat", "a cat", "a red square"]

    def stop_at_once(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sentence_features(texts, cache=tmp_path, on_progress=stop_at_once)
    resumed = sentence_features(texts, cache=tmp_path)
    tower = E5Tower()
    for number, text in enumerate(texts):
        direct = tower(tower.tokenize([text]), ("hidden_12", "pooled"))
        last, pooled, mask = resumed.batch(np.array([number]))
        assert mask.all()
        np.testing.assert_allclose(last, direct["hidden_12"], atol=0.02)
        np.testing.assert_allclose(pooled, direct["pooled"], atol=0.02)


def test_a_batch_of_sentences_is_padded_with_zeros(tmp_path: Path) -> None:
    sentences = sentence_features(["a dog runs over the wet sand", "snow"], cache=tmp_path)
    last, _, mask = sentences.batch(np.array([1, 0]))
    short, long = mask.sum(1).tolist()
    assert short < long == last.shape[1]
    assert (last[0, short:] == 0).all()
    assert (last[0, :short] != 0).any(1).all()


@pytest.mark.parametrize("modality", [Modality.IMAGE, Modality.TEXT])
def test_vectors_are_those_of_an_encoder(
    dataset: Path, tmp_path: Path, tiny_encoder: Encoder, modality: Modality
) -> None:
    photos = read_captioned_photos(dataset, "val")
    if modality is Modality.IMAGE:
        first = photo_vectors(photos, tiny_encoder, cache=tmp_path)
        with Image.open(photos[1].path) as image:
            inputs: Inputs = tiny_encoder.preprocess(image.convert("RGB"))[None]
    else:
        texts = [photo.captions[0] for photo in photos]
        first = text_vectors(texts, tiny_encoder, cache=tmp_path)
        inputs = texts[1:2]
    assert first.shape == (len(photos), tiny_encoder.space.dimension)
    np.testing.assert_allclose(first[1:2], tiny_encoder.encode(modality, inputs), atol=2e-3)


def test_a_photo_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"broken\.jpg"):
        photo_features([CaptionedPhoto(broken, ("a",))], variants=1, cache=tmp_path / "cache")
