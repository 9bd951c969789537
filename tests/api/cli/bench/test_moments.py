"""`mmsearch bench moments` as users call it."""

import json
from pathlib import Path

import pytest
from PIL import Image

from retrieval.errors import UsageError

pytestmark = pytest.mark.slow

COLOURS = ["red", "green", "blue", "white", "black", "yellow"]


def test_videos_of_the_photos_are_searched(run, captioned, tmp_path):
    files = sorted(Path(captioned.partition(":")[2]).glob("*.png"))
    for file, colour in zip(files, COLOURS, strict=True):
        Image.new("RGB", (160, 120), colour).save(file)
    chosen = ["moments", "--dataset", captioned, "--videos", "2", "--shots", "3"]
    markdown = tmp_path / "tables.md"
    result = run(*chosen, "--lengths", "2,2.5", "--json", "--markdown", markdown)
    assert result.exit_code == 0, result.output
    body = json.loads(result.stdout)
    assert (body["videos"], body["shots"], body["queries"]) == (2, 6, 12)
    assert 6 <= body["items"] <= 9
    assert body["clips"] == 1.0
    assert [each["pooling"] for each in body["pooled"]] == ["max", "attention", "mean"]
    assert all(each["recall_at_5"] == 1.0 for each in body["pooled"])
    assert 0 <= body["at_start"] <= body["in_shot"] <= 1
    assert "| R@1 |" in markdown.read_text()


@pytest.mark.parametrize("lengths", ["5,2", "1,2,3"])
def test_wrong_lengths_are_refused_before_anything_is_read(run, lengths):
    result = run("moments", "--dataset", "jsonl:nowhere", "--lengths", lengths)
    assert isinstance(result.exception, UsageError)
    assert "--lengths" in str(result.exception)


def test_too_few_photos_are_refused(run, captioned):
    result = run("moments", "--dataset", captioned, "--shots", "7")
    assert isinstance(result.exception, UsageError)
    assert "7 shots" in str(result.exception)
