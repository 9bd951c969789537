"""Exports are made once, compared with PyTorch, and measured; those of other kinds, too."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from retrieval.encoders.exports import maker
from retrieval.encoders.exports.encoder import ExportedEncoder
from retrieval.encoders.exports.maker import export_model
from retrieval.encoders.exports.store import find_export, list_exports
from retrieval.encoders.open_clip import OpenClipEncoder
from retrieval.errors import EncoderUnavailableError
from retrieval.media import Modality


def test_a_measurement_stands_beside_the_export(exported):
    found = exported.measured
    assert min(vars(found.onnx).values()) > 0
    assert min(vars(found.pytorch).values()) > 0
    assert set(found.versions) == {"onnxruntime", "torch", "open-clip-torch"}
    ratio = found.onnx.images_per_second / found.pytorch.images_per_second
    assert found.ratio == pytest.approx(ratio)
    assert exported.is_faster == (ratio > 1)


def test_an_export_is_made_once_and_measured_again(exported, tiny_encoder):
    told = []
    again = export_model(tiny_encoder, lambda *values: told.append(values))
    assert {stage for stage, _, _ in told} == {"measure"}
    assert again.files == exported.files
    assert again.measured != exported.measured


@pytest.mark.slow
def test_other_weights_are_another_export(both, other_encoder):
    exported, _ = both
    made = export_model(other_encoder)
    assert list_exports() == sorted([*both, made], key=lambda one: one.space.encoder)
    assert find_export(other_encoder.space.encoder, exported.space.weights) is None


def test_one_that_computes_something_else_is_not_kept(tiny_encoder, monkeypatch, cache):
    monkeypatch.setattr(maker, "TOLERANCE", 0.0)
    with pytest.raises(EncoderUnavailableError, match="differ by"):
        export_model(tiny_encoder)
    assert list_exports() == []
    assert [path.name for path in cache.iterdir()] == ["writer.lock"]


@pytest.mark.slow
def test_one_that_cannot_be_traced_says_so(tiny_encoder, monkeypatch, cache):
    model, _ = tiny_encoder.parts

    def refuse(*_, **__):
        raise ValueError("no operator\nlong trace")

    monkeypatch.setattr(model, "forward_intermediates", refuse)
    made = export_model(tiny_encoder)
    assert not made.tokens
    monkeypatch.setattr(model, "encode_text", refuse)
    shutil.rmtree(cache)
    with pytest.raises(
        EncoderUnavailableError, match=r"cannot be exported to ONNX: no operator\.$"
    ):
        export_model(tiny_encoder)


KINDS = {
    "SigLIP": {
        "embed_dim": 32,
        "custom_text": True,
        "vision_cfg": {
            "image_size": 224,
            "timm_model_name": "vit_tiny_patch16_224",
            "timm_model_pretrained": False,
            "timm_pool": "avg",
            "timm_proj": "linear",
        },
        "text_cfg": {
            "context_length": 16,
            "vocab_size": 49408,
            "width": 32,
            "heads": 2,
            "layers": 1,
            "no_causal_mask": True,
            "pool_type": "last",
            "proj_bias": True,
        },
    },
    "ResNet": {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8},
        "text_cfg": {
            "context_length": 16,
            "vocab_size": 49408,
            "width": 32,
            "heads": 2,
            "layers": 1,
        },
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_other_architectures(kind, tmp_path):
    import open_clip
    import torch

    config = KINDS[kind]
    (tmp_path / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {"resize_mode": "squash"}})
    )
    custom = config.get("custom_text", False)
    model_class = open_clip.model.CustomTextCLIP if custom else open_clip.model.CLIP
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {key: value for key, value in config.items() if key != "custom_text"}
        model = model_class(**sizes)
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    encoder = OpenClipEncoder(f"local-dir:{tmp_path}")
    made = ExportedEncoder(export_model(encoder))
    pixels = made.preprocess(Image.effect_noise((50, 70), 80).convert("RGB"))[np.newaxis]
    for modality, inputs in ((Modality.IMAGE, pixels), (Modality.TEXT, ["a dog", "x y z"])):
        np.testing.assert_allclose(
            made.encode(modality, inputs), encoder.encode(modality, inputs), atol=1e-4
        )
    assert made.export.text is not None
    if made.export.tokens:
        np.testing.assert_allclose(
            made.image_tokens(pixels).values, encoder.image_tokens(pixels).values, atol=1e-3
        )
