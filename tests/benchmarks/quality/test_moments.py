import numpy as np
import pytest

from benchmarks.quality.moments import (
    TEMPERATURE,
    attention_pooling,
    max_pooling,
    mean_pooling,
)


def unit(values):
    vectors = np.asarray(values, np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def test_poolings_follow_their_formulas():
    random = np.random.default_rng(0)
    queries, vectors = unit(random.normal(size=(5, 8))), unit(random.normal(size=(7, 8)))
    of_video = np.array([0, 1, 0, 2, 1, 1, 0])
    found = [pool(queries, vectors, of_video) for pool in (max_pooling, attention_pooling)]
    mean = mean_pooling(queries, vectors, of_video)
    for number in range(3):
        own = vectors[of_video == number]
        for place, query in enumerate(queries):
            similarity = own @ query
            weights = np.exp(similarity / TEMPERATURE)
            attended = (weights[:, None] * own).sum(axis=0) / weights.sum()
            assert found[0][place, number] == pytest.approx(similarity.max(), abs=1e-5)
            assert found[1][place, number] == pytest.approx(unit(attended) @ query, abs=1e-4)
            assert mean[place, number] == pytest.approx(unit(own.mean(axis=0)) @ query, abs=1e-5)


def test_a_video_of_one_shot_scores_as_its_shot():
    random = np.random.default_rng(1)
    queries, vectors = unit(random.normal(size=(4, 6))), unit(random.normal(size=(3, 6)))
    for pool in (max_pooling, attention_pooling, mean_pooling):
        scores = pool(queries, vectors, np.arange(3))
        assert scores == pytest.approx(queries @ vectors.T, abs=1e-5)
