"""Ranks of relevant items: by hand, by brute force, and from dictionaries and matrices alike."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.metrics import Judgments, judge, judge_scores
from retrieval.errors import UsageError

INF = float("inf")


def ranks_of(judgments: Judgments, query: str) -> list[float]:
    place = judgments.query_ids.index(query)
    return judgments.ranks[judgments.offsets[place] : judgments.offsets[place + 1]].tolist()


def assert_same(one: Judgments, other: Judgments) -> None:
    assert one.query_ids == other.query_ids
    assert one.without_relevant == other.without_relevant
    for name in ("offsets", "ranks", "gains", "ranked"):
        first, second = getattr(one, name), getattr(other, name)
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second, err_msg=name)


def test_ranks_and_gains_of_relevant_items_stand_in_the_order_of_rank():
    qrels = {"q": {"a": 1, "b": 3, "c": 2, "gone": 5}}
    judgments = judge(qrels, {"q": {"x": 0.9, "c": 0.8, "a": 0.1, "b": 0.5}})
    assert judgments.ranks.tolist() == [2, 3, 4, INF]
    assert judgments.gains.tolist() == [2, 3, 1, 5]
    assert judgments.places.tolist() == [1, 2, 3, 4]
    assert judgments.ranked.tolist() == [4]
    assert judgments.first_ranks.tolist() == [2]


def test_equal_scores_are_ranked_by_id_descending_as_strings():
    hits = dict.fromkeys(["10", "9", "é", "Z", "a"], 0.5)
    judgments = judge({"q": dict.fromkeys(hits, 1)} | {i: {i: 1} for i in hits}, {})
    assert judgments.ranks.tolist() == [INF] * 10
    judgments = judge({i: {i: 1} for i in hits}, dict.fromkeys(hits, hits))
    assert dict(zip(judgments.query_ids, judgments.first_ranks.tolist(), strict=True)) == {
        "é": 1,
        "a": 2,
        "Z": 3,
        "9": 4,
        "10": 5,
    }


def test_negative_zero_equals_zero():
    assert ranks_of(judge({"q": {"b": 1}}, {"q": {"a": 0.0, "b": -0.0}}), "q") == [1]
    scores = np.array([[0.0, -0.0]])
    assert ranks_of(judge_scores({"q": {"b": 1}}, ["q"], ["a", "b"], scores), "q") == [1]


def test_a_query_missing_from_the_run_found_nothing():
    judgments = judge({"q": {"a": 1}, "missing": {"a": 1, "b": 1}}, {"q": {"a": 1.0}})
    assert ranks_of(judgments, "missing") == [INF, INF]
    assert judgments.ranked.tolist() == [1, 0]


def test_an_empty_run_found_nothing():
    for run in ({}, {"q": {}}):
        assert ranks_of(judge({"q": {"a": 1}}, run), "q") == [INF]
    empty = judge_scores({"q": {"a": 1}}, ["q"], [], np.zeros((1, 0)))
    assert ranks_of(empty, "q") == [INF]


def test_a_query_missing_from_the_qrels_is_ignored():
    judgments = judge({"q": {"a": 1}}, {"other": {"a": 1.0}, "q": {"a": 1.0}})
    assert judgments.query_ids == ("q",)


def test_queries_without_a_relevant_item_are_left_out_and_named():
    qrels = {"none": {}, "q": {"a": 1}, "zero": {"a": 0, "b": -1}}
    judgments = judge(qrels, {"zero": {"a": 1.0}, "q": {"a": 1.0}})
    assert judgments.query_ids == ("q",)
    assert judgments.without_relevant == ("none", "zero")


@pytest.mark.parametrize("qrels", [{}, {"q": {}}, {"q": {"a": 0}}])
def test_nothing_to_measure_is_an_error(qrels):
    with pytest.raises(UsageError, match="No query has a relevant item"):
        judge(qrels, {"q": {"a": 1.0}})


@pytest.mark.parametrize("score", [float("nan"), INF, -INF])
def test_scores_in_a_run_must_be_finite(score):
    with pytest.raises(UsageError, match=r"score of 'b' for query 'q' is -?(nan|inf)"):
        judge({"q": {"a": 1}}, {"q": {"a": 1.0, "b": score}})


@pytest.mark.parametrize("score", [float("nan"), INF])
@pytest.mark.parametrize("column", [0, 1])
def test_scores_in_a_matrix_must_be_numbers(score, column):
    scores = np.zeros((1, 2))
    scores[0, column] = score
    with pytest.raises(UsageError, match="query 'q'"):
        judge_scores({"q": {"a": 1}}, ["q"], ["a", "b"], scores)


def test_minus_infinity_leaves_an_item_out():
    scores = np.array([[0.1, -INF, 0.9, -INF]], dtype=np.float32)
    judgments = judge_scores({"q": {"a": 1, "b": 1}}, ["q"], ["a", "b", "c", "d"], scores)
    assert ranks_of(judgments, "q") == [2, INF]
    assert judgments.ranked.tolist() == [2]


def test_repeated_ids_are_an_error():
    with pytest.raises(UsageError, match="item id 'a' occurs twice"):
        judge_scores({"q": {"a": 1}}, ["q"], ["a", "a"], np.zeros((1, 2)))
    with pytest.raises(UsageError, match="query id 'q' occurs twice"):
        judge_scores({"q": {"a": 1}}, ["q", "q"], ["a"], np.zeros((2, 1)))


@pytest.mark.parametrize("shape", [(1, 2), (3, 2), (2, 1), (2, 3), (2,)])
def test_scores_of_another_shape_are_an_error(shape):
    with pytest.raises(ValueError, match="expected scores"):
        judge_scores({"q": {"a": 1}}, ["q", "r"], ["a", "b"], np.zeros(shape))


def test_arguments_are_left_as_they_were():
    qrels, run = {"q": {"b": 1, "a": 0}}, {"q": {"a": 0.5, "b": 0.7, "c": 0.6}}
    scores = np.array([[0.5, 0.7, 0.6]])
    before = copy.deepcopy((qrels, run, scores))
    judge(qrels, run)
    judge_scores(qrels, ["q"], ["a", "b", "c"], scores)
    assert list(run["q"]) == ["a", "b", "c"]
    assert (qrels, run) == before[:2]
    np.testing.assert_array_equal(scores, before[2])


@st.composite
def matrices(draw):
    """Qrels and scores full of ties, with items and queries that only one side knows."""
    ids = st.text(alphabet="ab19 é中!", min_size=1, max_size=3)
    items = draw(st.lists(ids, min_size=1, max_size=8, unique=True))
    queries = draw(st.lists(ids, min_size=1, max_size=4, unique=True))
    qrels = draw(
        st.dictionaries(
            st.sampled_from([*queries, "unasked"]),
            st.dictionaries(st.sampled_from([*items, "unknown"]), st.integers(-1, 3)),
        )
    )
    qrels["certain"] = {items[0]: 1}
    dtype = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    values = st.sampled_from([-1.5, -0.0, 0.0, 0.5, 0.5000000001, 2.0, -INF])
    scores = draw(
        st.lists(
            st.lists(values, min_size=len(items), max_size=len(items)),
            min_size=len(queries),
            max_size=len(queries),
        )
    )
    return qrels, queries, items, np.array(scores, dtype=dtype)


@given(matrices(), st.integers(1, 4))
def test_a_matrix_gives_the_same_as_a_run(data, step):
    qrels, queries, items, scores = data
    run = {
        query: {
            item: float(score) for item, score in zip(items, row, strict=True) if score > -np.inf
        }
        for query, row in zip(queries, scores, strict=True)
    }
    expected = judge(qrels, run)
    assert_same(judge_scores(qrels, queries, items, scores), expected)
    blocks = (scores[start : start + step] for start in range(0, len(scores), step))
    assert_same(judge_scores(qrels, queries, items, blocks), expected)
    for query, gains in qrels.items():
        ranking = sorted(((s, item) for item, s in run.get(query, {}).items()), reverse=True)
        order = [item for _, item in ranking]
        wanted = [item for item, gain in gains.items() if gain > 0]
        if wanted:
            ranks = sorted(order.index(i) + 1 if i in order else INF for i in wanted)
            assert ranks_of(expected, query) == ranks


def test_large_matrices_agree_with_a_full_sort():
    generator = np.random.default_rng(0)
    items = [f"item {number}" for number in generator.permutation(700)]
    scores = generator.integers(0, 200, (40, 700)).astype(np.float32)
    queries = [str(number) for number in range(40)]
    qrels = {
        query: dict.fromkeys(generator.choice(items, 60, replace=False).tolist(), 1)
        for query in queries
    }
    judgments = judge_scores(qrels, queries, items, scores)
    descending = np.argsort(np.array(items))[::-1]
    for query, row in zip(queries, scores, strict=True):
        order = descending[np.argsort(-row[descending], kind="stable")]
        rank_of = {items[place]: rank for rank, place in enumerate(order, start=1)}
        assert ranks_of(judgments, query) == sorted(rank_of[item] for item in qrels[query])
