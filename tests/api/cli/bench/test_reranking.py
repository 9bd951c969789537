"""`mmsearch bench reranking` and `explanations` as users call them."""

import json

import pytest

from retrieval.errors import UsageError


def test_the_cost_of_reranking_is_measured(run, picture_folder, random_fusion):
    arguments = ("reranking", picture_folder, "--rerank", random_fusion, "--candidates", 4)
    result = run(*arguments, "--rounds", 3)
    assert result.exit_code == 0, result.output
    for words in ("4 candidates, 3 rounds, medians", "encode the query", "ratio", "images/s"):
        assert words in result.output
    body = json.loads(run(*arguments, "--rounds", 2, "--json").stdout)
    assert body["encoder"] == "starter"
    assert len(body["encode_ms"]) == len(body["rerank_ms"]) == 2
    assert body["ratio"] == body["median_rerank_ms"] / body["median_encode_ms"]


def test_explanations_are_tested_by_painting_over(run, captioned, random_fusion):
    result = run(
        *("explanations", "--dataset", captioned, "--rerank", random_fusion, "--limit", 2),
        *("--share", 0.5, "--json"),
    )
    assert result.exit_code == 0, result.output
    body = json.loads(result.stdout)
    assert (body["photos"], body["share"], body["reranker"]) == (2, 0.5, random_fusion)
    assert body["difference"] == pytest.approx(body["attended"] - body["random"])
    low, high = body["interval"]
    assert low <= body["difference"] <= high


def test_without_a_reranker_nothing_is_explained(run, captioned):
    with pytest.raises(UsageError, match="matches cannot be explained"):
        raise run("explanations", "--dataset", captioned, "--rerank", "none").exception
