"""The single stream; its formula and properties are tested with those of all kinds."""

import math

import numpy as np
import pytest
import torch

from retrieval.rerankers import single_stream
from retrieval.rerankers.cross_attention_model import CrossAttentionModel
from retrieval.rerankers.layers import CrossAttentionConfig
from retrieval.rerankers.single_stream import sinusoids


@pytest.fixture
def model():
    config = CrossAttentionConfig(6, 5, kind="single-stream", width=8, heads=2, depth=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CrossAttentionModel(config).double().eval().requires_grad_(False)


def test_the_order_of_words_counts(model):
    model.scorer.position_scale.fill_(1.0)
    texts, images = torch.randn(1, 4, 8).double(), torch.randn(3, 5, 8).double()
    mask = torch.ones(1, 4, dtype=torch.bool)
    turned = model.match(texts.flip(1), mask, images)
    assert (model.match(texts, mask, images) - turned).abs().max() > 1e-4


def test_pairs_are_scored_in_parts_that_change_nothing(model, monkeypatch):
    texts, images = torch.randn(7, 4, 8).double(), torch.randn(5, 6, 8).double()
    mask = torch.arange(4) < torch.tensor([1, 2, 3, 4, 4, 2, 1])[:, None]
    whole = model.match(texts, mask, images)
    for pairs in (1, 5, 12):
        monkeypatch.setattr(single_stream, "_PAIRS_AT_ONCE", pairs)
        np.testing.assert_allclose(model.match(texts, mask, images), whole, atol=1e-12)


def test_positions_are_sinusoids_of_all_rates():
    for width in (4, 7):
        waves = sinusoids(torch.zeros(2, 3, width).double())
        assert waves.shape == (3, width)
        for place in range(3):
            for channel in range(width):
                angle = place / 10_000 ** ((channel - channel % 2) / width)
                expected = math.cos(angle) if channel % 2 else math.sin(angle)
                assert waves[place, channel].item() == pytest.approx(expected)
