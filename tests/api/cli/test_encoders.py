"""`mmsearch encoders export` as users call it."""

import json

import numpy as np
import pytest
from PIL import Image

from retrieval.encoders.exports import store


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    place = tmp_path / "cache" / "exports"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "exports_directory", lambda: place)
    return place


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(12):
        values = generator.integers(0, 256, (40, 50, 3), np.uint8)
        Image.fromarray(values).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    return folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("starter",), "'starter' cannot be exported"),
        (("open_clip:ViT-B-32/openai", "--int8"), "go together"),
        (("open_clip:ViT-B-32/openai", "--calibration", "."), "go together"),
        (("open_clip:ViT-B-32/openai", "--dataset", "jsonl:x"), "give that, too"),
        (("open_clip:ViT-B-32/openai@int8",), "without @int8"),
        (("open_clip:ViT-B-32/openai", "--remove"), "is not exported"),
        (("open_clip:x/y", "--int8", "--calibration", "/nowhere"), "nothing at /nowhere"),
    ],
)
def test_what_cannot_be_meant_is_refused(run, options, message):
    result = run("encoders", "export", *options)
    assert result.code
    assert message in result.err


def test_options_of_the_list_are_not_those_of_a_command(run):
    result = run("encoders", "--json", "export", "starter")
    assert result.code == 2
    assert "after the command" in result.err


@pytest.mark.slow
def test_an_encoder_is_exported_used_and_removed(run, tiny_checkpoint, photos, tmp_path):
    name = f"local-dir:{tiny_checkpoint}"
    captions = tmp_path / "captions.jsonl"
    lines = [{"image": f"{n}.png", "split": "test", "captions": [f"noise {n}"]} for n in range(12)]
    captions.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = run(
        *("encoders", "export", name, "--int8", "--calibration", photos, "--json"),
        *("--dataset", f"jsonl:{captions}?images={photos}"),
    )
    assert result.code == 0, result.err
    assert "broken.png" in result.err
    exact, quantised = result.json["exports"]
    assert (exact["precision"], quantised["precision"]) == ("float32", "int8")
    assert quantised["encoder"] == f"{name}@int8"
    assert exact["loss"] is None
    assert quantised["loss"]["photos"] == 3
    assert set(quantised["loss"]["recall"]) == {"float32", "int8"}
    assert exact["measured"]["ratio"] > 0

    listed = run("encoders", "--json").json["exports"]
    assert listed == [exact, quantised]
    text = run("encoders").out
    assert f"{name}@int8" in text
    assert "cosine median" in text

    for each in (name, f"{name}@int8"):
        library = tmp_path / each[-4:]
        done = run("index", photos, "--encoder", each, "--library", library, "--device", "cpu")
        assert done.code == 0, done.err
        assert run("search", "noise", "--library", library, "--device", "cpu").code == 0
    removed = run("encoders", "export", f"{name}@int8", "--remove", "--json").json
    assert removed == {"removed": f"{name}@int8", "bytes": quantised["bytes"]}
    assert run("encoders", "--json").json["exports"] == [exact]
    lost = run("search", "noise", "--library", tmp_path / "int8", "--device", "cpu")
    assert lost.code == 1
    assert "There is no export" in lost.err


def test_too_few_photos_are_refused(run, tiny_checkpoint, photos):
    for number in range(5):
        (photos / f"{number}.png").unlink()
    result = run(
        *("encoders", "export", f"local-dir:{tiny_checkpoint}"),
        *("--int8", "--calibration", photos),
    )
    assert result.code == 2
    assert "7 photos that can be read" in result.err
