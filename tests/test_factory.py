import numpy as np
import pytest

from retrieval.errors import UsageError
from retrieval.indices.factory import FactoryIndex
from retrieval.indices.flat import FlatIndex


@pytest.fixture(scope="module")
def rows():
    """Unit vectors in 50 clusters, as embeddings are, not uniform noise."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(50, 32))
    vectors = centres[generator.integers(0, 50, 4000)] + 0.4 * generator.normal(size=(4000, 32))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture(scope="module")
def queries(rows):
    return rows[:100].astype(np.float32)


def recall_at_10(index, rows, queries, allowed=None) -> float:
    exact = FlatIndex(rows.shape[1])
    exact.add(rows)
    _, expected = exact.search(queries, 10, allowed)
    _, found = index.search(queries, 10, allowed)
    return np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, expected, strict=True)])


@pytest.mark.parametrize(
    ("factory", "floor"),
    [
        ("Flat", 0.98),
        ("IVF16,Flat", 0.98),
        ("IVF16,SQ8", 0.95),
        ("IVF16,PQ16", 0.5),
        ("OPQ16_32,IVF16,PQ16", 0.5),
        ("HNSW16", 0.95),
    ],
)
def test_recall_against_brute_force(rows, queries, factory, floor):
    index = FactoryIndex(factory, rows)
    index.add(rows[:1500])
    index.add(rows[1500:])
    assert len(index) == 4000
    assert recall_at_10(index, rows, queries) >= floor


@pytest.mark.parametrize("factory", ["IVF16,Flat", "OPQ16_32,IVF16,Flat"])
def test_only_allowed_rows_are_found(rows, queries, factory):
    index = FactoryIndex(factory, rows)
    index.add(rows)
    allowed = np.arange(4000) % 3 == 0
    scores, found = index.search(queries, 10, allowed)
    assert (found % 3 == 0).all()
    assert (np.diff(scores, axis=1) <= 0).all()
    assert recall_at_10(index, rows, queries, allowed) >= 0.9


def test_scores_are_inner_products(rows, queries):
    index = FactoryIndex("IVF16,Flat", rows)
    index.add(rows)
    scores, found = index.search(queries, 3)
    expected = np.einsum("qd,qkd->qk", queries, rows[found].astype(np.float32))
    np.testing.assert_allclose(scores, expected, atol=2e-3)


def test_too_few_rows_leave_places_empty(rows):
    index = FactoryIndex("IVF16,Flat", rows, nprobe=1)
    index.add(rows[:3])
    scores, found = index.search(rows[:1].astype(np.float32), 10)
    assert (found == -1).sum() >= 7
    assert (scores[found == -1] == -np.inf).all()


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("nonsense", "not a FAISS factory string"),
        ("IVF16,PQ7", "multiple of the number of subquantizers"),
        ("IVF100000,Flat", "cannot be trained on 4,000 vectors"),
    ],
)
def test_strings_that_cannot_be_meant(rows, factory, message):
    with pytest.raises(UsageError, match=message):
        FactoryIndex(factory, rows)
