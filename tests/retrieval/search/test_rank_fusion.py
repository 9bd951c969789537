import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.search.rank_fusion import maximal_marginal_relevance, reciprocal_rank_fusion


def test_ranks_are_fused_as_in_the_paper():
    fused = reciprocal_rank_fusion([["a", "b"], ["b", "c"], ["b"]])
    expected = {"b": 1 / 62 + 2 / 61, "a": 1 / 61, "c": 1 / 62}
    assert dict(fused) == pytest.approx(expected)
    assert [name for name, _ in fused] == ["b", "a", "c"]


def test_equals_stand_as_in_the_first_ranking():
    assert [n for n, _ in reciprocal_rank_fusion([["a", "b"], ["c", "d"]])] == ["a", "c", "b", "d"]
    assert reciprocal_rank_fusion([[], []]) == []


@given(st.lists(st.integers(0, 50), unique=True, max_size=30))
def test_one_ranking_keeps_its_order(ranking):
    assert [one for one, _ in reciprocal_rank_fusion([ranking])] == ranking


def by_definition(scores, vectors, diversity):
    """Straight from the formula, for comparison."""
    scaled = (scores - scores.min()) / (np.ptp(scores) or 1)
    chosen = [int(scaled.argmax())]
    while len(chosen) < len(scores):
        left = [i for i in range(len(scores)) if i not in chosen]
        value = [
            (1 - diversity) * scaled[i] - diversity * max(vectors[i] @ vectors[j] for j in chosen)
            for i in left
        ]
        chosen.append(left[int(np.argmax(value))])
    return chosen


@pytest.mark.parametrize("diversity", [0.1, 0.5, 0.9])
def test_marginal_relevance_is_as_defined(diversity):
    generator = np.random.default_rng(1)
    scores = np.sort(generator.random(25).astype(np.float32))[::-1]
    vectors = generator.normal(size=(25, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = maximal_marginal_relevance(scores, vectors, diversity)
    assert order == by_definition(scores, vectors, diversity)


def test_without_diversity_the_scores_decide():
    scores = np.array([0.9, 0.8, 0.7], np.float32)
    assert maximal_marginal_relevance(scores, np.eye(3, dtype=np.float32), 0.0) == [0, 1, 2]
    assert maximal_marginal_relevance(scores[:0], np.empty((0, 3), np.float32), 0.5) == []


def test_a_copy_of_the_best_goes_behind_what_differs():
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    scores = np.array([0.9, 0.89, 0.7], np.float32)
    assert maximal_marginal_relevance(scores, vectors, 0.7) == [0, 2, 1]
