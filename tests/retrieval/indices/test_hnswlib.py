"""What is hnswlib's own; `test_conformance` has the rest."""

import numpy as np
import pytest

from retrieval.indices.base import Effort
from retrieval.indices.hnswlib import HnswlibIndex

pytest.importorskip("hnswlib")


@pytest.fixture
def rows():
    rows = np.random.default_rng(0).normal(size=(200, 16))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def test_lists_are_filled_whatever_the_breadth(rows):
    index = HnswlibIndex.create(None, rows)
    index.add(rows)
    _, found = index.search(rows[:3], 100, effort=Effort(breadth=1))
    assert (found >= 0).all()


def test_it_grows_past_what_it_was_made_for(rows):
    index = HnswlibIndex.create(None, rows[:50])
    index.add(rows[:50])
    index.add(rows[50:])
    _, found = index.search(rows[150:153], 1)
    assert found.tolist() == [[150], [151], [152]]


def test_scores_are_inner_products(rows):
    index = HnswlibIndex.create(None, rows)
    index.add(rows)
    scores, found = index.search(rows[:1], 5, effort=Effort(breadth=200))
    truth = rows[:1].astype(np.float32) @ rows.astype(np.float32)[found[0]].T
    np.testing.assert_allclose(scores, truth, atol=1e-3)
