"""The pretrained towers of the starter encoder."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from retrieval.encoders.starter_inputs import cut, resize
from retrieval.encoders.towers import (
    ImageTower,
    TextTower,
    TransformerLayer,
    fold_batch_norms,
    unpacked,
)
from retrieval.training.class_names import class_names


def test_the_image_tower_recognises_everyday_things(photos: dict[str, Path]) -> None:
    expected = {
        "cat": {"tabby", "tiger cat", "Egyptian cat", "lynx"},
        "coffee": {"espresso", "cup", "coffee mug"},
        "rocket": {"missile", "projectile"},
        "motorcycle": {"moped", "motor scooter", "disk brake", "crash helmet"},
    }
    names = class_names()
    pixels = np.stack([resize(Image.open(photos[name])) for name in expected])
    for (name, classes), logits in zip(expected.items(), ImageTower()(pixels).logits, strict=True):
        guesses = {names[number][0] for number in logits.topk(3).indices.tolist()}
        assert guesses & classes, (name, guesses)


@pytest.mark.slow
def test_the_image_tower_classifies_imagenet(shared_data: Path) -> None:
    folder = shared_data / "imagenet-samples"
    lines = (folder / "captions.jsonl").read_text(encoding="utf-8").splitlines()[::5]
    rows = [json.loads(line) for line in lines]
    pixels = np.stack([resize(Image.open(folder / "images" / row["image"])) for row in rows])
    guesses = ImageTower()(pixels).logits.argmax(1).tolist()
    names = class_names()
    right = [
        row["en"][0] == f"a photo of a {names[guess][0]}"
        for row, guess in zip(rows, guesses, strict=True)
    ]
    assert sum(right) / len(right) >= 0.7


def test_the_text_tower_agrees_with_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    tower = TextTower()
    # Built from its configuration: only the layers' arithmetic is under test.
    config = transformers.BertConfig(
        hidden_size=384, intermediate_size=1536, num_attention_heads=12, num_hidden_layers=1
    )
    theirs = transformers.models.bert.modeling_bert.BertLayer(config).eval()
    ours = tower.layers[0]
    state = _as_bert(ours)
    theirs.load_state_dict(state)
    x = torch.randn(2, 7, 384, generator=torch.Generator().manual_seed(0))
    everything = torch.ones(2, 7, dtype=torch.bool)
    with torch.no_grad():
        output = theirs(x)
        expected = output[0] if isinstance(output, tuple) else output
        torch.testing.assert_close(ours(x, everything), expected, atol=1e-5, rtol=1e-5)


def _as_bert(layer: TransformerLayer) -> dict[str, torch.Tensor]:
    own = layer.state_dict()
    state = {}
    for part in ("weight", "bias"):
        thirds = own[f"qkv.{part}"].chunk(3)
        for role, value in zip(("query", "key", "value"), thirds, strict=True):
            state[f"attention.self.{role}.{part}"] = value
        state[f"attention.output.dense.{part}"] = own[f"out.{part}"]
        state[f"attention.output.LayerNorm.{part}"] = own[f"norm1.{part}"]
        state[f"intermediate.dense.{part}"] = own[f"up.{part}"]
        state[f"output.dense.{part}"] = own[f"down.{part}"]
        state[f"output.LayerNorm.{part}"] = own[f"norm2.{part}"]
    return state


def test_the_text_tower_knows_which_sentences_are_alike() -> None:
    tower = TextTower()
    texts = ["A man is playing a guitar.", "Someone plays an instrument.", "The sea is rough."]
    pooled = torch.nn.functional.normalize(tower([cut(i) for i in tower.tokenize(texts)]).pooled)
    similarity = pooled @ pooled.T
    assert similarity[0, 1] > 0.5
    assert similarity[0, 2] < 0.25


def test_padding_is_left_out_of_the_work_and_changes_nothing():
    torch.manual_seed(0)
    layer = TransformerLayer(width=24, heads=2).eval()
    mask = torch.arange(7) < torch.tensor([7, 1, 4])[:, None]
    x = torch.randn(3, 7, 24)
    with torch.inference_mode():
        whole = layer(x, mask) * mask[:, :, None]
        packed = layer.packed(x[mask], mask)
        assert packed.shape == (12, 24)
        torch.testing.assert_close(unpacked(packed, mask), whole, rtol=0, atol=1e-6)


def test_folded_normalisations_give_the_same():
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
    network = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), inner).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = network(images)
        fold_batch_norms(network)
        torch.testing.assert_close(network(images), expected, rtol=0, atol=1e-5)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
