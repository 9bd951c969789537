import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from retrieval.rerankers.cross_attention_model import CrossAttentionModel
from retrieval.rerankers.layers import CrossAttentionConfig
from retrieval.rerankers.ood import MahalanobisTrust, mean_state


@pytest.fixture(scope="module")
def fitted() -> MahalanobisTrust:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(8, 8, generator=generator)
    training, held_out = (torch.randn(n, 8, generator=generator) @ mixing + 3 for n in (4000, 1000))
    trust = MahalanobisTrust(8)
    trust.fit(training, held_out)
    return trust


def draw(n: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(8, 8, generator=generator)
    return torch.randn(n, 8, generator=torch.Generator().manual_seed(seed)) @ mixing + 3


def test_distances_are_those_of_mahalanobis(fitted):
    x = draw(50)
    sample = draw(4000, seed=2).double()
    centred = x.double() - sample.mean(0)
    inverse = torch.linalg.inv(torch.cov(sample.T))
    by_hand = torch.einsum("nd,de,ne->n", centred, inverse, centred).sqrt()
    torch.testing.assert_close(fitted.distance(x).double(), by_hand, rtol=0.1, atol=0.1)


def test_the_like_is_trusted_and_the_unlike_is_not(fitted):
    alike = fitted(draw(1000, seed=3))
    assert 0.85 < (alike == 1).float().mean() < 0.95
    assert (alike == 0).float().mean() < 0.03
    assert (fitted(draw(100) + 40) == 0).all()


def test_before_it_is_fitted_everything_is_trusted():
    assert (MahalanobisTrust(4)(torch.randn(5, 4) * 100) == 1).all()


@given(st.floats(-1e4, 1e4), st.integers(0, 10))
def test_trust_lies_between_0_and_1(fitted, scale, seed):
    trust = fitted(scale * torch.randn(3, 8, generator=torch.Generator().manual_seed(seed)))
    assert ((trust >= 0) & (trust <= 1)).all()


def test_data_without_spread_can_be_fitted():
    trust = MahalanobisTrust(3)
    trust.fit(torch.ones(10, 3), torch.ones(5, 3))
    assert torch.isfinite(trust(torch.ones(2, 3))).all()
    assert (trust(torch.ones(2, 3)) == 1).all()


def test_the_mean_state_leaves_out_padding():
    states = torch.tensor([[[1.0], [3.0], [99.0]]])
    assert mean_state(states, torch.tensor([[True, True, False]])).tolist() == [[2.0]]


def test_it_travels_with_the_model():
    model = CrossAttentionModel(CrossAttentionConfig(5, 6, width=8, heads=2))
    model.text_trust.fit(torch.randn(100, 8), torch.randn(100, 8))
    other = CrossAttentionModel(model.config)
    other.load_state_dict(model.state_dict())
    x = torch.randn(4, 8) * 2
    torch.testing.assert_close(other.text_trust(x), model.text_trust(x))
