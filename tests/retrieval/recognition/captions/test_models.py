"""Tiny models of random weights stand in for real ones: right sums, no knowledge.

What they write must be what `transformers` itself writes for one picture at a time.
"""

import json
import pickle
import shutil
from contextlib import suppress

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from retrieval.recognition.captions.checkpoint import Family
from retrieval.recognition.captions.models import BEAMS, BRIEFLY, load_model

pytestmark = pytest.mark.slow

transformers = pytest.importorskip("transformers")

IMAGES = [
    Image.fromarray(pixels)
    for pixels in np.random.default_rng(0).integers(0, 256, (5, 50, 40, 3), dtype=np.uint8)
]
QUESTIONS = ["how many dogs ?", "a red ball in the snow , on the mat ?", "cats ?", "a", "snow ?"]
FAMILIES = {
    "blip": Family.BLIP_CAPTIONS,
    "blip-vqa": Family.BLIP_ANSWERS,
    "vit-gpt2": Family.ENCODER_DECODER,
    "qwen2-vl": Family.CHAT,
    "idefics3": Family.CHAT,
}


@pytest.fixture(scope="module")
def load(tiny_captioner):
    loaded = {}

    def load(kind):
        if kind not in loaded:
            folder = tiny_captioner(kind)
            loaded[kind] = load_model(folder, FAMILIES[kind], "cpu", as_float32=True)
        return loaded[kind]

    return load


def own_words(tokenizer, tokens):
    return tokenizer.batch_decode(tokens, skip_special_tokens=True)[0]


@pytest.mark.parametrize(
    ("kind", "class_name"),
    [("blip", "BlipForConditionalGeneration"), ("vit-gpt2", "VisionEncoderDecoderModel")],
)
def test_captions_are_those_of_transformers(load, tiny_captioner, kind, class_name):
    folder = tiny_captioner(kind)
    model = getattr(transformers, class_name).from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    expected = [
        own_words(
            tokenizer,
            model.generate(
                pixel_values=processor(image, return_tensors="pt")["pixel_values"],
                max_new_tokens=8,
                num_beams=BEAMS,
            ),
        )
        for image in IMAGES
    ]
    assert load(kind).captions(IMAGES, None, 8) == expected
    assert len(set(expected)) > 1
    assert any(expected)


def test_blip_goes_on_from_a_prompt(load, tiny_captioner):
    folder = tiny_captioner("blip")
    model = transformers.BlipForConditionalGeneration.from_pretrained(folder).eval()
    processor = transformers.BlipProcessor.from_pretrained(folder)
    expected = [
        own_words(
            processor.tokenizer,
            model.generate(
                **processor(image, "a red", return_tensors="pt"), max_new_tokens=5, num_beams=BEAMS
            ),
        )
        for image in IMAGES
    ]
    assert load("blip").captions(IMAGES, "a red", 5) == expected
    assert all(text.startswith("a red") for text in expected)


def test_answers_of_blip_are_those_of_transformers(load, tiny_captioner):
    folder = tiny_captioner("blip-vqa")
    model = transformers.BlipForQuestionAnswering.from_pretrained(folder).eval()
    processor = transformers.BlipProcessor.from_pretrained(folder)
    expected = [
        own_words(
            processor.tokenizer,
            model.generate(
                **processor(image, question, return_tensors="pt"), max_new_tokens=6, num_beams=BEAMS
            ),
        )
        for image, question in zip(IMAGES, QUESTIONS, strict=True)
    ]
    assert load("blip-vqa").answers(IMAGES, QUESTIONS, 6, briefly=True) == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize("kind", ["qwen2-vl", "idefics3"])
def test_chats_are_those_of_transformers_whatever_the_batch(load, tiny_captioner, kind):
    folder = tiny_captioner(kind)
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)

    def alone(image, prompt):
        content = [{"type": "image"}, {"type": "text", "text": prompt}]
        chat = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        inputs = processor(text=[chat], images=[[image]], return_tensors="pt")
        written = model.generate(**inputs, max_new_tokens=6, do_sample=False)
        return own_words(processor.tokenizer, written[:, inputs["input_ids"].shape[1] :])

    expected = [alone(*pair) for pair in zip(IMAGES, QUESTIONS, strict=True)]
    assert load(kind).answers(IMAGES, QUESTIONS, 6, briefly=False) == expected
    assert len(set(expected)) > 1
    assert load(kind).captions(IMAGES[:2], "a dog", 6) == [alone(i, "a dog") for i in IMAGES[:2]]
    brief = alone(IMAGES[0], f"{QUESTIONS[0]}\n{BRIEFLY}")
    assert load(kind).answers(IMAGES[:1], QUESTIONS[:1], 6, briefly=True) == [brief]


def test_texts_are_bounded_whatever_the_checkpoint_says(load, tiny_captioner, tmp_path):
    folder = shutil.copytree(tiny_captioner("vit-gpt2"), tmp_path / "copy")
    file = folder / "generation_config.json"
    settings = json.loads(file.read_text()) | {
        "do_sample": True,
        "temperature": 9.0,
        "max_length": 60,
        "num_return_sequences": 3,
    }
    file.write_text(json.dumps(settings))
    model = load_model(folder, Family.ENCODER_DECODER, "cpu", as_float32=True)
    expected = load("vit-gpt2").captions(IMAGES, None, 4)
    assert model.captions(IMAGES, None, 4) == expected
    assert all(len(text.split()) <= 4 for text in expected)


def test_missing_weights_are_not_made_up(tiny_captioner, tmp_path):
    folder = shutil.copytree(tiny_captioner("blip"), tmp_path / "copy")
    weights = load_file(folder / "model.safetensors")
    del weights[next(name for name in weights if "crossattention" in name)]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"1 weights are missing, such as text_decoder"):
        load_model(folder, Family.BLIP_CAPTIONS, "cpu", as_float32=True)


def test_code_of_a_checkpoint_is_refused(tiny_captioner, tmp_path):
    folder = shutil.copytree(tiny_captioner("qwen2-vl"), tmp_path / "copy")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'was-here')!r}, 'w')")
    for name in ("config.json", "processor_config.json", "tokenizer_config.json"):
        content = json.loads((folder / name).read_text())
        content["auto_map"] = dict.fromkeys(
            ("AutoConfig", "AutoModelForImageTextToText", "AutoProcessor", "AutoTokenizer"),
            "evil.Evil",
        )
        (folder / name).write_text(json.dumps(content))
    with suppress(ValueError, TypeError):  # the class of transformers is used, or nothing
        load_model(folder, Family.CHAT, "cpu", as_float32=True)
    assert not (tmp_path / "was-here").exists()


def test_pickles_beside_the_weights_are_not_read(tiny_captioner, tmp_path):
    folder = shutil.copytree(tiny_captioner("blip"), tmp_path / "copy")

    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "was-here"), "w")

    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(OSError, match="safetensors"):
        load_model(folder, Family.BLIP_CAPTIONS, "cpu", as_float32=True)
    assert not (tmp_path / "was-here").exists()


def test_weights_keep_their_precision_unless_float32_is_asked_for(tiny_captioner, tmp_path):
    folder = tmp_path / "half"
    source = tiny_captioner("qwen2-vl")
    model = transformers.AutoModelForImageTextToText.from_pretrained(source)
    model.to(torch.bfloat16).save_pretrained(folder)
    transformers.AutoProcessor.from_pretrained(source).save_pretrained(folder)
    half = load_model(folder, Family.CHAT, "cpu", as_float32=False)
    whole = load_model(folder, Family.CHAT, "cpu", as_float32=True)
    dtypes = [{one.dtype for one in model._model.parameters()} for model in (half, whole)]
    assert dtypes == [{torch.bfloat16}, {torch.float32}]
    assert len(half.captions(IMAGES[:1], None, 4)) == 1
