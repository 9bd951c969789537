"""`mmsearch train reranker` as users call it, on a handful of noisy pictures."""

import json

import pytest
from typer.testing import CliRunner

from api.cli.train import train
from retrieval.encoders.heads import ImageHead, TextHead, load_heads, save_heads
from retrieval.errors import UsageError
from retrieval.rerankers.cross_attention import CrossAttentionCard, load_model, save_model
from retrieval.rerankers.cross_attention_model import CrossAttentionModel
from retrieval.rerankers.layers import CrossAttentionConfig
from retrieval.rerankers.registry import load_reranker


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


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "layers"), [("single-stream", (2, 2)), ("cosine", (1, 0))])
def test_each_kind_has_layers_and_objectives_of_its_own(
    kind, layers, dataset, tiny_checkpoint, tmp_path
):
    objectives = ("--listwise-weight", "0.5", "--contrastive-weight", "0.1", "--sharing", "soft")
    if kind == "single-stream":
        objectives += ("--masked-word-weight", "0.3", "--masked-share", "0.5")
        objectives += ("--alignment-weight", "0.1", "--tie-weight", "0.01")
    sizes = ("--epochs", "1", "--batch-size", "2", "--width", "8", "--heads", "2", "--limit", "4")
    where = ("--dataset", str(dataset), "--cache", str(tmp_path), "--output", str(tmp_path / "out"))
    encoder = ("--encoder", f"local-dir:{tiny_checkpoint}")
    called = ["reranker", "--kind", kind, *where, *sizes, *encoder, *objectives, "--json"]
    result = CliRunner().invoke(train, called)
    assert result.exit_code == 0, result.output
    body = json.loads(result.stdout)
    config = load_model(tmp_path / "out" / "reranker.safetensors")[0].config
    assert (config.kind, (config.depth, config.feed_forward)) == (kind, layers)
    further = {"masked_word", "alignment"} if kind == "single-stream" else set()
    names = {"listwise", "matching", "contrastive", "tie"} | further
    assert body["epochs"][0]["losses"].keys() == names


def test_a_kind_without_words_that_saw_the_image_is_refused(dataset, tmp_path):
    called = ["reranker", "--dataset", str(dataset), "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(train, [*called, "--kind", "gated", "--alignment-weight", "1"])
    assert isinstance(result.exception, UsageError)
    assert "cross or single-stream" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_a_reranker_is_exported(tiny_encoder, tmp_path):
    config = CrossAttentionConfig(64, 32, image_positions=16, width=8, heads=2, feed_forward=0)
    card = CrossAttentionCard(tiny_encoder.space.encoder, tiny_encoder.space.id, 0.5, 3)
    save_model(tmp_path / "model", CrossAttentionModel(config), card)
    given = ["--reranker", str(tmp_path / "model"), "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(train, ["export", *given, "--json"])
    assert result.exit_code == 0, result.output
    body = json.loads(result.stdout)
    assert body["bytes"] == {
        file.name: file.stat().st_size for file in (tmp_path / "out").glob("*.onnx")
    }
    exported, original = (
        load_reranker(f"cross-attention:{path}", tiny_encoder)
        for path in (tmp_path / "out", tmp_path / "model")
    )
    assert exported.name == f"fusion:{tmp_path / 'out'}"
    assert exported.identity == original.identity
    assert (exported.depth, exported.match_weight) == (3, 0.5)


def test_heads_are_averaged(tmp_path):
    for name in "ab":
        save_heads(tmp_path / name, ImageHead(8), TextHead())
    files = [str(tmp_path / name) for name in "ab"]
    where = ["--output", str(tmp_path / "mean"), "--json"]
    result = CliRunner().invoke(train, ["average", *files, "--weights", "0.2, 0.8", *where])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"heads": str(tmp_path / "mean")}
    load_heads(tmp_path / "mean")
    for wrong in ("a,b", "1"):
        result = CliRunner().invoke(train, ["average", *files, "--weights", wrong, *where])
        assert isinstance(result.exception, UsageError)


@pytest.mark.parametrize(
    "given",
    [[], ["--heads", "a", "--reranker", "b"], ["--reranker", "b", "--tower", "c"]],
)
def test_what_to_export_is_said_once(given):
    result = CliRunner().invoke(train, ["export", *given])
    assert isinstance(result.exception, UsageError)


def test_the_earlier_name_is_hidden():
    listed = CliRunner().invoke(train, ["--help"]).output
    assert "reranker" in listed
    assert "fusion" not in listed
