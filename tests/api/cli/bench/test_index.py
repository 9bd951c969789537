"""`mmsearch bench index` as users call it."""

import pytest
import typer
from typer.testing import CliRunner

from api.cli.bench.index import index as bench_index
from retrieval.errors import MMSearchError


@pytest.mark.parametrize(
    ("option", "value", "least"),
    [("--rows", 50_000, 50_001), ("--queries", 19, 20), ("--target-recall", 1, 0.9999)],
)
def test_sizes_that_measure_nothing_are_refused(run, tmp_path, option, value, least):
    """Fewer rows would be searched exactly, so that there would be no index."""
    result = run("index", option, value, "--cache", tmp_path / "cache")
    assert result.exit_code == 2
    assert option in result.stderr
    assert str(least) in result.stderr
    assert not (tmp_path / "cache").exists()


def test_the_command_takes_rows_that_get_an_index(tmp_path, monkeypatch):
    app = typer.Typer()
    app.command()(bench_index)
    assert CliRunner().invoke(app, ["--rows", "1000"]).exit_code == 2
    asked = {}

    def record(cache, rows, **options):
        asked.update(options, rows=rows, cache=cache)
        raise MMSearchError("enough")

    monkeypatch.setattr("benchmarks.vectors.lifecycle.measure_index", record)
    CliRunner().invoke(app, ["--rows", "60000", "--cache", str(tmp_path)])
    assert (asked["rows"], asked["removed"], asked["added"]) == (60_000, 6_000, 10_000)
    assert asked["cache"] == tmp_path / "vectors"
    assert asked["target_recall"] == 0.98
