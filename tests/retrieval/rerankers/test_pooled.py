"""Pooled rerankers; their formulas and properties are tested with those of all kinds."""

import pytest
import torch

from retrieval.rerankers.layers import JOINT_KINDS, KINDS, CrossAttentionConfig
from retrieval.rerankers.pooled import PooledScorer


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in JOINT_KINDS])
def test_padding_is_not_pooled(kind):
    torch.manual_seed(0)
    scorer = PooledScorer(CrossAttentionConfig(4, 4, kind=kind, width=8)).eval()
    texts, images = torch.randn(2, 3, 8), torch.randn(4, 5, 8)
    mask = torch.tensor([[True, False, True], [True, True, False]])
    logits = scorer(texts, mask, images, None)
    texts[~mask] = 50.0
    torch.testing.assert_close(scorer(texts, mask, images, None), logits)


def test_cosines_stay_within_their_scale():
    torch.manual_seed(0)
    scorer = PooledScorer(CrossAttentionConfig(4, 4, kind="cosine", width=8)).eval()
    texts = torch.randn(3, 2, 8)
    logits = scorer(texts, torch.ones(3, 2, dtype=torch.bool), 100 * torch.randn(4, 5, 8), None)
    assert (logits.abs() <= scorer.log_scale.exp() + 1e-4).all()
