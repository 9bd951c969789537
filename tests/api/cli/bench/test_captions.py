import json

import pytest
from PIL import Image

from retrieval.errors import UsageError

pytest.importorskip("pycocoevalcap", reason="pip install pycocoevalcap")
pytest.importorskip("sacrebleu", reason="pip install sacrebleu")


@pytest.fixture
def data(tmp_path):
    """Two photos with captions of people, and a question about one."""
    for name, colour in (("red.png", "red"), ("snow.png", "white")):
        Image.new("RGB", (40, 30), colour).save(tmp_path / name)
    lines = [
        {"image": "red.png", "split": "val", "en": ["a red ball", "the ball is red"]},
        {"image": "snow.png", "split": "val", "en": ["snow on a mat", "the mat in snow"]},
    ]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    asked = {"image": "red.png", "question": "how many ?", "answers": ["1"] * 10}
    (tmp_path / "questions.jsonl").write_text(json.dumps(asked))
    return tmp_path


def test_people_against_people(run, data):
    dataset = ("--dataset", f"jsonl:{data}?images={data}")
    result = run("captions", *dataset, "--people", "--json")
    assert result.exit_code == 0, result.output
    body = json.loads(result.stdout)
    assert body["model"] == "people"
    assert set(body["scores"]) == {"bleu_1", "bleu_2", "bleu_3", "bleu_4", "cider"}
    shown = run("captions", *dataset, "--people")
    assert f"BLEU-1  {100 * body['scores']['bleu_1']:6.1f}" in shown.stdout
    assert "people, 2 images, tokenizer 13a" in shown.stdout


@pytest.mark.slow
def test_a_model_is_measured_and_its_captions_written(run, data, tiny_captioner):
    out = data / "result.json"
    result = run(
        *("captions", "--dataset", f"jsonl:{data}?images={data}", "--limit", 1),
        *("--model", tiny_captioner("vit-gpt2"), "--json-file", out, "--device", "cpu", "--json"),
    )
    assert result.exit_code == 0, result.output
    body = json.loads(result.stdout)
    written = json.loads(out.read_text())
    assert list(written["captions"]) == ["red.png"]
    assert written["captions"]["red.png"]
    assert "captions" not in body
    assert body["scores"] == written["scores"]


@pytest.mark.slow
def test_questions_are_answered(run, data, tiny_captioner):
    options = ("--questions", data / "questions.jsonl", "--model", tiny_captioner("blip-vqa"))
    result = run("captions", *options, "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    body = json.loads(result.stdout)
    assert (body["questions"], body["accuracy"]) == (1, 0.0)
    assert "accuracy 0.0" in run("captions", *options, "--device", "cpu").stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "either --dataset"),
        (("--questions", "q", "--dataset", "jsonl:x"), "either --dataset"),
        (("--dataset", "jsonl:x", "--people", "--model", "m"), "without a model"),
        (("--dataset", "jsonl:x", "--people", "--tokenizer", "moses"), "no tokenizer 'moses'"),
    ],
)
def test_contradictions_are_refused(run, options, said):
    result = run("captions", *options)
    assert isinstance(result.exception, UsageError)
    assert said in str(result.exception)
