"""`mmsearch train all` on a handful of noisy pictures: its stages, and what a second call skips."""

import json

import pytest
from typer.testing import CliRunner

from api.cli.train import train
from retrieval.encoders.registry import load_encoder
from retrieval.rerankers.registry import load_reranker


@pytest.mark.slow
def test_an_encoder_and_a_reranker_for_it(picture_folder, tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    lines = ["image,text"]
    for number, picture in enumerate(sorted(picture_folder.rglob("*.png"))):
        lines.append(f"{picture.relative_to(picture_folder)},noise number {number}")
    (picture_folder / "pictures.csv").write_text("\n".join(lines))
    command = ["all", "--dataset", f"csv:{picture_folder / 'pictures.csv'}", "--reranker"]
    command += ["--encoder", f"local-dir:{tiny_checkpoint}", "--output", "run", "--epochs", "1"]
    command += ["--batch-size", "4", "--device", "cpu", "--json"]
    first = CliRunner().invoke(train, command)
    assert first.exit_code == 0, first.output
    body = json.loads(first.stdout)
    # Noise cannot be calibrated, and the stages after that are run all the same.
    assert body["relevance"] is None
    assert "Relevance is not calibrated" in first.stderr
    encoder = load_encoder(body["encoder"], "cpu")
    reranker = load_reranker(f"cross-attention:{body['reranker']}", encoder)
    assert reranker is not None
    again = CliRunner().invoke(train, [*command, "--resume"])
    assert again.exit_code == 0, again.output
    assert "epoch 1" not in again.stderr
    assert json.loads(again.stdout)["reranked_mean_recall"] == body["reranked_mean_recall"]
