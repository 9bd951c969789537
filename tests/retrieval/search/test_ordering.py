"""The stages that order candidates: pure functions of arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.search.candidates import Candidates
from retrieval.search.ordering import (
    calibrate,
    collapse_by_file,
    diversify,
    exclude,
    fuse_lexical,
    rank_by_text,
    rank_by_vector,
)
from retrieval.search.rank_fusion import reciprocal_rank_fusion

NAN = float("nan")


def candidates(*ids, similarity=None, text_score=None):
    """The most similar first, unless told."""
    if similarity is None:
        similarity = np.linspace(0.9, 0.1, len(ids))
    numbers = np.array(ids, np.int64)
    return Candidates.of(
        numbers,
        numbers,
        np.asarray(similarity, np.float32),
        None if text_score is None else np.asarray(text_score, np.float64),
    )


def test_without_a_match_the_similarity_decides():
    found = candidates(3, 1, 2)
    assert rank_by_vector(found) is found
    assert found.score.tolist() == found.similarity.tolist()


def test_reranked_candidates_stand_in_the_order_of_the_joined_score_before_all_others():
    found = candidates(1, 2, 3, 4, similarity=[0.9, 0.8, 0.7, 0.6])
    ranked = rank_by_vector(found, np.array([0, 3, NAN], np.float32), 0.1)
    assert ranked.ids.tolist() == [2, 1, 3, 4]
    np.testing.assert_array_equal(ranked.match, np.array([3, 0, NAN, NAN], np.float32))
    assert ranked.score.tolist() == pytest.approx([1.1, 0.9, 0.7, 0.6])


def test_equal_joined_scores_keep_the_order_of_the_similarities():
    found = candidates(5, 4, 3, similarity=[0.5, 0.5, 0.5])
    assert rank_by_vector(found, np.zeros(3, np.float32), 1.0).ids.tolist() == [5, 4, 3]
    assert rank_by_vector(found, np.zeros(0, np.float32), 1.0).ids.tolist() == [5, 4, 3]


@given(st.lists(st.floats(-5, 5, width=32), max_size=20), st.integers(0, 5))
def test_reranking_loses_nothing(match, rest):
    found = candidates(*range(len(match) + rest))
    ranked = rank_by_vector(found, np.array(match, np.float32), 0.3)
    assert sorted(ranked.ids.tolist()) == found.ids.tolist()
    assert ranked.ids.tolist()[len(match) :] == found.ids.tolist()[len(match) :]
    scores = ranked.score[: len(match)]
    assert (np.diff(scores) <= 0).all()


def test_text_finds_in_its_own_order():
    found = candidates(1, 2, similarity=[0.1, 0.9], text_score=[3.5, 2.5])
    ranked = rank_by_text(found)
    assert ranked.ids.tolist() == [1, 2]
    assert ranked.score.tolist() == [3.5, 2.5]


def test_both_rankings_are_fused_by_reciprocal_ranks():
    ranked = candidates(1, 2, 3, 4)
    found = candidates(3, 9, similarity=[0.5, 0.2], text_score=[7.5, 1.5])
    fused = fuse_lexical(ranked, found, pool=3)
    expected = reciprocal_rank_fusion([[1, 2, 3], [3, 9]])
    assert fused.ids.tolist() == [*(one for one, _ in expected), 4]
    assert fused.score.tolist() == [*(score for _, score in expected), 0]
    scores = dict(zip(fused.ids.tolist(), fused.text_score.tolist(), strict=True))
    assert (scores[3], scores[9]) == (7.5, 1.5)
    assert all(np.isnan(scores[one]) for one in (1, 2, 4))
    similarity = dict(zip(fused.ids.tolist(), fused.similarity.tolist(), strict=True))
    assert similarity[3] == pytest.approx(ranked.similarity[2])
    assert similarity[9] == pytest.approx(0.2)


def test_a_match_survives_fusion():
    ranked = rank_by_vector(candidates(1, 2), np.array([1, 2], np.float32), 1.0)
    fused = fuse_lexical(ranked, candidates(1, text_score=[1.0]), pool=2)
    assert dict(zip(fused.ids.tolist(), fused.match.tolist(), strict=True)) == {1: 1, 2: 2}


@given(
    st.lists(st.integers(0, 30), unique=True, max_size=20),
    st.lists(st.integers(0, 30), unique=True, max_size=20),
    st.integers(1, 25),
)
def test_fusion_names_each_item_once(by_vector, by_text, pool):
    fused = fuse_lexical(
        candidates(*by_vector), candidates(*by_text, text_score=np.ones(len(by_text))), pool
    )
    assert sorted(fused.ids.tolist()) == sorted({*by_vector, *by_text})
    assert (np.diff(fused.score) <= 0).all()
    found = fused.ids[~np.isnan(fused.text_score)]
    assert sorted(found.tolist()) == sorted(by_text)


def curve(similarity):
    """Relevance that is the similarity."""
    return np.nan_to_num(similarity)


def test_relevance_is_that_of_the_curve():
    found = candidates(1, 2, 3, 4, similarity=[0.9, 0.5, 0.1, NAN])
    expected = np.array([0.9, 0.5, 0.1, 0], np.float32)
    np.testing.assert_array_equal(calibrate(found, curve, 0.0).relevance, expected)
    assert calibrate(found, curve, float(expected[1])).ids.tolist() == [1, 2]
    assert len(calibrate(Candidates.none(), curve, 0.5)) == 0


def test_what_telling_words_found_stays():
    found = candidates(1, 2, 3, similarity=[0.1, 0.9, 0.1], text_score=[2.0, NAN, 1.0])
    telling = np.array([True, False, False])
    assert calibrate(found, curve, 0.5, telling).ids.tolist() == [1, 2]
    assert calibrate(found, curve, 1.5, telling).ids.tolist() == [1]


def test_the_first_of_each_file_stands_for_the_others():
    found = candidates(1, 2, 3, 4, 5)
    collapsed, groups = collapse_by_file(found, ["a", "b", "a", "c", "a"])
    assert collapsed.ids.tolist() == [1, 2, 4]
    assert groups == {1: (3, 5)}
    assert exclude(collapsed, {3}, groups).ids.tolist() == [2, 4]
    assert exclude(collapsed, {2}, groups).ids.tolist() == [1, 4]


@given(st.lists(st.integers(0, 4), max_size=30))
def test_collapsing_keeps_every_item_once(files):
    found = candidates(*range(len(files)))
    collapsed, groups = collapse_by_file(found, files)
    shown = collapsed.ids.tolist()
    assert shown == sorted(shown)
    assert sorted([*shown, *(one for group in groups.values() for one in group)]) == list(
        range(len(files))
    )
    assert len({files[one] for one in shown}) == len(shown)


def test_excluding_nothing_changes_nothing():
    found = candidates(1, 2)
    assert exclude(found, frozenset()) is found
    assert exclude(found, {7}).ids.tolist() == [1, 2]


def test_a_copy_of_the_best_goes_behind_what_differs():
    found = candidates(1, 2, 3, 4, similarity=[0.9, 0.89, 0.7, 0.6])
    vectors = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    assert diversify(found, vectors, 0.7).ids.tolist() == [1, 3, 2, 4]
    assert diversify(found, vectors, 0.0).ids.tolist() == [1, 2, 3, 4]
