from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from retrieval.errors import UsageError
from retrieval.training.encoders.acceleration import (
    autocast,
    checkpoint_activations,
    fastest_precision,
)
from retrieval.training.encoders.gradient_cache import PairEncoder
from retrieval.training.encoders.tuning import tune
from retrieval.training.losses import contrastive_loss
from tests.tiny_dual_encoders import encoded, pairs, tiny_dual_encoder


def test_measuring_precisions_changes_nothing(tmp_path: Path) -> None:
    model = tiny_dual_encoder("resnet", tmp_path).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    precision = fastest_precision(PairEncoder(model), *pairs(4), repeats=1)
    assert precision in {torch.float32, torch.bfloat16}
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.get_rng_state().equal(state)


def test_a_slow_precision_is_not_chosen(tmp_path: Path) -> None:
    class Slow(nn.Module):
        """Encodes as a model does, but many times over in the precision to avoid."""

        def __init__(self, avoided: torch.dtype) -> None:
            super().__init__()
            self.pairs = PairEncoder(tiny_dual_encoder("vit", tmp_path))
            self.avoided = avoided

        def forward(self, images: Tensor, texts: Tensor) -> object:
            halved = torch.is_autocast_enabled("cpu")
            precision = torch.get_autocast_dtype("cpu") if halved else torch.float32
            for _ in range(8 if precision == self.avoided else 0):
                self.pairs(images, texts)
            return self.pairs(images, texts)

    assert fastest_precision(Slow(torch.bfloat16), *pairs(4), repeats=1) == torch.float32
    assert fastest_precision(Slow(torch.float32), *pairs(4), repeats=1) == torch.bfloat16


def test_autocast_computes_in_the_precision() -> None:
    one = torch.ones(2, 2)
    for precision in (torch.float32, torch.bfloat16):
        with autocast(one.device, precision):
            assert (one @ one).dtype == precision


def test_gradient_checkpointing_gives_the_same_gradients(tmp_path: Path) -> None:
    for kind in ("vit", "bert"):
        gradients: list[dict[str, Tensor]] = []
        for enable in (False, True):
            model = tiny_dual_encoder(kind, tmp_path).train()
            tune(model, "partial", learning_rate=1e-2, layers=(2, 2))
            for module in model.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0
            if enable:
                checkpoint_activations(model)
            contrastive_loss(*encoded(model, *pairs(4)), 10.0).backward()
            named = model.named_parameters()
            gradients.append({name: p.grad for name, p in named if p.grad is not None})
        assert gradients[0].keys() == gradients[1].keys()
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_resnets_of_open_clip_cannot_recompute_activations(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot recompute"):
        checkpoint_activations(tiny_dual_encoder("resnet", tmp_path))
