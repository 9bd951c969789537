import json

import pytest
from PIL import Image

from benchmarks.captions.measurement import (
    measure_answers,
    measure_captions,
    measure_people,
    references_of,
)
from benchmarks.captions.scores import score_captions
from benchmarks.captions.vqa import Question
from benchmarks.datasets import load_dataset
from retrieval.errors import UsageError
from retrieval.recognition.captions.captioner import Captioner

pytest.importorskip("pycocoevalcap", reason="pip install pycocoevalcap")
pytest.importorskip("sacrebleu", reason="pip install sacrebleu")

COLOURS = {"red.png": "red", "snow.png": "white", "gone.png": "black"}


@pytest.fixture
def dataset(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    lines = []
    for name, colour in COLOURS.items():
        Image.new("RGB", (40, 30), colour).save(images / name)
        texts = [f"a {colour} ball", f"the ball is {colour} in the snow"]
        lines.append(json.dumps({"image": name, "split": "val", "en": texts}))
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))
    return load_dataset(f"jsonl:{tmp_path}", split="val", language="en")


def test_people_need_no_model(dataset):
    result = measure_people(dataset)
    assert (result.model, result.images, result.failed) == ("people", 3, 0)
    assert 0 < result.scores["bleu_1"] < 1
    assert references_of(dataset)["red.png"] == ["a red ball", "the ball is red in the snow"]


@pytest.mark.slow
def test_captions_are_those_of_the_model_and_unreadable_images_count_as_empty(
    dataset, tiny_captioner
):
    captioner = Captioner(str(tiny_captioner("vit-gpt2")), device="cpu")
    dataset.images["gone.png"].write_bytes(b"no image")
    seen = []
    result = measure_captions(dataset, captioner, on_progress=lambda *told: seen.append(told))
    images = [Image.new("RGB", (40, 30), COLOURS[name]) for name in ("red.png", "snow.png")]
    written = captioner.caption(images)
    assert result.captions == dict(zip(COLOURS, [*written, ""], strict=True))
    assert result.failed == 1
    assert result.scores == score_captions(result.captions, references_of(dataset))
    assert seen[-1] == ("images", 3, 3)


@pytest.mark.slow
def test_answers_are_compared_with_those_of_people(dataset, tiny_captioner, tmp_path):
    captioner = Captioner(str(tiny_captioner("qwen2-vl")), device="cpu")
    image = dataset.images["red.png"]
    answer = captioner.answers([Image.open(image)], ["how many ?"], briefly=True)[0]
    others = ("none of it",) * 8
    questions = [
        Question(image, "how many ?", (answer.upper() + ".", answer, *others)),
        Question(tmp_path / "nothing.png", "how many ?", others),
    ]
    result = measure_answers(questions, captioner)
    assert [value for *_, value in result.answers] == pytest.approx([0.6, 0.0])
    assert result.accuracy == pytest.approx(0.3)
    assert result.failed == 1
    with pytest.raises(UsageError, match="no questions"):
        measure_answers([], captioner)
