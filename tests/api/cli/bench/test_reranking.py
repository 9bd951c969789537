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


@pytest.mark.slow
def test_kinds_are_compared_on_photos(run, shared_data, tiny_checkpoint, tmp_path):
    """On 300 photos of each split, with a small encoder that knows nothing."""
    where = ("--dataset", shared_data / "flickr8k", "--output", tmp_path / "kinds")
    where += ("--encoder", f"local-dir:{tiny_checkpoint}", "--limit", 300)
    sizes = ("--width", 32, "--heads", 2, "--steps", 2, "--epochs", 1, "--batch-size", 4)
    which = ("--kinds", "single-stream:1,cosine", "--rounds", 2, "--candidates", 5)
    written = ("--json-file", tmp_path / "out.json", "--markdown", tmp_path / "out.md")
    arguments = ("reranker-kinds", *where, "--cache", tmp_path / "cache", *sizes, *which, *written)
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    body = json.loads((tmp_path / "out.json").read_text())
    assert json.loads(result.stdout) == body
    assert [each["plan"]["name"] for each in body["kinds"]] == ["single-stream:1", "cosine"]
    assert all(len(each["text_to_image"]) == 1500 for each in body["kinds"])
    table = (tmp_path / "out.md").read_text()
    assert "| single-stream:1 (width 32) " in table


@pytest.mark.parametrize("wrong", [("--kinds", "cross,sum"), ("--seconds", "0"), ("--kinds", ",")])
def test_kinds_that_do_not_exist_are_not_compared(run, wrong, tmp_path):
    result = run("reranker-kinds", "--dataset", tmp_path, "--output", tmp_path / "kinds", *wrong)
    assert isinstance(result.exception, UsageError)
    assert not (tmp_path / "kinds").exists()


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
