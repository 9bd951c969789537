from types import SimpleNamespace

import numpy as np
import pytest
import torch

from retrieval.encoders.base import Tokens
from retrieval.errors import EncoderUnavailableError
from retrieval.rerankers.pair_scoring import PairReranker, load_model, token_ids


class Sums(PairReranker):
    """Scores a pair by 100 times the sum of its ids, and the sum of its image's tokens."""

    def __init__(self):
        self._device = torch.device("cpu")
        self.shapes = []

    def _score(self, ids, seen):
        self.shapes.append((tuple(ids.shape), tuple(seen.shape)))
        return 100 * ids.sum(1) + seen.sum((1, 2))


def test_pairs_of_one_length_share_a_batch():
    texts = token_ids([[1, 2], [3], [4, 5]])
    values = np.arange(24, dtype=np.float16).reshape(4, 3, 2)
    images = Tokens.padded(values, np.array([3, 1, 3, 3]))
    reranker = Sums()
    scores = reranker.match(texts, images)
    expected = [
        [100 * ids + image[mask].sum() for image, mask in zip(values, images.mask, strict=True)]
        for ids in (3, 3, 9)
    ]
    np.testing.assert_allclose(scores, expected)
    assert sorted(reranker.shapes) == [
        ((1, 1), (1, 1, 2)),
        ((2, 2), (2, 1, 2)),
        ((3, 1), (3, 3, 2)),
        ((6, 2), (6, 3, 2)),
    ]
    reranker.shapes.clear()
    reranker.match(token_ids([[1]] * 10), images)
    assert max(shape[0] for shape, _ in reranker.shapes) == 8


def test_ids_are_padded():
    tokens = token_ids([[151_655, 2, 3], [], [7]])
    assert tokens.values[..., 0].tolist() == [[151_655, 2, 3], [0, 0, 0], [7, 0, 0]]
    assert tokens.mask.sum(1).tolist() == [3, 0, 1]
    assert token_ids([]).values.shape == (0, 0, 1)


def test_a_class_that_transformers_lacks(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(__version__="4.48"))
    with pytest.raises(EncoderUnavailableError, match=r"newer version of transformers than 4\.48"):
        load_model("NewModel", "vlm:x", tmp_path, torch.float32)
