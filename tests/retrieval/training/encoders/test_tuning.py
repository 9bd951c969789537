import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from retrieval.errors import UsageError
from retrieval.training.encoders.frozen_prefix import FrozenPrefix
from retrieval.training.encoders.layers import Tower
from retrieval.training.encoders.tuning import Tuned, tune
from retrieval.training.losses import contrastive_loss
from tests.tiny_dual_encoders import KINDS, encoded, pairs, tiny_dual_encoder


def train(tuned: Tuned, steps: int = 3) -> set[str]:
    """Train on random pairs; the names of all that has moved, statistics of norms included."""
    model = tuned.model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(tuned.groups)
    model.train()
    for step in range(steps):
        images, texts = encoded(model, *pairs(6, seed=step))
        loss = contrastive_loss(images, texts, model.logit_scale.exp())  # type: ignore[operator]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name for name, value in model.state_dict().items() if not value.equal(before[name])}


def names_of(tower: Tower, *places: int) -> set[str]:
    return {name for place in places for name in tower.layers[place].parameters}


def statistics(model: nn.Module, names: set[str]) -> set[str]:
    """Names of the statistics that batch norms with these parameters have."""
    return {
        name
        for name, _ in model.named_buffers()
        if f"{name.rpartition('.')[0]}.weight" in names and "num_batches" not in name
    }


@pytest.mark.parametrize("kind", KINDS)
def test_partial_tuning_moves_the_last_layers_and_the_heads(kind: str, tmp_path: Path) -> None:
    model = tiny_dual_encoder(kind, tmp_path)
    tuned = tune(model, "partial", learning_rate=1e-2, layers=(1, 2))
    image, text = tuned.layers.towers
    expected = names_of(image, -1) | names_of(text, -1, -2)
    expected |= {*image.head.parameters, *text.head.parameters, "logit_scale"}
    moved = {name for name in train(tuned) if "num_batches" not in name}
    assert moved == expected | statistics(model, expected)
    assert tuned.frozen == (len(image.layers) - 1, len(text.layers) - 2)


@pytest.mark.parametrize("kind", KINDS)
def test_linear_tuning_moves_the_heads_alone(kind: str, tmp_path: Path) -> None:
    tuned = tune(tiny_dual_encoder(kind, tmp_path), "linear", learning_rate=1e-2)
    image, text = tuned.layers.towers
    assert train(tuned) == {*image.head.parameters, *text.head.parameters, "logit_scale"}
    assert tuned.frozen == (len(image.layers), len(text.layers))


def test_dropout_hides_inputs_of_heads_while_training(tmp_path: Path) -> None:
    model = tiny_dual_encoder("bert", tmp_path).eval()
    pixels, ids = pairs(5)
    before = encoded(model, pixels, ids)
    tuned = tune(model, "linear", learning_rate=1e-2, dropout=0.5)
    prefix = FrozenPrefix(tuned, *pairs(2))
    states = prefix.image_states(pixels), prefix.text_states(ids)
    for each, inputs in ((model, (pixels, ids)), (prefix, states)):
        model.eval()
        for vectors, same in zip(encoded(each, *inputs), before, strict=True):
            torch.testing.assert_close(vectors, same)
        model.train()
        for vectors, other in zip(encoded(each, *inputs), before, strict=True):
            assert (vectors - other).abs().max() > 1e-3


def test_dropout_needs_linear_heads(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="dropout is of linear heads"):
        tune(tiny_dual_encoder("vit", tmp_path), "linear", learning_rate=1e-2, dropout=0.5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("heads", [True, False])
def test_low_rank_tuning_moves_updates_and_merges_to_the_same_model(
    kind: str, heads: bool, tmp_path: Path
) -> None:
    model = tiny_dual_encoder(kind, tmp_path)
    plain = {name: value.clone() for name, value in model.state_dict().items()}
    pixels, ids = pairs(5)
    before = encoded(model.eval(), pixels, ids)
    tuned = tune(model, "lora", learning_rate=1e-2, rank=4, dropout=0.2, heads=heads)
    for vectors, same in zip(encoded(model, pixels, ids), before, strict=True):
        torch.testing.assert_close(vectors, same)
    moved = train(tuned)
    updates = {name for name in moved if ".parametrizations." in name}
    assert {name.rpartition(".")[2] for name in updates} == {"down", "up"}
    image, text = tuned.layers.towers
    trained = {"logit_scale"}
    if heads:
        trained |= {*image.head.parameters, *text.head.parameters}
    assert moved - updates == trained
    assert tuned.frozen == (1, 1)
    merged = tuned.merged()
    assert {name: value.shape for name, value in merged.state_dict().items()} == {
        name: value.shape for name, value in plain.items()
    }
    apart = encoded(model.eval(), pixels, ids)
    for vectors, same, old in zip(encoded(merged, pixels, ids), apart, before, strict=True):
        torch.testing.assert_close(vectors, same, rtol=0, atol=1e-5)
        assert (vectors - old).abs().max() > 1e-3
    again = tiny_dual_encoder(kind, tmp_path)
    again.load_state_dict(merged.state_dict())
    torch.testing.assert_close(encoded(again.eval(), pixels, ids)[0], apart[0], rtol=0, atol=1e-5)
    assert train(tuned)  # merging leaves the model as it was


def test_updates_of_low_rank_can_be_kept_to_the_last_layers(tmp_path: Path) -> None:
    model = tiny_dual_encoder("vit", tmp_path)
    tuned = tune(model, "lora", learning_rate=1e-2, layers=(1, 0), heads=False)
    assert tuned.frozen == (3, 4)
    moved = train(tuned) - {"logit_scale"}
    assert moved
    assert all(name.startswith("visual.transformer.resblocks.2.") for name in moved)


def test_full_and_layerwise_tuning_move_everything(tmp_path: Path) -> None:
    for mode in ("full", "layerwise"):
        model = tiny_dual_encoder("vit", tmp_path)
        assert train(tune(model, mode, learning_rate=1e-2)) == {*model.state_dict()}


def test_layer_norms_can_be_trained_in_frozen_layers(tmp_path: Path) -> None:
    model = tiny_dual_encoder("bert", tmp_path)
    tuned = tune(model, "partial", learning_rate=1e-2, layers=(0, 0), layer_norms=True)
    image, text = tuned.layers.towers
    norms = {name for name, _ in model.named_parameters() if "LayerNorm" in name}
    assert len(norms) == 14
    heads = {*image.head.parameters, *text.head.parameters}
    assert train(tuned) == norms | heads | {"logit_scale"}
    assert tuned.frozen == (len(image.layers), 0)  # the image tower has batch norms only


def test_rates_fall_by_layer_from_the_heads(tmp_path: Path) -> None:
    model = tiny_dual_encoder("vit", tmp_path)
    tuned = tune(model, "layerwise", learning_rate=0.1, weight_decay=0.3, layer_decay=0.5)
    rates = {id(p): group for group in tuned.groups for p in group["params"]}

    def of(name: str) -> tuple[float, float, float]:
        group = rates[id(model.get_parameter(name))]
        return group["rate"], group["lr"], group["weight_decay"]

    assert of("logit_scale") == (1.0, 0.1, 0.0)
    assert of("visual.proj") == (1.0, 0.1, 0.3)
    assert of("visual.transformer.resblocks.2.attn.in_proj_weight") == (0.5, 0.05, 0.3)
    assert of("transformer.resblocks.0.mlp.c_fc.bias") == (0.125, 0.0125, 0.0)
    assert of("visual.conv1.weight") == of("token_embedding.weight") == (0.0625, 0.00625, 0.3)
    assert of("positional_embedding") == (0.0625, 0.00625, 0.0)
    assert sum(len(group["params"]) for group in tuned.groups) == len([*model.parameters()])


def test_gradual_unfreezing_goes_down_a_layer_an_epoch(tmp_path: Path) -> None:
    model = tiny_dual_encoder("vit", tmp_path)
    tuned = tune(model, "layerwise", learning_rate=1e-2, gradual=True)
    image, text = tuned.layers.towers
    expected = {*image.head.parameters, *text.head.parameters, "logit_scale"}
    assert not tuned.unfreeze(0)
    assert train(tuned) == expected
    for epoch in range(1, 5):
        assert tuned.unfreeze(epoch)
        expected |= names_of(image, -epoch) | names_of(text, -epoch)
        assert train(tuned) == expected
    assert not tuned.unfreeze(5)
    assert expected == {*model.state_dict()}
    assert tuned.frozen == (0, 0)


def test_gradual_unfreezing_lets_batch_norms_move_in_their_turn(tmp_path: Path) -> None:
    tuned = tune(tiny_dual_encoder("timm-cnn", tmp_path), "full", learning_rate=1e-2, gradual=True)
    assert not any("running" in name for name in train(tuned))
    tuned.unfreeze(1)
    moved = {name for name in train(tuned) if "running" in name}
    last = tuned.layers.image.layers[-1]
    assert moved == statistics(tuned.model, set(last.parameters))


def test_a_copy_keeps_frozen_layers_as_they_are(tmp_path: Path) -> None:
    tuned = tune(tiny_dual_encoder("timm-cnn", tmp_path), "linear", learning_rate=1e-2)
    copied = copy.deepcopy(tuned.model).train()
    before = {name: value.clone() for name, value in copied.named_buffers()}
    encoded(copied, *pairs(4))
    assert all(value.equal(before[name]) for name, value in copied.named_buffers())


def test_parameters_that_are_constant_stay_so(tmp_path: Path) -> None:
    model = tiny_dual_encoder("vit", tmp_path)
    model.get_parameter("visual.positional_embedding").requires_grad_(False)
    moved = train(tune(model, "full", learning_rate=1e-2))
    assert moved == {*model.state_dict()} - {"visual.positional_embedding"}


@pytest.mark.parametrize(
    ("mode", "options", "message"),
    [
        ("all", {}, "mode must be one of full, partial, layerwise, lora, linear"),
        ("full", {"learning_rate": 0.0}, "learning_rate must be greater than 0"),
        ("full", {"learning_rate": float("nan")}, "learning_rate must be greater than 0"),
        ("full", {"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ("partial", {}, "layers must say how many"),
        ("partial", {"layers": (5, 1)}, "layers of the image tower must be from 0 to 4, not 5"),
        ("partial", {"layers": (1, -1)}, "layers of the text tower must be from 0 to 4, not -1"),
        ("full", {"layers": (1, 1)}, "layers are an option of the modes partial and lora"),
        ("full", {"layer_norms": True}, "layer_norms are an option of the mode partial"),
        ("layerwise", {"layer_decay": 0.0}, "layer_decay must be above 0"),
        ("linear", {"gradual": True}, "nothing to unfreeze in mode linear"),
        ("lora", {"rank": 0}, "rank must be at least 1"),
        ("lora", {"alpha": 0.0}, "alpha must be greater than 0"),
        ("lora", {"dropout": 1.0}, "dropout must be at least 0 and less than 1"),
        ("lora", {"layers": (0, 0)}, "No layer is left to be adapted"),
    ],
)
def test_wrong_options_are_refused(
    mode: Any, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        tune(tiny_dual_encoder("vit", tmp_path), mode, **{"learning_rate": 1e-3, **options})
