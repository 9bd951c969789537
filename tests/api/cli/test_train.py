"""`mmsearch train reranker` as users call it, on a handful of noisy pictures."""

import json

import pytest
from typer.testing import CliRunner

from api.cli.train import train
from retrieval.rerankers.cross_attention import load_model


@pytest.fixture
def dataset(picture_folder):
    lines = []
    for number, file in enumerate(sorted(picture_folder.rglob("*.png"))):
        file.rename(picture_folder / file.name)
        row = {"image": file.name, "en": [f"noise {number}"]}
        lines += [json.dumps(row | {"split": split}) for split in ("train", "val")]
    (picture_folder / "images").symlink_to(picture_folder)
    (picture_folder / "captions.jsonl").write_text("\n".join(lines))
    return picture_folder


@pytest.mark.parametrize("name", ["reranker", "fusion"])
def test_a_reranker_is_trained_under_its_name_and_its_earlier_one(
    name, dataset, tiny_checkpoint, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    more = [json.dumps({"image": file.name, "de": ["Rauschen"]}) for file in dataset.glob("*.png")]
    (tmp_path / "more.jsonl").write_text("\n".join(more))
    languages = ("--languages", "de", "--captions", "more.jsonl")
    sizes = ("--epochs", "1", "--batch-size", "2", "--width", "8", "--heads", "2")
    where = ("--dataset", str(dataset), "--cache", "cache")
    encoder = ("--encoder", f"local-dir:{tiny_checkpoint}")
    result = CliRunner().invoke(train, [name, *where, *languages, *encoder, *sizes, "--json"])
    assert result.exit_code == 0, result.output
    model = tmp_path / json.loads(result.stdout)["model"]
    assert model == tmp_path / name / f"{name}.safetensors"
    assert load_model(model)[1].encoder == encoder[1]


def test_the_earlier_name_is_hidden():
    listed = CliRunner().invoke(train, ["--help"]).output
    assert "reranker" in listed
    assert "fusion" not in listed
