"""`mmsearch duplicates` as users call it."""

import json
import os
import sys
from pathlib import Path

import pytest
import typer

from api.cli.duplicates import duplicates
from indexer.pipeline import index_sources
from retrieval.errors import UsageError

pytestmark = pytest.mark.slow


@pytest.fixture
def library(library_with_copies):
    return library_with_copies


@pytest.fixture
def run(library, capsys):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(duplicates)

    def run(*arguments: object) -> str:
        arguments = ("--library", library.path, *arguments)
        app(list(map(str, arguments)), standalone_mode=False)
        return capsys.readouterr().out

    return run


def test_json_names_both_kinds(run, library):
    answer = json.loads(run("--threshold", 0, "--limit", 2, "--json"))
    assert answer["library"] == str(library.path)
    assert answer["space"] == library.space().id
    assert answer["threshold"] == 0
    group = answer["exact"][0]
    assert group["bytes"] == group["spare_bytes"] > 0
    assert [Path(path).name for path in group["paths"]] == ["copy.png", "picture-0.png"]
    assert answer["spare_bytes"] == sum(group["spare_bytes"] for group in answer["exact"])
    assert len(answer["near"]) == 2 < answer["near_found"]
    best = answer["near"][0]
    assert best["similarity"] > answer["near"][1]["similarity"]
    assert (best["a"]["width"], best["a"]["height"]) == (96, 80)
    assert (best["b"]["width"], best["b"]["height"]) == (48, 40)
    assert best["a"]["path"].endswith("larger.png")


def test_exact_only_says_that_it_did_not_look_for_similar_ones(run):
    answer = json.loads(run("--exact-only", "--json"))
    assert len(answer["exact"]) == 2
    assert answer["near"] is answer["threshold"] is answer["near_found"] is None
    assert "near-duplicate" not in run("--exact-only")
    with pytest.raises(UsageError, match="not both"):
        run("--exact-only", "--frames")


def test_the_table_shows_sizes_and_similarity(run):
    lines = run("--threshold", 0, "--limit", 1).splitlines()
    assert lines[0].startswith("4 files in 2 groups of identical files")
    assert "near-duplicate pairs of 7 images (similarity at least 0)" in lines[5]
    assert "96 x 80" in lines[6]
    assert lines[6].endswith("larger.png")
    assert "48 x 40" in lines[7]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_valid_text_are_escaped(run, library, picture_folder, tiny_encoder):
    odd = os.fsencode(picture_folder) + b"/copy \xff.txt"
    with open(odd, "wb") as file:  # noqa: PTH123
        file.write(b"The same words.")
    index_sources(library, tiny_encoder, [picture_folder], workers=1)
    paths = json.loads(run("--exact-only", "--json"))["exact"][1]["paths"]
    assert paths[2].endswith("copy \\xff.txt")
    assert "copy \\xff.txt" in run("--exact-only")
