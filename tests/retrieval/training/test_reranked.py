"""Recall of reranked candidates against counting by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from retrieval.training.reranked import WEIGHTS, Reranked, best_weight

FEW_VALUES = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0])


@st.composite
def trials(draw: st.DrawFn) -> Reranked:
    """Scores of few different values, so that ties are common."""
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 13)))
    scores = arrays(np.float32, shape, elements=FEW_VALUES)
    return Reranked(draw(scores), draw(scores), draw(arrays(np.bool_, shape)))


def counted(trial: Reranked, weight: float) -> tuple[float, ...]:
    """Recall@1, @5, @10: sort with wrong candidates first among equals, and look."""
    hits = np.zeros((len(trial.right), 3))
    for query, right in enumerate(trial.right):
        joined = [
            float(np.float32(s) + np.float32(weight) * np.float32(m))
            for s, m in zip(trial.similarity[query], trial.match[query], strict=True)
        ]
        ranking = sorted(zip(joined, right, strict=True), key=lambda one: (-one[0], one[1]))
        for column, depth in enumerate((1, 5, 10)):
            hits[query, column] = any(is_right for _, is_right in ranking[:depth])
    return tuple(hits.mean(0))


@settings(max_examples=150)
@given(trial=trials(), weight=st.sampled_from([0.0, 0.25, 0.5, 2.0]))
def test_recalls_are_those_counted_by_hand(trial: Reranked, weight: float) -> None:
    assert trial.recalls(weight) == pytest.approx(counted(trial, weight))


@settings(max_examples=40)
@given(trial=trials(), other=trials())
def test_without_weight_the_similarity_ranks(trial: Reranked, other: Reranked) -> None:
    shuffled = Reranked(trial.similarity, -trial.match, trial.right)
    assert trial.recalls(0.0) == shuffled.recalls(0.0) == pytest.approx(counted(trial, 0.0))


@settings(max_examples=40)
@given(one=trials(), other=trials())
def test_the_best_weight_is_the_smallest_of_the_best(one: Reranked, other: Reranked) -> None:
    def mean(weight: float) -> float:
        return float(np.mean([*one.recalls(weight), *other.recalls(weight)]))

    best = best_weight([one, other])
    assert best in WEIGHTS
    for weight in WEIGHTS:
        assert mean(weight) <= mean(best)
        assert weight >= best or mean(weight) < mean(best)


def useful(random: np.random.Generator) -> Reranked:
    right = np.eye(20, dtype=np.bool_)
    similarity = random.normal(0.3, 0.02, right.shape).astype(np.float32)
    return Reranked(similarity, (8 * right - 4).astype(np.float32), right)


def test_a_match_that_knows_gets_weight() -> None:
    trial = useful(np.random.default_rng(0))
    weight = best_weight([trial])
    assert weight > 0
    assert trial.recalls(weight)[0] == 1
    assert trial.recalls(0.0)[0] < 0.5


@pytest.mark.parametrize("match", [0.0, 3.0, -3.0])
def test_a_match_that_tells_nothing_gets_no_weight(match: float) -> None:
    trial = useful(np.random.default_rng(0))
    constant = Reranked(trial.similarity, np.full_like(trial.match, match), trial.right)
    assert best_weight([constant]) == 0


def test_a_match_that_misleads_gets_no_weight() -> None:
    trial = useful(np.random.default_rng(0))
    assert best_weight([Reranked(trial.similarity, -trial.match, trial.right)]) == 0


def test_a_model_that_gives_no_numbers_finds_nothing() -> None:
    trial = useful(np.random.default_rng(0))
    broken = Reranked(trial.similarity, np.full_like(trial.match, math.nan), trial.right)
    assert broken.recalls(0.1) == (0, 0, 0)


def test_a_query_without_a_right_candidate_is_a_miss() -> None:
    scores = np.zeros((2, 3), np.float32)
    right = np.array([[False, False, False], [True, True, True]])
    assert Reranked(scores, scores, right).recalls(0.0) == (0.5, 0.5, 0.5)


def test_the_weights_to_choose_from() -> None:
    assert WEIGHTS[0] == 0
    assert list(WEIGHTS) == sorted(set(WEIGHTS))
