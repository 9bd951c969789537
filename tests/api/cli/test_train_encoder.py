"""`mmsearch train encoder` as users call it, on a handful of noisy pictures."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from api.cli.train import train
from api.cli.train_encoder import (
    parse_interpolation,
    parse_layers,
    parse_weights,
)
from indexer.pipeline import index_sources
from retrieval.encoders.registry import load_encoder
from retrieval.library import create_library

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def table(picture_folder):
    lines = ["image,text"]
    for number, picture in enumerate(sorted(picture_folder.rglob("*.png"))):
        name = picture.relative_to(picture_folder)
        lines += [f"{name},noise number {number}", f"{name},{number} is its number"]
    path = picture_folder / "pictures.csv"
    path.write_text("\n".join(lines))
    return f"csv:{path}"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory of its own, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def run(*arguments, checkpoint):
    options = ["--duplicates", "ignore"] if "--duplicates" not in arguments else []
    options += ["--encoder", f"local-dir:{checkpoint}", "--batch-size", "4", "--device", "cpu"]
    return CliRunner().invoke(train, ["encoder", *options, *map(str, arguments)])


@pytest.mark.slow
def test_an_encoder_is_trained_measured_and_indexed_with(
    here, table, picture_folder, tiny_checkpoint
):
    given = ("--dataset", table, "--epochs", 1, "--output", "run", "--also-measure", table)
    result = run(*given, "--learning-rate", 1e-3, "--json", checkpoint=tiny_checkpoint)
    assert result.exit_code == 0, result.output
    body = json.loads(result.stdout)
    assert body["encoder"] == "local-dir:run/encoder"
    assert json.loads((here / "run" / "result.json").read_text()) == body
    datasets = {row["dataset"] for row in body["figures"]}
    assert datasets == {"pictures (validation)", "pictures (all, other)"}
    assert "Before, pictures (validation)" in result.stderr
    assert "| text to image R@1 |" in (here / "run" / "README.md").read_text()
    encoder = load_encoder(body["encoder"], "cpu")
    assert encoder.space.id != load_encoder(f"local-dir:{tiny_checkpoint}", "cpu").space.id
    library = create_library(here / "library", encoder.space)
    assert index_sources(library, encoder, [picture_folder]).added > 0


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_and_says_how_to_go_on(here, table, tiny_checkpoint):
    code = "from api.cli import main; main()"
    options = ["--encoder", f"local-dir:{tiny_checkpoint}", "--batch-size", "4", "--output", "run"]
    options += ["--duplicates", "ignore"]
    command = ["train", "encoder", "--dataset", table, *options, "--patience", "999"]
    with subprocess.Popen(
        [sys.executable, "-c", code, *command, "--epochs", "999"],
        cwd=here,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        seen = next((line for line in process.stderr if line.startswith("epoch 1")), None)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert seen is not None
    assert process.returncode == 130, rest
    assert "--resume" in rest
    assert (here / "run" / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--interpolation", "most"), "--interpolation"),
        (("--layers", "a"), "--layers"),
        (("--layers", "99", "--mode", "partial"), "layers"),
        (("--weights", "1,2"), "--weights"),
        (("--weights", "x"), "--weights"),
        (("--learning-rate", "-1"), "--learning-rate"),
        (("--augmentation", "heavy"), "--augmentation"),
        (("--duplicates", "keep"), "--duplicates"),
        (("--mode", "half"), "mode"),
        (("--loss", "mse"), "loss"),
        (("--precision", "int4"), "precision"),
        (("--dimension", "8"), "dimension"),
        (("--balance", "1"), "classes"),
        (("--batch-size", "999"), "smaller batch"),
        (("--pairs-an-epoch", "9"), "--pairs-an-epoch"),
        (("--validation", "csv:nowhere.csv"), "nowhere.csv"),
        (("--dataset", "webdataset:nowhere.tar"), "--validation"),
        (("--languages", "xx"), "xx"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, said, here, table, tiny_checkpoint):
    result = run("--dataset", table, *options, checkpoint=tiny_checkpoint)
    assert result.exit_code != 0
    assert said in str(result.exception) + result.output
    assert not isinstance(result.exception, TypeError | ValueError | KeyError)


def test_shares_layers_and_weights_are_parsed():
    assert [parse_interpolation(text) for text in ("auto", "0", "1", "0.5")] == [None, 0, 1, 0.5]
    assert [parse_layers(text) for text in ("", "3", "0,6")] == [None, (3, 3), (0, 6)]
    assert [parse_weights(text, 2) for text in ("", "1, 3")] == [None, [1.0, 3.0]]
