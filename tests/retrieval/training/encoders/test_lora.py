import pytest
import torch
from torch import nn

from retrieval.training.encoders.lora import LowRankUpdate, adapt, merged


def test_an_update_is_a_scaled_product_of_two_matrices() -> None:
    weight = torch.randn(6, 4, 3, 3)
    update = LowRankUpdate(weight, rank=2, alpha=5.0)
    assert update(weight).equal(weight)
    nn.init.normal_(update.up)
    change = (update(weight) - weight).detach().reshape(6, 36)
    torch.testing.assert_close(change, 2.5 * update.up.detach() @ update.down.detach())
    assert torch.linalg.matrix_rank(change) == 2


def test_a_rank_above_that_of_the_weight_is_lowered() -> None:
    update = LowRankUpdate(torch.zeros(8, 1, 3, 3), rank=20, alpha=8.0)
    assert update.down.shape == (8, 9)
    assert update.scale == 1.0


def test_dropout_hides_input_features_while_training() -> None:
    torch.manual_seed(0)
    weight = torch.zeros(3, 50)
    update = LowRankUpdate(weight, rank=3, alpha=3.0, dropout=0.5)
    nn.init.normal_(update.up)
    whole = update.eval()(weight)
    seen = update.train()(weight)
    hidden = (seen == 0).all(0)
    assert 10 < hidden.sum() < 40
    torch.testing.assert_close(seen[:, ~hidden], 2 * whole[:, ~hidden])


def test_matrices_of_linear_layers_convolutions_and_attention_are_adapted() -> None:
    model = nn.ModuleDict(
        {
            "attention": nn.MultiheadAttention(8, 2, batch_first=True),
            "convolution": nn.Conv2d(3, 4, 3),
            "linear": nn.Linear(8, 8),
            "norm": nn.LayerNorm(8),
            "embedding": nn.Embedding(5, 8),
            "other": nn.Linear(8, 8),
        }
    )
    names = [name for name in model if name != "other"]
    updates = adapt(model, names, rank=2, alpha=2.0, dropout=0.0)
    adapted = {
        name.replace(".parametrizations", "").removesuffix(".original")
        for name, _ in model.named_parameters()
        if name.endswith(".original")
    }
    assert adapted == {
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "convolution.weight",
        "linear.weight",
    }
    assert len(updates) == 8
    attention = model["attention"]
    for update in updates:
        nn.init.normal_(update)
    x = torch.randn(2, 5, 8)
    attention(x, x, x)[0].sum().backward()
    assert sum(update.grad is not None for update in updates) == 4
    plain = merged(model)
    for mode in (True, False):
        attention.train(mode)
        torch.testing.assert_close(plain["attention"](x, x, x)[0], attention(x, x, x)[0])  # type: ignore[index]
    assert type(plain["attention"]) is nn.MultiheadAttention  # type: ignore[index]


def test_a_weight_of_two_modules_is_adapted_once() -> None:
    one, other = nn.Linear(4, 4), nn.Linear(4, 4)
    other.weight = one.weight
    assert len(adapt(nn.Sequential(one, other), ["0", "1"], rank=2, alpha=2.0, dropout=0.0)) == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_updates_have_the_dtype_of_the_weight(dtype: torch.dtype) -> None:
    update = LowRankUpdate(torch.zeros(3, 3, dtype=dtype), rank=1, alpha=1.0)
    assert update.down.dtype == update.up.dtype == dtype
