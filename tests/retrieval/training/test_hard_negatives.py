from collections.abc import Sequence

import numpy as np
import pytest

from retrieval.indices import choice
from retrieval.training.hard_negatives import hard_negatives


def vectors(*rows: Sequence[float]) -> np.ndarray:
    array = np.array(rows, np.float32)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


@pytest.mark.parametrize("neighbours", [1, 3, 5, 100])
def test_hard_negatives_are_near_and_never_the_photo_itself(
    neighbours: int,
) -> None:
    random = np.random.default_rng(0)
    photos = vectors(*random.normal(size=(6, 8)))
    photos[4] = vectors(photos[1] + 0.02 * random.normal(size=8).astype(np.float32))[0]
    counts = [1, 3, 2, 5, 2, 1]
    first = np.cumsum([0, *counts])
    owners = np.repeat(np.arange(6), counts)
    captions = vectors(*(photos[owners] + 0.1 * random.normal(size=(14, 8)).astype(np.float32)))
    near = hard_negatives(photos, captions, first, neighbours=neighbours)
    assert near.shape == (6, min(neighbours, 5))
    for photo, row in enumerate(near):
        assert photo not in row
        assert len(set(row.tolist())) == len(row)
    assert near[1, 0] == 4
    assert near[4, 0] == 1
    if neighbours >= 5:
        means = np.stack([captions[owners == photo].mean(0) for photo in range(6)])
        alike = means / np.linalg.norm(means, axis=1, keepdims=True)
        affinity = means @ photos.T + photos @ means.T + photos @ photos.T + alike @ alike.T
        for photo, row in enumerate(near):
            expected = sorted({*range(6)} - {photo}, key=lambda other: -affinity[photo, other])
            assert row.tolist() == expected


@pytest.mark.slow
def test_an_index_of_many_photos_finds_most_of_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    random = np.random.default_rng(0)
    centres = random.normal(size=(40, 16))
    photos = vectors(*(centres[np.arange(2000) % 40] + 0.5 * random.normal(size=(2000, 16))))
    captions = vectors(*(photos + 0.2 * random.normal(size=(2000, 16)).astype(np.float32)))
    first = np.arange(2001)
    exact = hard_negatives(photos, captions, first, neighbours=10)
    monkeypatch.setattr(choice, "EXACT_UP_TO_ROWS", 1000)
    found = hard_negatives(photos, captions, first, neighbours=10)
    assert not (found == np.arange(2000)[:, None]).any()
    shared = [len({*a.tolist()} & {*b.tolist()}) for a, b in zip(exact, found, strict=True)]
    assert np.mean(shared) >= 9


def test_a_single_photo_has_no_negatives() -> None:
    one = vectors([1.0, 2.0])
    assert hard_negatives(one, one, np.array([0, 1]), neighbours=3).shape == (1, 0)
