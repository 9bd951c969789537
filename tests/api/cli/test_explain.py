"""`mmsearch explain` and `GET /v1/explain`, from the question to the numbers and the picture."""

import io
import json
import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from starlette.testclient import TestClient

from api import cli
from api.http.app import create_app
from indexer.pipeline import index_sources
from retrieval.encoders.registry import load_encoder
from retrieval.library import create_library, open_library
from retrieval.recognition.base import Recognized, Segment, Task
from retrieval.rerankers import cross_attention as reranker
from retrieval.rerankers.cross_attention_model import CrossAttentionModel
from retrieval.rerankers.layers import CrossAttentionConfig

pytestmark = pytest.mark.slow

TEXT = "a cup of coffee on a table"


@pytest.fixture(scope="module")
def starter():
    """The encoder that the command takes by default."""
    return load_encoder("starter", "cpu")


@pytest.fixture(scope="module", autouse=True)
def fusion_model(tmp_path_factory, starter):
    """The cross-attention model shipped for starter, or a random one in a checkout without it."""
    with pytest.MonkeyPatch.context() as patch:
        if not reranker.SHIPPED.exists():
            file = tmp_path_factory.mktemp("fusion") / "random.safetensors"
            with torch.random.fork_rng():
                torch.manual_seed(0)
                config = CrossAttentionConfig(734, 384, image_positions=81, width=32, heads=4)
                model = CrossAttentionModel(config)
            card = reranker.CrossAttentionCard("starter", starter.space.id, 0.1, 100)
            reranker.save_model(file, model, card)
            patch.setattr(reranker, "SHIPPED", file)
        yield reranker.SHIPPED


@pytest.fixture
def run(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mmsearch", "explain", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def served(tmp_path_factory, starter, photos):
    """A service over a starter library of real photos, two of which are lost after indexing."""
    folder = tmp_path_factory.mktemp("photos")
    for name in ("coffee", "cat", "astronaut", "rocket"):
        shutil.copy(photos[name], folder / f"{name}{photos[name].suffix}")
    library = create_library(tmp_path_factory.mktemp("served") / "library", starter.space)
    index_sources(library, starter, [folder])
    with library.catalog.snapshot() as snapshot:
        items = {
            name: snapshot.item(item_id)
            for item_id in range(1, 5)
            for name in ("coffee", "cat", "astronaut", "rocket")
            if name in snapshot.item(item_id).path
        }
    (folder / "astronaut.png").unlink()
    (folder / "rocket.jpg").write_bytes(b"no image any more")
    with TestClient(create_app(library.path, device="cpu"), base_url="http://localhost") as client:
        yield client, {name: item.id for name, item in items.items()}, library.path


def require_valid(body: dict, size: tuple[int, int]) -> None:
    """What the reference promises of an explanation of an image of a size."""
    assert -1 <= body["similarity"] <= 1
    assert np.isfinite(body["match"])
    left, top, right, bottom = body["view"]
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    assert [word["word"] for word in body["words"]] == body["text"].split()
    for word in body["words"]:
        assert body["text"][word["start"] : word["end"]] == word["word"]
        assert np.isfinite(word["contribution"])
    for heat in (body["heat"], *(word["heat"] for word in body["words"])):
        assert np.array(heat).min() >= 0
        assert np.array(heat).sum() == pytest.approx(1, abs=1e-3)


def test_the_command_prints_words_largest_contribution_first(run, photos):
    code, out, err = run(TEXT, photos["coffee"], "--device", "cpu")
    assert code == 0, err
    first, *lines = out.splitlines()
    assert first.startswith("match ")
    assert "similarity 0." in first
    assert sorted(line.split()[0] for line in lines) == sorted(TEXT.split())
    contributions = [float(line.split()[1]) for line in lines]
    assert contributions == sorted(contributions, reverse=True)
    bars = [line.count("█") for line in lines]
    assert max(bars) == 30
    assert bars[int(np.argmax(np.abs(contributions)))] == 30


def test_the_command_and_the_service_agree(run, served, photos):
    client, items, library = served
    code, out, err = run(TEXT, photos["coffee"], "--json", "--device", "cpu")
    assert code == 0, err
    printed = json.loads(out)
    with Image.open(photos["coffee"]) as image:
        require_valid(printed, image.size)
    answer = client.get("/v1/explain", params={"text": TEXT, "item": items["coffee"]})
    assert answer.status_code == 200
    require_same(answer.json(), printed)
    code, out, err = run(TEXT, photos["coffee"], "--json", "--library", library, "--device", "cpu")
    assert code == 0, err
    require_same(json.loads(out), printed)


def test_recognised_lines_with_words_of_the_text_are_told(run, served, tmp_path):
    client, items, library = served
    box = ((0.1, 0.2), (0.6, 0.2), (0.6, 0.3), (0.1, 0.3))
    lines = [Segment("Coffee to go", 0.9, box), Segment("Open")]
    with open_library(library).catalog.snapshot() as snapshot:
        item = snapshot.item(items["coffee"])
    with open_library(library).catalog.transaction() as transaction:
        transaction.record_enrichments(Task.OCR, "m", {item.picture_key: Recognized(lines)})
    asked = {"text": "a cup of coffee", "item": item.id}
    line = {
        "task": "ocr",
        "line": "Coffee to go",
        "found_words": ["coffee"],
        "confidence": 0.9,
        "box": [[0.1, 0.2], [0.6, 0.2], [0.6, 0.3], [0.1, 0.3]],
    }
    assert client.get("/v1/explain", params=asked).json()["found_text"] == [line]
    code, out, err = run("coffee", item.path, "--library", library, "--device", "cpu")
    assert code == 0, err
    assert out.splitlines()[-1] == "  in the picture: Coffee to go"
    code, out, err = run("coffee", item.path, "--json", "--device", "cpu")
    assert json.loads(out)["found_text"] == []


def test_text_is_recognised_when_asked_for(run, tmp_path):
    pytest.importorskip("rapidocr", reason="the extra `ocr` is not installed")
    picture = Image.new("RGB", (400, 200), "white")
    ImageDraw.Draw(picture).text((40, 60), "COFFEE BAR", "black", ImageFont.load_default(48))
    picture.save(tmp_path / "bar.png")
    code, out, err = run("coffee", tmp_path / "bar.png", "--ocr", "--json", "--device", "cpu")
    assert code == 0, err
    [found] = json.loads(out)["found_text"]
    assert (found["line"], found["found_words"]) == ("COFFEE BAR", ["coffee"])


def require_same(one: dict, other: dict) -> None:
    for name in ("text", "view"):
        assert one[name] == other[name]
    for name in ("match", "similarity", "heat"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-2, atol=1e-3)


def test_both_draw_the_same_picture(run, served, photos, tmp_path):
    client, items, _ = served
    code, _, err = run(TEXT, photos["coffee"], "-o", tmp_path / "map.png", "--device", "cpu")
    assert code == 0, err
    answer = client.get(
        "/v1/explain", params={"text": TEXT, "item": items["coffee"], "format": "png"}
    )
    assert answer.headers["content-type"] == "image/png"
    with Image.open(tmp_path / "map.png") as drawn, Image.open(io.BytesIO(answer.content)) as got:
        assert drawn.size == got.size
        difference = np.asarray(drawn, np.int16) - np.asarray(got, np.int16)
    assert np.abs(difference).mean() < 1


def test_odd_words_are_printed_harmlessly(run, photos):
    code, out, err = run("雪の中の犬 собака \x1b[31mred", photos["cat"], "--device", "cpu")
    assert code == 0, err
    assert "\x1b" not in out
    assert "собака" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["  ", "PHOTO"], "text is empty"),
        (["a cat", "nowhere.png"], "The image nowhere.png cannot be read: No such file"),
        (["a cat", "."], "The image . cannot be read: Is a directory"),
        (["a cat", "BROKEN"], "not an image of a known format"),
        (["a cat", "PHOTO", "-o", "map.xyz"], "must end in .png"),
        (["a cat", "PHOTO", "-o", "nowhere/map.png"], "the directory nowhere does not exist"),
        (["a cat", "PHOTO", "-o", "PHOTO"], "choose another output file"),
        (["a cat", "PHOTO", "--library", ".", "--encoder", "starter"], "not both"),
        (["a cat", "PHOTO", "--encoder", "frob"], "no encoder 'frob'"),
        (["a cat", "PHOTO", "--rerank", "frob"], "no reranker 'frob'"),
        (["a cat", "PHOTO", "--rerank", "none"], "Only a cross-attention model"),
        (["a cat", "PHOTO", "--encoder", "TINY"], "none for 'local-dir"),
    ],
)
def test_what_cannot_be_explained_is_told(
    run, tmp_path, monkeypatch, photos, tiny_checkpoint, arguments, message
):
    monkeypatch.chdir(tmp_path)
    photo = tmp_path / "photo.png"
    shutil.copy(photos["cat"], photo)
    (tmp_path / "broken.png").write_bytes(b"no")
    before = photo.read_bytes()
    names = {"PHOTO": photo, "BROKEN": "broken.png", "TINY": f"local-dir:{tiny_checkpoint}"}
    code, out, err = run(*(names.get(argument, argument) for argument in arguments))
    assert code == 2
    assert message in err
    assert not out
    assert photo.read_bytes() == before


def test_a_missing_library_is_told(run, photos, tmp_path):
    code, _, err = run("a cat", photos["cat"], "--library", tmp_path / "none")
    assert code == 1
    assert str(tmp_path / "none") in err
