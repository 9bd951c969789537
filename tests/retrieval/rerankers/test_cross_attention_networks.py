"""A model gives the same by PyTorch and, exported, by ONNX Runtime."""

import dataclasses

import numpy as np
import pytest
import torch

from retrieval.encoders.base import Tokens
from retrieval.rerankers.cross_attention import CrossAttentionCard, load_model, save_model
from retrieval.rerankers.cross_attention_model import CrossAttentionModel
from retrieval.rerankers.cross_attention_networks import TorchNetwork, load_networks
from retrieval.rerankers.layers import CrossAttentionConfig
from retrieval.training.reranker_export import export_reranker

CONFIG = CrossAttentionConfig(24, 12, image_positions=9, width=16, heads=2, feed_forward=0)
CARD = CrossAttentionCard("frob", "frob-1", 0.1, 7)


def saved(file, config):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CrossAttentionModel(config).requires_grad_(False)
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for trust in (model.text_trust, model.image_trust):
            trust.fit(torch.randn(100, 16) + 0.5, torch.randn(50, 16) + 0.5)
    save_model(file, model, CARD)
    return file


@pytest.fixture(
    scope="module",
    params=[{}, {"image_positions": 0, "text_layers": 2, "image_layers": 0, "heads": 4}],
    ids=["as shipped", "other sizes"],
)
def both(request, tmp_path_factory):
    """One model, run by PyTorch and by ONNX Runtime."""
    folder = tmp_path_factory.mktemp("model")
    file = saved(folder / "model.safetensors", dataclasses.replace(CONFIG, **request.param))
    export_reranker(file, folder / "networks")
    return TorchNetwork(load_model(file)[0], "cpu"), load_networks(folder / "networks", "cpu", "")[
        0
    ]


@pytest.fixture(scope="module")
def embedded(both):
    """Texts and images of several lengths, embedded by both."""
    random = np.random.default_rng(0)
    text_mask = np.arange(6) < np.array([[6], [1], [4]])
    image_mask = np.arange(9) < np.array([[9], [5], [9], [1]])
    texts = Tokens(random.standard_normal((3, 6, 12)).astype(np.float32), text_mask)
    images = Tokens(random.standard_normal((4, 9, 24)).astype(np.float32), image_mask)
    return [
        (Tokens(each.embed_texts(texts), text_mask), Tokens(each.embed_images(images), image_mask))
        for each in both
    ]


def test_embeddings_are_the_same(embedded):
    for ours, theirs in zip(*embedded, strict=True):
        np.testing.assert_allclose(ours.values[ours.mask], theirs.values[ours.mask], atol=1e-4)


def test_matches_are_the_same(both, embedded):
    matches = [network.match(*tokens) for network, tokens in zip(both, embedded, strict=True)]
    assert matches[0].shape == (3, 4)
    assert matches[0].std() > 0.1
    np.testing.assert_allclose(*matches, atol=1e-4)


def test_a_match_is_that_of_its_pair_alone(both, embedded):
    texts, images = embedded[1]
    whole = both[1].match(texts, images)
    length = int(texts.mask[2].sum())
    one = Tokens(texts.values[2:3, :length], texts.mask[2:3, :length])
    alone = both[1].match(one, Tokens(images.values[1:2], images.mask[1:2]))
    np.testing.assert_allclose(alone, whole[2:3, 1:2], atol=1e-5)


def test_attributions_are_the_same(both, embedded):
    text, image = (tokens.values[0] for tokens in embedded[0])
    found = [network.attribution(text, image) for network in both]
    assert found[0].shape == (6, 9)
    assert found[0].max() > 1e-3
    np.testing.assert_allclose(*found, atol=1e-5)


def test_trust_and_centre_are_the_same(both):
    states = np.random.default_rng(1).standard_normal((200, 16)).astype(np.float32) * 1.3
    for side in ("text", "image"):
        trusts = [network.trust(side, states) for network in both]
        assert trusts[0].min() == 0
        assert trusts[0].max() == 1
        assert ((trusts[0] > 0) & (trusts[0] < 1)).any()
        np.testing.assert_allclose(*trusts, atol=1e-4)
    np.testing.assert_array_equal(both[0].image_centre, both[1].image_centre)
