"""Metrics by name, and values worked out by hand."""

import math

import numpy as np
import pytest

from benchmarks.metrics import (
    METRIC_NAMES,
    evaluate,
    judge,
    parse_metric,
    per_query,
)
from retrieval.errors import UsageError


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("hit_recall@1", [1, 0, 1, 0, 1]),
        ("hit_recall@2", [1, 0, 1, 1, 1]),
        ("hit_recall@99", [1, 1, 1, 1, 1]),
        ("recall@2", [1, 0, 1, 1, 1]),
        ("mean_rank", [1, 3, 1, 2, 1]),
        ("median_rank", [1, 3, 1, 2, 1]),
        ("mrr", [1, 1 / 3, 1, 1 / 2, 1]),
        ("mrr@2", [1, 0, 1, 1 / 2, 1]),
        ("map", [1, 1 / 3, 1, 1 / 2, 1]),
        ("map@2", [1, 0, 1, 1 / 2, 1]),
        ("map@r", [1, 0, 1, 0, 1]),
        ("r_precision", [1, 0, 1, 0, 1]),
        ("ndcg", [1, 1 / 2, 1, 1 / math.log2(3), 1]),
        ("ndcg@2", [1, 0, 1, 1 / math.log2(3), 1]),
    ],
)
def test_text_to_image_by_hand(text_to_image, name, values):
    np.testing.assert_allclose(per_query(text_to_image, name), values, rtol=1e-12)


# Photo A finds a1 b2 c1 b1 a2, photo B finds a2 b1 c1 b2 a1, photo C finds c1 first.
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("hit_recall@1", [1, 0, 1]),
        ("hit_recall@2", [1, 1, 1]),
        ("recall@1", [1 / 2, 0, 1]),
        ("recall@4", [1 / 2, 1, 1]),
        ("recall@5", [1, 1, 1]),
        ("mean_rank", [1, 2, 1]),
        ("mrr", [1, 1 / 2, 1]),
        ("map", [(1 + 2 / 5) / 2, (1 / 2 + 2 / 4) / 2, 1]),
        ("map@1", [1 / 2, 0, 1]),
        ("map@4", [1 / 2, (1 / 2 + 2 / 4) / 2, 1]),
        ("map@r", [1 / 2, (1 / 2) / 2, 1]),
        ("r_precision", [1 / 2, 1 / 2, 1]),
        (
            "ndcg@5",
            [
                (1 + 1 / math.log2(6)) / (1 + 1 / math.log2(3)),
                (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3)),
                1,
            ],
        ),
        ("ndcg@1", [1, 0, 1]),
    ],
)
def test_image_to_text_by_hand(image_to_text, name, values):
    np.testing.assert_allclose(per_query(image_to_text, name), values, rtol=1e-12)


def test_figures_are_means_but_for_the_median_rank(text_to_image, image_to_text):
    names = ["hit_recall@1", "mean_rank", "median_rank", "map@r"]
    assert evaluate(text_to_image, names) == pytest.approx(
        {"hit_recall@1": 3 / 5, "mean_rank": 8 / 5, "median_rank": 1, "map@r": 3 / 5}, rel=1e-12
    )
    assert evaluate(image_to_text, names) == pytest.approx(
        {"hit_recall@1": 2 / 3, "mean_rank": 4 / 3, "median_rank": 1, "map@r": 1.75 / 3}, rel=1e-12
    )


def test_a_query_that_found_nothing_counts_as_zero_and_its_rank_as_infinite():
    qrels = {"found": {"a": 1}, "missing": {"a": 1}}
    figures = evaluate(judge(qrels, {"found": {"a": 1.0}}), map_names(1))
    assert figures.pop("mean_rank") == math.inf
    assert figures.pop("median_rank") == math.inf
    assert set(figures.values()) == {0.5}


def map_names(k):
    return [name.replace("@k", f"@{k}") for name in METRIC_NAMES]


def test_every_listed_name_is_known(text_to_image):
    assert "recall@k" in METRIC_NAMES
    for name in map_names(3):
        assert parse_metric(name).name == name
        values = per_query(text_to_image, name)
        assert (values.shape, values.dtype) == ((5,), np.float64)


def test_a_parsed_metric_says_which_way_is_better():
    assert parse_metric("map").higher_is_better
    assert not parse_metric("mean_rank").higher_is_better
    assert parse_metric("median_rank").aggregate == "median"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "recall",
        "recall@0",
        "recall@-1",
        "recall@1.5",
        "recall@k",
        "recall@٣",
        "recall@5 ",
        "recall@05",
        "Recall@5",
        "map@R",
        "median_rank@5",
        "accuracy@5",
        "rsum",
    ],
)
def test_unknown_names_are_refused_with_those_known(name):
    with pytest.raises(UsageError, match=r"hit_recall@k, map, map@k, map@r.*median_rank"):
        parse_metric(name)
