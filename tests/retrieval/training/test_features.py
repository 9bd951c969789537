from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval.encoders.starter_inputs import cut
from retrieval.encoders.towers import ImageTower, TextTower
from retrieval.errors import UsageError
from retrieval.training import features
from retrieval.training.captions import CaptionedPhoto, read_captioned_photos
from retrieval.training.features import augment, photo_features, sentence_features


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
    np.testing.assert_array_equal(resumed.map, whole.map)
    np.testing.assert_array_equal(resumed.pooled, whole.pooled)


def test_more_variants_keep_those_already_there(dataset: Path, tmp_path: Path) -> None:
    photos = read_captioned_photos(dataset, "val")
    one = np.array(photo_features(photos, variants=1, cache=tmp_path).map)
    steps: list[int] = []
    two = photo_features(
        photos, variants=2, cache=tmp_path, on_progress=lambda _, done, __: steps.append(done)
    )
    assert steps == [8]
    np.testing.assert_array_equal(two.map[0], one[0])
    assert not np.array_equal(two.map[1], two.map[0])


def test_photo_features_are_the_towers(dataset: Path, tmp_path: Path) -> None:
    photos = read_captioned_photos(dataset, "val")
    cached = photo_features(photos, variants=1, cache=tmp_path)
    with Image.open(photos[2].path) as image:
        direct = ImageTower()(augment(image.convert("RGB"), 0, [2])[None])
    np.testing.assert_allclose(cached.map[0, 2], direct.map[0], atol=0.02, rtol=2e-3)
    np.testing.assert_allclose(cached.pooled[0, 2], direct.pooled[0], atol=0.02, rtol=2e-3)


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
    tower = TextTower()
    for number, text in enumerate(texts):
        direct = tower([cut(tower.tokenize([text])[0])])
        early, pooled, mask = resumed.batch(np.array([number]))
        assert mask.all()
        np.testing.assert_allclose(early, direct.early, atol=0.01)
        np.testing.assert_allclose(pooled, direct.pooled, atol=0.01)


def test_a_batch_of_sentences_is_padded_with_zeros(tmp_path: Path) -> None:
    sentences = sentence_features(["a dog runs over the wet sand", "snow"], cache=tmp_path)
    early, _, mask = sentences.batch(np.array([1, 0]))
    assert mask.sum(1).tolist() == [3, 9]
    assert (early[0, 3:] == 0).all()
    assert (early[0, :3] != 0).any(1).all()


def test_augmentations_are_repeatable_and_differ() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 80, 3), dtype=np.uint8))
    variants = [augment(image, number, [7]) for number in range(4)]
    for number, variant in enumerate(variants):
        assert variant.shape == (260, 260, 3)
        np.testing.assert_array_equal(variant, augment(image, number, [7]))
    np.testing.assert_array_equal(variants[1], variants[0][:, ::-1])
    assert not np.array_equal(variants[2], variants[3])
    assert not np.array_equal(variants[2], augment(image, 2, [8]))


def test_a_photo_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"broken\.jpg"):
        photo_features([CaptionedPhoto(broken, ("a",))], variants=1, cache=tmp_path / "cache")
