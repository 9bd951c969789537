import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retrieval import machine
from retrieval.errors import EncoderUnavailableError, UnreadableFileError, UsageError
from retrieval.recognition.base import PictureRecognizer, Recognized, Task
from retrieval.recognition.captions import captioner as module
from retrieval.recognition.captions.captioner import MOST_PIXELS, Captioner, fitted, texts_of
from retrieval.recognition.registry import load_recognizer

RED = Image.new("RGB", (40, 30), "red")


@pytest.mark.parametrize(
    "size", [(1, 1), (3, 900), (900, 3), (4000, 3000), (20_000, 1), (640, 480), (31, 31)]
)
def test_pictures_fit_what_processors_take(size):
    image = fitted(Image.new("RGB", size, "red"))
    assert image.width * image.height <= MOST_PIXELS
    assert min(image.size) >= 32
    assert max(image.size) <= 51 * min(image.size)
    assert (np.asarray(image) == (255, 0, 0)).all()
    if size == (640, 480):
        assert image.size == size
    if size == (4000, 3000):
        assert abs(image.width / image.height - 4 / 3) < 0.01


def test_a_batch_that_fails_is_tried_one_by_one():
    calls = []

    def write(images):
        calls.append(len(images))
        if any(image.width == 1 for image in images):
            raise UnreadableFileError("too small")
        return [f"{image.width} wide" for image in images]

    small = Image.new("RGB", (1, 1))
    first, second, third = texts_of([RED, small, RED], write)
    assert (first, third) == ("40 wide", "40 wide")
    assert str(second) == "too small"
    assert calls == [3, 1, 1, 1]
    assert texts_of([], write) == []
    assert texts_of([RED], write) == ["40 wide"]


def test_float32_is_chosen_where_memory_is_ample(monkeypatch):
    monkeypatch.setattr(machine, "memory_bytes", lambda: 16 << 30)
    assert module._fits_as_float32(4 << 30)
    assert not module._fits_as_float32(5 << 30)
    monkeypatch.setattr(machine, "memory_bytes", lambda: None)
    assert module._fits_as_float32(5 << 30)


@pytest.fixture(scope="module")
def describer(tiny_captioner):
    return Captioner(str(tiny_captioner("qwen2-vl")), device="cpu")


@pytest.fixture(scope="module")
def blip(tiny_captioner):
    return Captioner(str(tiny_captioner("blip")), device="cpu")


@pytest.mark.slow
def test_texts_are_those_of_any_batch(describer, images):
    texts = describer.caption(iter(images), new_tokens=6)
    assert len(texts) == len(images) > describer.batch_size
    assert [describer.caption([image], new_tokens=6)[0] for image in images] == texts
    assert len(set(texts)) > 1


@pytest.mark.slow
def test_a_text_is_one_line(describer, monkeypatch):
    written = lambda images, prompt, new_tokens: [" a dog\n\n in  snow "]  # noqa: E731
    monkeypatch.setattr(describer._model, "captions", written)
    assert describer.caption([RED]) == ["a dog in snow"]


@pytest.mark.slow
def test_questions_differ_and_answers_with_them(describer):
    questions = ["how many dogs ?", "the red ball ?", "cats in the snow on a mat ?"]
    answers = describer.answers([RED] * 3, questions, new_tokens=6)
    assert answers == [describer.answer(RED, one, new_tokens=6) for one in questions]
    assert len(set(answers)) > 1


@pytest.mark.slow
def test_what_a_model_cannot_do_is_said(blip, tiny_captioner):
    assert blip.writes_captions
    assert not blip.answers_questions
    with pytest.raises(UsageError, match="writes captions but answers no questions"):
        blip.answer(RED, "how many dogs ?")
    vqa = Captioner(str(tiny_captioner("blip-vqa")), device="cpu")
    with pytest.raises(UsageError, match="answers questions but writes no captions"):
        vqa.caption([RED])
    assert isinstance(vqa.answer(RED, "how many dogs ?"), str)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"question": "  "}, "The question is empty"),
        ({"question": "x" * 2001}, "2,001 characters"),
        ({"question": "a", "new_tokens": 0}, "from 1 to 512"),
        ({"question": "a", "new_tokens": 513}, "from 1 to 512"),
    ],
)
def test_requests_are_bounded(describer, asked, said):
    with pytest.raises(UsageError, match=said):
        describer.answer(RED, **asked)


@pytest.mark.slow
def test_it_is_the_recogniser_of_captions(describer, images, tiny_captioner, monkeypatch):
    folder = str(tiny_captioner("qwen2-vl"))
    recognizer = load_recognizer(Task.CAPTION, folder)
    assert isinstance(recognizer, PictureRecognizer)
    assert recognizer.task is Task.CAPTION
    assert recognizer.identity == describer.identity
    texts = describer.caption(images)
    assert [found.text for found in recognizer.recognize(images)] == texts

    def write(images, prompt, new_tokens):
        if len(images) > 1 or images[0].width == 64:
            raise RuntimeError("no")
        return [" "]

    monkeypatch.setattr(describer._model, "captions", write)
    bad = Image.new("RGB", (64, 64))
    nothing, failed = describer.recognize([RED, bad])
    assert nothing == Recognized()
    assert failed == Recognized(failure="the image-to-text model failed: no")
    with pytest.raises(UsageError, match="writes no captions"):
        load_recognizer(Task.CAPTION, str(tiny_captioner("blip-vqa")))


@pytest.mark.slow
def test_a_failure_of_the_network_is_one_of_the_picture(describer, monkeypatch):
    def fail(*_args, **_options):
        raise RuntimeError("out of memory\nwith a long story")

    monkeypatch.setattr(describer._model, "captions", fail)
    with pytest.raises(UnreadableFileError, match=r"model failed: out of memory$"):
        describer.caption([RED])


@pytest.mark.slow
def test_the_identity_is_of_the_weights(blip, describer, tiny_captioner):
    again = Captioner(str(tiny_captioner("blip")), device="cpu")
    assert blip.identity == again.identity != describer.identity
    assert blip.identity.startswith(f"{Path(tiny_captioner('blip')).name} ")
    assert str(tiny_captioner("blip")) not in blip.identity
    assert len(blip.identity) <= 200


@pytest.mark.slow
def test_a_broken_folder_is_told_with_its_reason(tiny_captioner, tmp_path):
    folder = shutil.copytree(tiny_captioner("blip"), tmp_path / "copy")
    (folder / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0not a header")
    with pytest.raises(EncoderUnavailableError, match=f"model {folder} cannot be loaded: "):
        Captioner(str(folder), device="cpu")
