import numpy as np

from retrieval.rerankers.base import join


def test_joining_adds_the_weighted_match():
    similarity, match = np.float32([0.25, 0.5]), np.float32([2, -4])
    joined = join(similarity, match, 0.125)
    assert joined.dtype == np.float32
    assert joined.tolist() == [0.5, 0.0]
    np.testing.assert_array_equal(join(similarity, match, 0.0), similarity)
