from pathlib import Path

import pytest
from torch import nn

from retrieval.errors import UsageError
from retrieval.training.encoders.layers import Layer, layers_of
from tests.tiny_dual_encoders import KINDS, encoded, pairs, tiny_dual_encoder


@pytest.mark.parametrize("kind", KINDS)
def test_each_parameter_stands_in_one_layer(kind: str, tmp_path: Path) -> None:
    model = tiny_dual_encoder(kind, tmp_path, bias=True)
    parts = layers_of(model)
    layers = [layer for tower in parts.towers for layer in (*tower.layers, tower.head)]
    placed = [name for layer in layers for name in layer.parameters]
    assert sorted([*placed, *parts.scales]) == sorted(name for name, _ in model.named_parameters())
    assert parts.scales == ("logit_scale", "logit_bias")
    assert all(layer.parameters for layer in layers)
    for layer in layers:
        inside = {
            f"{module}.{name}"
            for module in layer.modules
            for name, _ in model.get_submodule(module).named_parameters()
        }
        assert inside <= set(layer.parameters)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_come_in_the_order_in_which_they_are_called(kind: str, tmp_path: Path) -> None:
    model = tiny_dual_encoder(kind, tmp_path).eval()
    called: list[str] = []
    parts = layers_of(model)

    def note(layer: Layer) -> None:
        for name in layer.modules:
            model.get_submodule(name).register_forward_hook(lambda *_: called.append(layer.name))

    for tower in parts.towers:
        for layer in (*tower.layers, tower.head):
            note(layer)
    encoded(model, *pairs(2))
    expected = [
        layer.name
        for tower in parts.towers
        for layer in (*tower.layers, tower.head)
        if layer.modules
    ]
    assert list(dict.fromkeys(called)) == expected
    assert called == sorted(called, key=expected.index)


def test_towers_have_as_many_layers_as_blocks_and_the_input(tmp_path: Path) -> None:
    parts = layers_of(tiny_dual_encoder("vit", tmp_path))
    assert [len(tower.layers) for tower in parts.towers] == [4, 4]
    assert parts.image.head.parameters == ("visual.proj",)
    assert parts.text.head.parameters == ("text_projection",)
    assert "visual.ln_post.weight" in parts.image.layers[-1].parameters
    assert "positional_embedding" in parts.text.layers[0].parameters


def test_the_caption_decoder_of_coca_is_unused() -> None:
    from open_clip.coca_model import CoCa

    text = {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1}
    model = CoCa(
        embed_dim=32,
        multimodal_cfg={**text, "embed_cls": False},
        text_cfg={**text, "embed_cls": True, "output_tokens": True},
        vision_cfg={
            "image_size": 16,
            "layers": 1,
            "width": 32,
            "patch_size": 8,
            "head_width": 16,
            "attentional_pool": True,
            "attn_pooler_heads": 2,
            "output_tokens": True,
        },
    )
    parts = layers_of(model)
    decoder = [name for name, _ in model.named_parameters() if name.startswith("text_decoder.")]
    assert list(parts.unused) == decoder
    assert len(decoder) > 5


def test_unknown_towers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="image tower of this model are not known"):
        layers_of(nn.Linear(2, 2))
    model = tiny_dual_encoder("timm-vit", tmp_path)
    model.text = nn.Linear(2, 2)
    with pytest.raises(UsageError, match=r"text tower of this model are not known.*Linear"):
        layers_of(model)
    model = tiny_dual_encoder("timm-vit", tmp_path)
    model.visual.trunk = nn.Sequential(nn.Linear(2, 2))  # type: ignore[union-attr]
    with pytest.raises(UsageError, match="group_matcher"):
        layers_of(model)
