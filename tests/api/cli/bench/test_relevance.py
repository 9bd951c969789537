"""`mmsearch bench relevance` as users call it."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from api.cli.bench.program import bench
from retrieval.errors import MMSearchError


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--photos", "some"], "--photos"),
        (["--thresholds", "2"], "--thresholds"),
        (["--thresholds", "0.5,0"], "--thresholds"),
        (["--thresholds", "nan"], "--thresholds"),
        (["--sizes", "many"], "--sizes"),
        (["--output", "curve.txt"], "curve.txt"),
        (["--calibration", "nowhere.json"], "nowhere.json"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_read(options, named):
    result = CliRunner().invoke(bench, ["relevance", "--dataset", "jsonl:nowhere", *options])
    assert isinstance(result.exception, MMSearchError)
    assert named in str(result.exception)


def test_the_command_prints_what_was_measured(tmp_path, shared_data):
    folder = tmp_path / "few"
    (folder / "images").mkdir(parents=True)
    source = shared_data / "imagenet-samples"
    lines = (source / "captions.jsonl").read_text(encoding="utf-8").splitlines()[:6]
    for line in lines:
        name = json.loads(line)["image"]
        (folder / "images" / name).write_bytes((source / "images" / name).read_bytes())
    (folder / "captions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    command = ["relevance", "--dataset", f"jsonl:{folder}", "--cache", str(tmp_path / "cache")]
    command += ["--photos", "all", "--no-outside", "--searches", "20"]
    drawn = CliRunner().invoke(bench, [*command, "--output", str(tmp_path / "curve.png")])
    assert drawn.exit_code == 0, drawn.exception
    assert "text queries: 20 simulated searches" in drawn.stdout
    assert (tmp_path / "curve.png").exists()
    printed = json.loads(CliRunner().invoke(bench, [*command, "--json"]).stdout)
    assert printed["photos"] == 6
    assert np.isfinite(printed["quality"]["text"]["brier"])


def test_each_size_of_library_has_a_row_for_each_threshold(run, captioned, tmp_path):
    result = run(
        *("relevance", "--dataset", captioned, "--photos", "all", "--no-outside"),
        *("--sizes", "3", "--thresholds", "0.1,0.5", "--searches", 20, "--json"),
        *("--cache", tmp_path / "cache"),
    )
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["thresholds"]
    assert [(row["rows"], row["threshold"]) for row in rows] == [
        (size, threshold) for size in (3, 6) for threshold in (0.1, 0.5)
    ]
