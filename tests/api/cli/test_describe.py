import pytest
from PIL import Image

from retrieval.library import open_library
from retrieval.recognition.captions.captioner import Captioner

RED = Image.new("RGB", (60, 40), "red")


@pytest.fixture
def red(tmp_path):
    file = tmp_path / "red.png"
    RED.save(file)
    return file


def test_without_a_model_it_is_said_what_to_give(run, red, monkeypatch):
    monkeypatch.delenv("MMSEARCH_CAPTIONER", raising=False)
    for command in (["describe", red], ["ask", red, "how many dogs?"]):
        result = run(*command)
        assert result.code == 2
        assert "--model NAME_OR_DIR" in result.err
        assert "mmsearch config set captioner" in result.err


@pytest.mark.parametrize("words", [["how many dogs?"], ["how many dogs?", "RED"]])
def test_the_question_comes_last(run, red, words):
    result = run("ask", *(red if word == "RED" else word for word in words))
    assert result.code == 2
    assert "the question last" in result.err


@pytest.mark.slow
def test_a_described_image_and_several_with_one_that_is_none(run, red, tmp_path, tiny_captioner):
    model = tiny_captioner("qwen2-vl")
    [text] = Captioner(str(model), device="cpu").caption([RED], new_tokens=6)
    options = ("--model", model, "--max-tokens", 6, "--device", "cpu")
    assert run("describe", red, *options).out == f"{text}\n"
    (tmp_path / "broken.png").write_bytes(b"no image")
    result = run("describe", red, tmp_path / "broken.png", tmp_path / "nothing.png", *options)
    assert result.code == 1
    assert result.out == f"{red}: {text}\n"
    assert f"{tmp_path / 'broken.png'}: not an image of a known format." in result.err
    assert f"{tmp_path / 'nothing.png'}: No such file or directory." in result.err


@pytest.mark.slow
def test_a_question_about_items_with_the_configured_model(
    run, indexed, monkeypatch, tmp_path, tiny_captioner
):
    monkeypatch.setenv("MMSEARCH_CONFIG", str(tmp_path / "config.toml"))
    model = tiny_captioner("qwen2-vl")
    assert run("config", "set", "captioner", model).code == 0
    monkeypatch.setenv("MMSEARCH_CAPTIONER", "")  # taken back after the test
    monkeypatch.delenv("MMSEARCH_CAPTIONER")
    library = open_library(tmp_path / "library")
    with library.catalog.snapshot() as snapshot:
        ids = [one for one, *_ in snapshot.item_places(library.space().id)][:2]
    result = run("ask", *ids, "how many dogs ?", "--max-tokens", 6, "--json", "--device", "cpu")
    assert result.code == 0, result.err
    body = result.json
    assert (body["model"], body["question"]) == (str(model), "how many dogs ?")
    assert [one["image"] for one in body["answers"]] == [str(one) for one in ids]
    assert all(one["error"] is None for one in body["answers"])
    assert body["answers"][0]["text"]
    assert run("ask", 10**9, "what ?").code == 1


@pytest.mark.slow
def test_captions_of_a_library_are_kept_found_and_told(
    run, encoder_name, picture_folder, tiny_captioner
):
    model = tiny_captioner("qwen2-vl")
    indexed = run(
        *("index", picture_folder, "--encoder", encoder_name, "--captions", model),
        *("--device", "cpu", "--json"),
    )
    assert indexed.code == 0, indexed.err
    [told] = indexed.json["texts"]
    assert (told["task"], told["failed"]) == ("caption", 0)
    assert told["looked_at"] == told["with_text"] > 1
    picture = min(picture_folder.rglob("*.png"))
    with Image.open(picture) as image:
        [caption] = Captioner(str(model), device="cpu").caption([image.convert("RGB")])
    found = run("search", caption, "--mode", "text", "--modality", "image", "--json").json["hits"]
    assert str(picture) in [hit["path"] for hit in found]
    passages = run("search", caption, "--modality", "text", "--json").json["hits"]
    assert {hit["found_by"] for hit in passages} == {"caption"}
    assert any(hit["path"] == str(picture) and hit["text"] in caption for hit in passages)
    again = run("index", "--device", "cpu", "--json").json["texts"]  # remembered
    assert [one["looked_at"] for one in again] == [0]
    assert run("index", "--no-captions", "--json").json["texts"] == []


@pytest.mark.slow
def test_what_a_model_cannot_do_is_said(run, red, tiny_captioner):
    result = run("ask", red, "what ?", "--model", tiny_captioner("blip"), "--device", "cpu")
    assert result.code == 2
    assert "answers no questions" in result.err
    result = run("describe", red, "--model", tiny_captioner("blip-vqa"), "--device", "cpu")
    assert "writes no captions" in result.err
