import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.indices.base import AllowedRows, Capabilities, Effort, VectorIndex
from retrieval.indices.refine import keep_allowed, propose_rows, refine, refine_all, search_refined

EMBEDDINGS = np.eye(8, dtype=np.float16)
QUERIES = np.linspace(1, 0, 8, dtype=np.float32)[None]
"""Row 0 is the best, row 7 the worst."""


class Recorded(VectorIndex):
    """Proposes as many of the rows, worst first, as its breadth; notes what it was asked for."""

    def __init__(self):
        self.asked = []

    def __len__(self):
        return len(EMBEDDINGS)

    def _search(self, queries, k, allowed, effort):
        self.asked.append((k, effort.breadth))
        rows = np.full((len(queries), k), -1, np.int64)
        found = np.arange(7, -1, -1)[: min(k, effort.breadth)]
        rows[:, : len(found)] = found
        return np.where(rows < 0, -np.inf, 0).astype(np.float32), rows


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=1, max_size=12))
def test_refining_sorts_by_score_and_breaks_ties_by_row(values):
    embeddings = np.array(values, dtype=np.float16)[:, np.newaxis]
    rows = np.random.default_rng(0).permutation(len(values))
    found, scores = refine(np.ones(1, np.float32), rows, embeddings)
    assert found.tolist() == sorted(range(len(values)), key=lambda row: (-values[row], row))
    assert scores.tolist() == sorted(values, reverse=True)


def test_refining_scores_exactly_and_keeps_what_is_wanted():
    generator = np.random.default_rng(2)
    embeddings = generator.normal(size=(100, 8)).astype(np.float16)
    vector = generator.normal(size=8).astype(np.float32)
    found, similarity = refine(vector, generator.permutation(100), embeddings, 18)
    exact = embeddings.astype(np.float32) @ vector
    assert found.tolist() == np.argsort(-exact)[:18].tolist()
    np.testing.assert_allclose(similarity, exact[found], atol=1e-5)
    assert len(refine(vector, np.arange(100), embeddings)[0]) == 100


def test_candidates_of_each_query_are_refined_apart():
    candidates = np.array([[3, -1, 1], [-1, -1, -1]])
    scores, rows = refine_all(np.repeat(QUERIES, 2, axis=0), candidates, 2, EMBEDDINGS)
    assert rows.tolist() == [[1, 3], [-1, -1]]
    assert scores[1].tolist() == [-np.inf, -np.inf]


def test_one_effort_is_over_fetched_once():
    index = Recorded()
    _, rows = search_refined(index, EMBEDDINGS, QUERIES, 2, Effort(breadth=4, overfetch=3))
    assert index.asked == [(8, 4)]
    assert rows.tolist() == [[4, 5]]


def test_an_index_that_refines_by_itself_is_asked_for_the_hits_alone():
    class Refining(Recorded):
        capabilities = Capabilities(refines=True)

    index = Refining()
    assert search_refined(index, EMBEDDINGS, QUERIES, 2, Effort(8, 10))[1].tolist() == [[7, 6]]
    assert index.asked == [(2, 8)]


def test_the_effort_is_raised_until_the_list_is_full():
    index = Recorded()
    rows = propose_rows(index, QUERIES, 5, None, Effort(breadth=1, overfetch=1))
    assert [breadth for _, breadth in index.asked] == [1, 4, 16]
    assert set(rows[0].tolist()) == set(range(8))
    assert propose_rows(index, QUERIES, 5, AllowedRows(np.zeros(8, bool)), Effort()).shape == (1, 0)


def test_longer_lists_need_more_breadth():
    index = Recorded()
    propose_rows(index, QUERIES, 100, None, Effort(breadth=8))
    assert index.asked == [(8, round(8 * 10**0.6))]


@pytest.mark.parametrize("allowed", [[1, 5], [0, 2, 4, 6], list(range(8)), [3]])
def test_an_index_without_filters_is_asked_for_longer_lists(allowed):
    class Unfiltered(Recorded):
        capabilities = Capabilities(filters=False)

    bitmap = np.isin(np.arange(8), allowed)
    effort = Effort(breadth=2, overfetch=1)
    _, rows = search_refined(Unfiltered(), EMBEDDINGS, QUERIES, 2, effort, AllowedRows(bitmap))
    assert rows[0].tolist() == [*allowed, -1][:2]


def test_allowed_rows_are_kept_in_their_order():
    found = np.array([[3, 2, 1, 0]], np.float32), np.array([[7, 4, 2, -1]])
    scores, rows = keep_allowed(found, 3, AllowedRows(np.arange(8) % 2 == 0))
    assert rows.tolist() == [[4, 2, -1]]
    assert scores.tolist() == [[2, 1, -np.inf]]
