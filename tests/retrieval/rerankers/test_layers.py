"""Layers that all kinds of rerankers share, and what their hyperparameters may be."""

import math

import pytest
import torch

from retrieval.errors import UsageError
from retrieval.rerankers.layers import (
    KINDS,
    Attention,
    CrossAttentionConfig,
    SelfAttentionLayer,
    attention_weights,
)


def test_attention_weights_are_a_softmax_over_what_may_be_seen():
    query, key = torch.randn(2, 3, 4), torch.randn(2, 5, 4)
    mask = torch.tensor([True, True, False, True, False])
    weights = attention_weights(query, key, mask)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3))
    assert (weights[..., ~mask] == 0).all()


@pytest.mark.parametrize(
    "setting",
    [
        {"image_width": 0},
        {"text_width": 0},
        {"image_positions": -1},
        {"width": 0},
        {"heads": 0},
        {"depth": 0},
        {"feed_forward": -1},
        {"text_layers": -1},
        {"image_layers": -1},
        {"kind": "sum"},
        {"width": 10, "heads": 4},
        {"dropout": -0.1},
        {"dropout": 1.0},
        {"dropout": math.nan},
    ],
)
def test_shapes_that_cannot_be_meant_are_refused(setting):
    with pytest.raises(UsageError, match=next(iter(setting))):
        CrossAttentionConfig(**{"image_width": 4, "text_width": 4, **setting})


def test_every_kind_is_a_shape():
    for kind in KINDS:
        assert CrossAttentionConfig(4, 4, kind=kind).kind == kind


def test_the_first_tokens_alone_come_out_as_with_all():
    torch.manual_seed(0)
    layer = SelfAttentionLayer(CrossAttentionConfig(4, 4, width=12, heads=3)).double().eval()
    x = torch.randn(2, 7, 12).double()
    mask = torch.arange(7) < torch.tensor([[7], [4]])
    torch.testing.assert_close(layer(x, mask, 3), layer(x, mask)[:, :3])


@pytest.mark.parametrize("masked", [False, True])
def test_few_queries_see_the_same_without_keys_and_values(masked: bool) -> None:
    torch.manual_seed(0)
    attention = Attention(width=12, heads=3).double()
    queries, seen = torch.randn(1, 4, 12).double(), torch.randn(5, 20, 12).double()
    mask = torch.rand(5, 20) < 0.7 if masked else None
    with_keys = attention.train()(queries, seen, mask)
    torch.testing.assert_close(attention.eval()(queries, seen, mask), with_keys)
