"""`mmsearch bench vectors` as users call it."""

import json

import pytest
import typer
from typer.testing import CliRunner

from api.cli.bench.vectors import vectors
from retrieval.errors import UsageError


@pytest.fixture
def run(tmp_path):
    app = typer.Typer()
    app.command()(vectors)

    def run(*arguments: object):
        common = ["--cache", tmp_path / "cache", "--queries", 100, "--dimension", 32]
        return CliRunner().invoke(app, [str(one) for one in (*common, *arguments)])

    return run


@pytest.mark.slow
def test_tables_plots_and_results_are_written(run, tmp_path):
    output = tmp_path / "out"
    result = run("--rows", 1000, "--methods", "exact", "--threads", 1, "--output", output)
    assert result.exit_code == 0, result.output
    assert "clip-1000x32-100-seed0: 1,000 x 32" in result.output
    assert "recall@10 of at least 0.95" in result.output
    assert "recall@100 of at least 0.95" in result.output
    written = json.loads((output / "results.json").read_text(encoding="utf-8"))
    assert written["methods"][0]["name"] == "exact"
    assert (output / "recall-100-1-thread.svg").exists()


@pytest.mark.slow
def test_growth_is_predicted(run):
    arguments = ("--growth", "300,600", "--methods", "exact", "--threads", 1, "--json")
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert [cost["rows"] for cost in told["growth"]["costs"]] == [300, 600, 100_000_000]
    assert len(told["results"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--methods", "nosuch"), "There is no method 'nosuch'"),
        (("--threads", "0"), "--threads takes comma-separated integers from 1"),
        (("--growth", "1000"), "at least two"),
        (("--growth", "1000,2000", "--data", "jsonl:x"), "--data synthetic"),
        (("--data", "synthetic:nosuch"), "synthetic:clip"),
    ],
)
def test_wrong_options_are_named(run, arguments, message):
    result = run(*arguments)
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)


@pytest.mark.slow
def test_photos_of_all_splits_are_measured(run, shared_data, tmp_path):
    """On a few of the shared photos, which have two splits and two languages."""
    folder = tmp_path / "photos"
    (folder / "images").mkdir(parents=True)
    lines = (shared_data / "flickr8k" / "captions.jsonl").read_text(encoding="utf-8").splitlines()
    by_split: dict[str, list[str]] = {}
    for line in lines:
        by_split.setdefault(json.loads(line)["split"], []).append(line)
    chosen = [line for some in by_split.values() for line in some[:60]]
    (folder / "captions.jsonl").write_text("\n".join(chosen), encoding="utf-8")
    for line in chosen:
        name = json.loads(line)["image"]
        (folder / "images" / name).symlink_to(shared_data / "flickr8k" / "images" / name)
    data = ("--data", f"jsonl:{folder}", "--methods", "exact", "--threads", 1)
    refused = run(*data)
    assert "needs a split. There are: train (60), val (60)" in str(refused.exception)
    result = run(*data, "--split", "all", "--language", "zh", "--json")
    assert result.exit_code == 0, result.output
    [told] = json.loads(result.stdout)["results"]
    assert told["rows"] == 105
    assert "-all-zh-starter-" in told["workload"]
