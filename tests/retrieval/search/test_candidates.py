"""The stages that find candidates, without a library: an index that compares everything."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.indices.base import AllowedRows
from retrieval.indices.exact import nearest
from retrieval.media import Modality
from retrieval.search.candidates import (
    NO_TEXT_MATCHES,
    Candidates,
    TextMatches,
    at_rows,
    best_text_matches,
    first_rows,
    propose,
    with_spare,
    with_words,
)


@dataclass
class Numbered:
    id: int


class Exhaustive:
    """Proposes the best rows, and notes how it was called."""

    def __init__(self, rows):
        self.rows = rows
        self.calls = []

    def candidates(self, queries, k, allowed=None, query_modality=Modality.TEXT):
        self.calls.append((len(queries), k, query_modality))
        among = None if allowed is None else allowed.ids
        return nearest(queries, self.rows, k, among)[1]


def unit_rows(count, width=8, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(count, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture
def rows():
    return unit_rows(100)


def queries(count):
    return list(unit_rows(count, seed=1).astype(np.float32))


def test_queries_that_are_alike_go_through_the_index_together(rows):
    index = Exhaustive(rows)
    few = AllowedRows(np.arange(100) < 5)
    found = propose(
        index,
        queries(5),
        [10, 10, 40, 10, 10],
        [None, None, None, few, few],
        [Modality.TEXT] * 4 + [Modality.IMAGE],
    )
    assert index.calls == [(2, 18, "text"), (1, 50, "text"), (1, 18, "text"), (1, 18, "image")]
    assert [len(proposed) for proposed in found] == [18, 18, 50, 5, 5]  # no row stands for nothing
    assert set(found[3].tolist()) == set(range(5))
    alone = [propose(index, [q], [10], [None], [Modality.TEXT])[0] for q in queries(2)]
    for one, other in zip(found[:2], alone, strict=True):
        assert one.tolist() == other.tolist()


@pytest.mark.parametrize(("count", "rows"), [(1, 9), (10, 18), (32, 40), (100, 125)])
def test_more_rows_are_looked_at_than_items_are_wanted(count, rows):
    assert with_spare(count) == rows


def test_copies_share_a_row_and_some_rows_hold_nothing():
    items = {7: (Numbered(1), Numbered(2)), 3: (), 5: (Numbered(9),)}
    found = at_rows(np.array([7, 3, 5]), np.array([0.9, 0.8, 0.7], np.float32), items)
    assert found.ids.tolist() == [1, 2, 9]
    assert found.rows.tolist() == [7, 7, 5]
    assert found.similarity.tolist() == pytest.approx([0.9, 0.9, 0.7])
    assert np.isnan(found.match).all()
    assert np.isnan(found.text_score).all()
    assert len(at_rows(np.array([3]), np.array([0.8], np.float32), items)) == 0


@given(st.lists(st.integers(0, 3), max_size=20), st.integers(1, 25), st.integers(0, 9))
def test_text_matches_of_one_score_follow_meaning(levels, count, seed):
    rows = unit_rows(20, seed=seed)
    vector = rows[0].astype(np.float32)
    exact = rows.astype(np.float32) @ vector
    scores = {row: float(level) for row, level in enumerate(levels)}
    found, similarity = best_text_matches(vector, TextMatches(scores, {}), rows, count)
    expected = sorted(scores, key=lambda row: (-scores[row], -exact[row]))
    of_level = {level: [r for r in expected if scores[r] == level][:count] for level in set(levels)}
    assert found.tolist() == [row for level in sorted(of_level)[::-1] for row in of_level[level]]
    np.testing.assert_allclose(similarity, exact[found], atol=1e-5)


def test_no_text_matches_are_none():
    rows, similarity = best_text_matches(
        np.ones(8, np.float32), NO_TEXT_MATCHES, unit_rows(3), count=5
    )
    assert (len(rows), len(similarity)) == (0, 0)


def test_words_belong_to_rows():
    rows = np.array([7, 7, 3, 5])
    found = with_words(
        Candidates.of(np.arange(4), rows, np.ones(4, np.float32)),
        TextMatches({7: 2.5, 3: 1.5}, {7: 0.75, 4: 1.0}),
    )
    np.testing.assert_array_equal(found.text_score, [2.5, 2.5, 1.5, np.nan])
    assert found.word_relevance.tolist() == [0.75, 0.75, 0, 0]
    assert found.found_by_words.tolist() == [True, True, False, False]


def test_rows_past_the_limit_are_left_out():
    allowed = np.array([True, False, True, True])
    assert first_rows(None, 4, 4) is None
    assert first_rows(None, 2, 4).tolist() == [True, True]
    assert first_rows(allowed, 4, 4) is allowed
    assert first_rows(allowed, 3, 4).tolist() == [True, False, True]


def test_candidates_are_taken_by_places_masks_and_slices():
    numbers = np.arange(4)
    found = Candidates.of(numbers, numbers, numbers.astype(np.float32))
    assert found.take([2, 0]).ids.tolist() == [2, 0]
    assert found.take(slice(1)).ids.tolist() == [0]
    assert found.take(numbers > 1).similarity.tolist() == [2, 3]
    assert found.take([]).ids.tolist() == []
    assert len(Candidates.none()) == 0
