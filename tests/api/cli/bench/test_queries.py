"""`mmsearch bench queries` as users call it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from api.cli.bench.program import bench
from indexer.pipeline import index_sources
from retrieval.errors import MMSearchError
from retrieval.library import create_library


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--min-relevance", "2"], "--min-relevance"),
        (["--min-relevance", "nan"], "--min-relevance"),
        (["--min-relevance", "some"], "--min-relevance"),
        (["--texts", "some"], "--texts"),
        (["--words", "nowhere.toml"], "nowhere.toml"),
        (["--absent", "nowhere.txt"], "nowhere.txt"),
        (["--library", "no-library"], "no-library"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_read(options, named):
    result = CliRunner().invoke(bench, ["queries", "--dataset", "jsonl:nowhere", *options])
    assert isinstance(result.exception, MMSearchError)
    assert named in str(result.exception)


@pytest.fixture
def dataset(picture_folder):
    """Six pictures, of which the even ones have a dog, by both captions."""
    lines = []
    for number, file in enumerate(sorted(picture_folder.rglob("*.png"))):
        thing = ("dog", "ball")[number % 2]
        captions = [f"a {thing} on the beach", f"the brown {thing}", f"a {thing} , beach"]
        lines.append(json.dumps({"image": file.name, "split": "val", "en": captions}))
        file.rename(picture_folder / file.name)
    (picture_folder / "images").symlink_to(picture_folder)
    (picture_folder / "captions.jsonl").write_text("\n".join(lines))
    return f"jsonl:{picture_folder}"


@pytest.fixture
def options(dataset, tiny_checkpoint, tmp_path):
    return (
        *("queries", "--dataset", dataset, "--encoder", f"local-dir:{tiny_checkpoint}"),
        *("--cache", tmp_path / "cache", "--least", 3, "--captions", 0, "--device", "cpu"),
    )


def test_the_command_writes_what_it_prints(run, options, tmp_path):
    files = tmp_path / "result.json", tmp_path / "table.md"
    absent = tmp_path / "absent.txt"
    absent.write_text("a zebra\n\n a beach ball \n", encoding="utf-8")
    given = ("--json-file", files[0], "--markdown", files[1], "--absent", absent)
    printed = run(*options, *given)
    assert printed.exit_code == 0, printed.exception
    assert "There is no reranker for local-dir:" in printed.stderr
    assert printed.stdout == files[1].read_text(encoding="utf-8")
    body = json.loads(files[0].read_text(encoding="utf-8"))
    assert (body["photos"], body["items"], body["language"]) == (6, 6, "en")
    assert body["min_relevance"] == "auto"
    assert body["dropped"] == ["a beach ball"]
    [once] = body["runs"]  # `auto` is `none` for this encoder
    assert once["reranker"] == "none"
    rows = {row["kind"]: row["queries"] for row in once["kinds"] if row["band"] is None}
    assert rows == {"noun": 2, "scene": 1, "words": 3, "phrase": 2, "all": 5, "absent": 1}
    assert {row["text"]: row["right"] for row in once["queries"]} == {
        "dog": 3,
        "ball": 3,
        "beach": 6,
        "dog beach": 3,
        "ball beach": 3,
    }


def test_a_library_of_ones_own_is_searched(run, options, dataset, tiny_encoder, tmp_path):
    library = create_library(tmp_path / "own", tiny_encoder.space)
    index_sources(library, tiny_encoder, [Path(dataset.removeprefix("jsonl:")) / "images"])
    given = ("--library", library.path, "--min-relevance", "0", "--json")
    result = run(*options, *given)
    assert result.exit_code == 0, result.exception
    body = json.loads(result.stdout)
    assert body["photos"] == 6
    [row] = [row for row in body["runs"][0]["kinds"] if row["kind"] == "all"]
    assert row["shown_recall"] == 1
    assert not list((tmp_path / "cache").glob("library-*"))


def test_no_reranker_at_all_is_refused(run, options):
    result = run(*options, "--rerank", " , ")
    assert isinstance(result.exception, MMSearchError)
    assert "--rerank" in str(result.exception)


def test_a_text_file_that_is_none_is_named(run, options, tmp_path):
    (tmp_path / "absent.txt").write_bytes(b"\xff\xfe\xfa")
    result = run(*options, "--absent", tmp_path / "absent.txt")
    assert isinstance(result.exception, MMSearchError)
    assert "absent.txt" in str(result.exception)
