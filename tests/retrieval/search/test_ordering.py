"""The stages that order candidates: pure functions of arrays."""

import os
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.catalog import Item
from retrieval.media import MediaKind, Modality
from retrieval.search.candidates import Candidates
from retrieval.search.ordering import (
    calibrate,
    collapse_by_file,
    diversify,
    exclude,
    fuse_lexical,
    join_lexical,
    places_in_order,
    rank_by_text,
    rank_by_vector,
)
from retrieval.search.query import Sort

NAN = float("nan")


def candidates(*ids, similarity=None, text_score=None, word_relevance=None):
    """The most similar first, unless told."""
    if similarity is None:
        similarity = np.linspace(0.9, 0.1, len(ids))
    numbers = np.array(ids, np.int64)
    found = Candidates.of(
        numbers,
        numbers,
        np.asarray(similarity, np.float32),
        None if text_score is None else np.asarray(text_score, np.float64),
    )
    if word_relevance is None:
        return found
    return replace(found, word_relevance=np.asarray(word_relevance, np.float32))


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


def test_what_words_found_joins_by_similarity_what_was_not_reranked():
    ranked = rank_by_vector(
        candidates(1, 2, 3, 4, similarity=[0.9, 0.8, 0.6, 0.5]), np.array([0, 9], np.float32), 1.0
    )
    found = candidates(4, 9, 7, similarity=[0.5, 0.55, 0.5], text_score=[7.5, 1.5, 1.0])
    assert join_lexical(ranked, found).ids.tolist() == [2, 1, 3, 9, 4, 7]


@st.composite
def hybrids(draw):
    """Candidates by vector, some of them reranked, and others that only words found."""
    count, more = draw(st.integers(0, 20)), draw(st.integers(0, 10))
    numbers = st.floats(-1, 1, width=32)
    similarity = sorted(draw(st.lists(numbers, min_size=count, max_size=count)), reverse=True)
    shares = st.lists(st.sampled_from([0, 0, 0.25, 0.75, 1]), min_size=count, max_size=count)
    ranked = candidates(*range(count), similarity=similarity, word_relevance=draw(shares))
    match = draw(st.lists(st.floats(-5, 5, width=32) | st.just(NAN), max_size=count))
    ranked = rank_by_vector(ranked, np.array(match, np.float32), 0.3)
    low = draw(st.lists(st.floats(-1, -0.5, width=32), min_size=more, max_size=more))
    found = candidates(
        *range(100, 100 + more),
        similarity=low,
        text_score=np.ones(more),
        word_relevance=np.full(more, 0.5),
    )
    return ranked, found


@given(hybrids())
def test_the_list_looks_sorted_and_names_each_item_once(hybrid):
    ranked, found = hybrid
    joined = join_lexical(ranked, found)
    fused = calibrate(joined, curve, 0.0, is_hybrid=True)
    assert sorted(fused.ids.tolist()) == sorted([*ranked.ids.tolist(), *found.ids.tolist()])
    assert (np.diff(fused.relevance) <= 0).all()
    assert (np.diff(fused.score) <= 0).all()
    for share in np.unique(fused.word_relevance):
        alike = fused.ids[(fused.word_relevance == share) & ~np.isnan(fused.match)].tolist()
        reranked = [one for one in ranked.ids.tolist() if one in alike]
        assert alike == reranked  # words that say the same leave the reranked order as it is


def curve(similarity):
    """Relevance that is the similarity."""
    return np.clip(np.nan_to_num(similarity), 0, 1)


def test_relevance_is_that_of_the_curve():
    found = candidates(1, 2, 3, 4, similarity=[0.9, 0.5, 0.1, NAN])
    expected = np.array([0.9, 0.5, 0.1, 0], np.float32)
    np.testing.assert_array_equal(calibrate(found, curve, 0.0).relevance, expected)
    assert calibrate(found, curve, float(expected[1])).ids.tolist() == [1, 2]
    assert len(calibrate(Candidates.none(), curve, 0.5)) == 0


@pytest.mark.parametrize("is_hybrid", [False, True])
def test_only_telling_words_stay_below_the_least_relevance(is_hybrid):
    found = candidates(
        1,
        2,
        3,
        similarity=[0.1, 0.1, 0.1],
        text_score=[9.0, 9.0, NAN],
        word_relevance=[0.7, 0.3, 0],
    )
    assert calibrate(found, curve, 0.99, is_hybrid=is_hybrid).ids.tolist() == [1]


def test_equal_words_leave_the_order_by_meaning():
    ranked = candidates(*range(50), similarity=np.linspace(0.9, 0.1, 50))
    alone = calibrate(ranked, curve, 0.0)
    for share in (0.0, 0.3, 1.0):
        told = replace(ranked, word_relevance=np.full(50, share, np.float32))
        assert calibrate(told, curve, 0.0, is_hybrid=True).ids.tolist() == alone.ids.tolist()


def test_words_and_meaning_are_independent_evidence():
    found = candidates(1, 2, 3, word_relevance=[0, 0.5, 1])
    fused = fuse_lexical(replace(found, relevance=np.array([0.9, 0.5, 0], np.float32)))
    assert fused.ids.tolist() == [3, 1, 2]
    assert fused.relevance.tolist() == pytest.approx([1, 0.9, 0.75])


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


@given(st.lists(st.none() | st.integers(0, 5)), st.booleans())
def test_by_date_unknown_ones_come_last_and_equal_ones_as_they_were(days, oldest_first):
    dates = [None if day is None else datetime(2023, 5, 1) + timedelta(days=day) for day in days]
    sort = Sort.DATE_ASC if oldest_first else Sort.DATE
    order = places_in_order([item(n, taken_local=date) for n, date in enumerate(dates)], sort)
    sign = 1 if oldest_first else -1
    expected = sorted(range(len(days)), key=lambda n: (days[n] is None, sign * (days[n] or 0), n))
    assert order == expected


@given(st.permutations(["/a/b.jpg", "/a/B.jpg", "/a b/1.jpg", "/é.jpg", "/z.jpg", "/z.jpg"]))
def test_by_name_folders_stay_together_and_parts_of_a_file_too(paths):
    ids = [number % 4 for number in range(len(paths))]
    order = places_in_order(
        [item(item_id, path) for item_id, path in zip(ids, paths, strict=True)], Sort.NAME
    )
    expected = sorted(zip([os.fsencode(path) for path in paths], ids, strict=True))
    assert [(os.fsencode(paths[place]), ids[place]) for place in order] == expected


def item(item_id: int, path: str = "/a.jpg", **facts) -> Item:
    return Item(item_id, path, MediaKind.IMAGE, Modality.IMAGE, "", 1, 1, **facts)
