import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.indices.flat import FlatIndex


def unit_rows(n: int, d: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@given(
    n=st.integers(0, 60),
    d=st.sampled_from([1, 7, 32, 512]),
    k=st.integers(1, 80),
    split=st.floats(0, 1),
    seed=st.integers(0, 1000),
    filtered=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_it_finds_what_brute_force_finds(n, d, k, split, seed, filtered):
    rows = unit_rows(n, d, seed).astype(np.float16)
    queries = unit_rows(3, d, seed + 1)
    allowed = np.random.default_rng(seed).random(n) < 0.5 if filtered else None
    index = FlatIndex(d)
    index.add(rows[: int(split * n)])
    index.add(rows[int(split * n) :])
    scores, found = index.search(queries, k, allowed)

    expected = queries @ rows.astype(np.float32).T
    if allowed is not None:
        expected[:, ~allowed] = -np.inf
    best = -np.sort(-expected, axis=1)[:, :k]
    findable = n if allowed is None else int(allowed.sum())
    assert len(index) == n
    assert scores.shape == found.shape == (3, k)
    assert (found[:, min(k, findable) :] == -1).all()
    np.testing.assert_allclose(scores[:, : best.shape[1]], best, atol=1e-3)
    for query in range(3):
        named = found[query][found[query] >= 0]
        assert len(set(named.tolist())) == len(named)
        np.testing.assert_allclose(expected[query, named], scores[query, : len(named)], atol=1e-3)
