"""An exported model gives what PyTorch gives, and imports nothing of it."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from retrieval.encoders.base import TokenEncoder
from retrieval.encoders.exports.encoder import ExportedEncoder
from retrieval.errors import EncoderUnavailableError, UsageError
from retrieval.media import Modality

TEXTS = ["a dog", "two cats on a mat, asleep", "雪の中の犬", "x", "", "word " * 60]


@pytest.fixture
def encoder(exported):
    return ExportedEncoder(exported)


def test_it_keeps_the_protocol(encoder, tiny_encoder):
    assert isinstance(encoder, TokenEncoder)
    assert encoder.space == tiny_encoder.space
    assert encoder.modalities == tiny_encoder.modalities
    assert encoder.context_length == tiny_encoder.context_length
    assert encoder.input_side == tiny_encoder.input_side
    assert encoder.view(70, 30) == tiny_encoder.view(70, 30)


@pytest.mark.parametrize("count", [0, 1, 3, 40])
def test_vectors_are_those_of_pytorch(count, encoder, tiny_encoder, noise):
    pixels = np.stack(noise)[:count]
    texts = (TEXTS * 12)[: 2 * count]
    for modality, inputs in ((Modality.IMAGE, pixels), (Modality.TEXT, texts)):
        found, expected = (each.encode(modality, inputs) for each in (encoder, tiny_encoder))
        assert found.dtype == np.float32
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_tokens_are_those_of_pytorch(encoder, tiny_encoder, noise):
    pixels = np.stack(noise[:3])
    for found, expected in (
        (encoder.image_tokens(pixels), tiny_encoder.image_tokens(pixels)),
        (encoder.image_tokens(pixels[:0]), tiny_encoder.image_tokens(pixels[:0])),
        (encoder.text_tokens(TEXTS), tiny_encoder.text_tokens(TEXTS)),
        (encoder.text_tokens([]), tiny_encoder.text_tokens([])),
    ):
        assert found.values.shape == expected.values.shape
        np.testing.assert_allclose(found.values, expected.values, atol=1e-4)
        np.testing.assert_array_equal(found.mask, expected.mask)
    assert [encoder.token_count(text) for text in TEXTS] == [
        tiny_encoder.token_count(text) for text in TEXTS
    ]


def test_what_an_export_lacks_is_asked_of_pytorch(exported, tiny_encoder, noise):
    encoder = ExportedEncoder(replace(exported, text=None, tokens=False))
    np.testing.assert_allclose(
        encoder.encode(Modality.TEXT, TEXTS), tiny_encoder.encode(Modality.TEXT, TEXTS), atol=1e-5
    )
    assert encoder.token_spans("a dog") == tiny_encoder.token_spans("a dog")
    pixels = np.stack(noise[:2])
    np.testing.assert_array_equal(
        encoder.image_tokens(pixels).values, tiny_encoder.image_tokens(pixels).values
    )


def test_other_modalities_are_refused(encoder):
    with pytest.raises(UsageError, match="takes image and text"):
        encoder.encode("sound", [])


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_tower_is_refused(damage, exported, encoder, noise):
    tower = exported.directory / "image" / "tower.onnx"
    if damage == "changed":
        content = bytearray(tower.read_bytes())
        content[len(content) // 2] ^= 1
        tower.write_bytes(content)
    else:
        tower.unlink()
    assert len(encoder.encode(Modality.TEXT, ["a dog"])) == 1
    with pytest.raises(EncoderUnavailableError, match="--remove"):
        encoder.encode(Modality.IMAGE, noise[:1])


@pytest.mark.slow
def test_a_search_by_an_export_imports_no_pytorch(exported, tmp_path):
    Image.effect_noise((60, 40), 80).convert("RGB").save(tmp_path / "photo.jpg")
    code = f"""
import sys
from PIL import Image
import numpy as np
from pathlib import Path
from retrieval.encoders.exports import store
store.exports_directory = lambda: Path({str(exported.directory.parent)!r})
from retrieval.encoders.registry import load_encoder
from retrieval.media import Modality
encoder = load_encoder({exported.space.encoder!r}, "cpu", {exported.space.weights!r})
pixels = encoder.preprocess(Image.open({str(tmp_path / "photo.jpg")!r}))
assert encoder.encode(Modality.IMAGE, pixels[None]).shape == (1, 32)
assert encoder.encode(Modality.TEXT, ["a dog"]).shape == (1, 32)
assert encoder.runtime == "ONNX Runtime float32"
heavy = {{"torch", "open_clip", "timm", "transformers", "torchvision", "onnx"}}
print(sorted(heavy & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "[]", run.stdout + run.stderr
