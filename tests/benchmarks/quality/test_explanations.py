"""The deletion test: what is painted over, and what falls."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from benchmarks.quality.explanations import DeletionResult, measure_deletion, paint_over
from retrieval.errors import UsageError
from retrieval.rerankers.cross_attention import CrossAttentionReranker


def test_cells_of_the_view_are_filled_with_the_mean_colour():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    painted = np.asarray(paint_over(image, (10, 0, 50, 40), (2, 4), np.array([0, 7])))
    mean = np.round(pixels.mean((0, 1)))
    changed = np.zeros((40, 60), np.bool_)
    changed[:20, 10:20] = changed[20:, 40:50] = True
    assert (painted[changed] == mean).all()
    np.testing.assert_array_equal(painted[~changed], pixels[~changed])
    np.testing.assert_array_equal(np.asarray(image), pixels)


def test_a_difference_is_a_mean_and_wins_a_share():
    attended, random = np.array([3.0, 1.0, 1.0, 0.0]), np.array([1.0, 0.0, 1.0, 1.0])
    result = DeletionResult(0.2, attended, random, random, 0, 1)
    assert result.difference == 0.5
    assert result.wins == 0.5


@pytest.fixture(scope="module")
def reranker(tiny_fusion, tiny_encoder):
    return CrossAttentionReranker(tiny_fusion, tiny_encoder)


def test_photos_are_explained_by_their_first_caption(dataset, tiny_encoder, reranker):
    steps = []
    images = {**dataset.images, next(iter(dataset.images)): "nowhere.png"}
    damaged = replace(dataset, images=images)
    result = measure_deletion(
        damaged,
        tiny_encoder,
        reranker,
        limit=3,
        on_progress=lambda *step: steps.append(step),
    )
    assert steps == [("photos", 2, 3), ("photos", 3, 3)]
    assert result.attended.shape == result.random.shape == result.least_attended.shape == (2,)
    assert np.isfinite([result.attended, result.random, result.least_attended]).all()
    assert result.low <= result.difference <= result.high


def test_with_all_cells_deleted_there_is_nothing_to_choose(dataset, tiny_encoder, reranker):
    result = measure_deletion(dataset, tiny_encoder, reranker, limit=2, share=1.0)
    np.testing.assert_allclose(result.attended, result.random, atol=1e-5)
    np.testing.assert_allclose(result.attended, result.least_attended, atol=1e-5)


def test_a_dataset_without_captions_has_nothing_to_explain(dataset, tiny_encoder, reranker):
    with pytest.raises(UsageError, match="no readable photo"):
        measure_deletion(replace(dataset, captions=()), tiny_encoder, reranker)
