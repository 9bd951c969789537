"""What of a dual encoder is trained, and at which rate.

The temperature and the bias of the similarities are parts of the loss, and trained in every mode.
"""

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.hooks import RemovableHandle

from retrieval.errors import UsageError
from retrieval.training.encoders import lora
from retrieval.training.encoders.layers import (
    Layer,
    ModelLayers,
    Tower,
    layers_of,
    modules_in,
    parameter_of,
)

TuningMode = Literal["full", "partial", "layerwise", "lora", "linear"]
"""`full`: everything. `partial`: the last layers and the heads. `layerwise`: everything, at rates
that fall from the heads to the input. `lora`: low-rank updates, and the heads. `linear`: the heads.
"""
TUNING_MODES: tuple[TuningMode, ...] = get_args(TuningMode)

_BATCH_NORMS = nn.modules.batchnorm._BatchNorm
_LAYER_NORMS = ("LayerNorm", "RMSNorm")


class Tuned:
    """A model prepared for training; made by `tune`.

    groups: parameter groups for AdamW; each has `lr`, `weight_decay` and `rate`, its factor of the
    learning rate, which a schedule keeps. They hold what is trained at any time of the run.
    layers: the parts of the model. frozen: leading layers of the image and of the text tower that
    are never trained, nor anything in them.
    """

    def __init__(
        self,
        model: nn.Module,
        mode: TuningMode,
        layers: ModelLayers,
        first: tuple[int, int],
        *,
        gradual: bool,
        layer_norms: bool,
        heads: bool,
    ) -> None:
        self.model = model
        self.mode = mode
        self.layers = layers
        self.frozen = (0, 0)
        self._first = first
        self.groups: list[dict[str, Any]] = []
        self._gradual = gradual
        self._layer_norms = layer_norms
        self._heads = heads
        self._hooks: list[RemovableHandle] = []
        # Some models have parameters that are constant, such as sine positions.
        self._constant = {
            name for name, parameter in model.named_parameters() if not parameter.requires_grad
        }

    def unfreeze(self, epoch: int) -> bool:
        """Train what an epoch trains, and freeze the rest; returns whether that has changed.

        With gradual unfreezing, epoch 0 trains the heads, and each later one another layer of both
        towers, from the top (Howard and Ruder 2018, section 3.3); without, all epochs are the same.
        Statistics of batch norms stay as they are in all that is frozen, also after `train()`.

        Args:
            epoch: from 0.
        """
        before = [parameter.requires_grad for parameter in self.model.parameters()]
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self.model.requires_grad_(False)
        for name in self._trained_names(epoch):
            if name not in self._constant:
                parameter_of(self.model, name).requires_grad_()
        for module in self.model.modules():
            if isinstance(module, lora.LowRankUpdate):
                module.requires_grad_()
        self._hooks += [
            module.register_forward_pre_hook(_to_eval) for module in self._still_modules()
        ]
        self.model.train(self.model.training)
        return before != [parameter.requires_grad for parameter in self.model.parameters()]

    def merged(self) -> nn.Module:
        """Return the model in its plain architecture: with LoRA a copy with the updates merged."""
        return lora.merged(self.model) if self.mode == "lora" else self.model

    def _trained_names(self, epoch: int) -> Iterator[str]:
        yield from self.layers.scales
        for tower, lowest in zip(self.layers.towers, self._first, strict=True):
            first = max(lowest, len(tower.layers) - epoch) if self._gradual else lowest
            for place, layer in enumerate(tower.layers):
                whole = self.mode != "lora" and place >= first
                for name in layer.parameters:
                    if whole or (self._layer_norms and _is_layer_norm(self.model, name)):
                        yield name
            if self._heads:
                yield from tower.head.parameters

    def _still_modules(self) -> Iterator[nn.Module]:
        """Yield the modules that compute as at inference: frozen layers, and frozen batch norms."""
        for tower in self.layers.towers:
            for layer in (*tower.layers, tower.head):
                for name in layer.modules:
                    module = self.model.get_submodule(name)
                    if not any(parameter.requires_grad for parameter in module.parameters()):
                        yield module
                    else:
                        yield from _frozen_batch_norms(module)


def tune(
    model: nn.Module,
    mode: TuningMode = "full",
    *,
    learning_rate: float,
    weight_decay: float = 0.05,
    layers: tuple[int | None, int | None] = (None, None),
    layer_norms: bool = False,
    layer_decay: float = 0.75,
    gradual: bool = False,
    rank: int = 8,
    alpha: float = 16.0,
    dropout: float = 0.0,
    heads: bool = True,
) -> Tuned:
    """Freeze and adapt a model of open_clip as a mode of tuning says; it is changed in place.

    With layerwise decay a layer that is k layers below the head is trained at the learning rate
    times `layer_decay ** k` (Clark et al. 2020, ELECTRA; Bao et al. 2021, BEiT). Biases, norms and
    what the model itself names (`no_weight_decay`) have no weight decay.

    Args:
        model: the model, without adapters.
        mode: what is trained.
        learning_rate: of the heads; greater than 0.
        weight_decay: of matrices; at least 0.
        layers: `partial`: last layers of the image and of the text tower that are trained, besides
            the heads. `lora`: last layers that are adapted; None: all but the embeddings.
        layer_norms: `partial`: train all layer norms, too.
        layer_decay: `layerwise`: above 0, at most 1.
        gradual: `full`, `partial`, `layerwise`: unfreeze from the top, a layer an epoch.
        rank: `lora`: rank of the updates; at least 1.
        alpha: `lora`: scale of the updates; greater than 0.
        dropout: share of the inputs that linear heads do not see while they are trained (Srivastava
            et al. 2014), and updates of `lora`; from 0 to below 1.
        heads: `lora`: train the heads, too.

    Raises:
        UsageError: an option is out of range or not one of this mode, or the model's layers are not
            known.
    """
    _check(mode, learning_rate, weight_decay, layers, dropout)
    check_mode_options(
        mode, has_layers=layers != (None, None), layer_norms=layer_norms, gradual=gradual
    )
    parts = layers_of(model)
    first = _first_trained(mode, parts, layers)
    if mode == "layerwise" and not 0 < layer_decay <= 1:
        raise UsageError(f"layer_decay must be above 0 and at most 1, not {layer_decay}.")
    if mode == "linear" and not (parts.image.head.parameters or parts.text.head.parameters):
        raise UsageError("This model has no heads to train alone. Choose another mode.")
    tuned = Tuned(
        model,
        mode,
        parts,
        first,
        gradual=gradual,
        layer_norms=layer_norms,
        heads=heads or mode != "lora",
    )
    if mode == "lora":
        _adapt(model, parts, first, rank, alpha, dropout)
    if dropout and (heads or mode != "lora"):
        linear = _linear_heads(model, parts)
        if not linear and mode != "lora":
            raise UsageError("dropout is of linear heads, and this model has none.")
        for head in linear:
            head.register_forward_pre_hook(partial(_drop_inputs, dropout))
    # All that is ever trained: the last epoch of gradual unfreezing comes after the last layer.
    tuned.unfreeze(max(len(tower.layers) for tower in parts.towers))
    rates = _rates(parts, layer_decay if mode == "layerwise" else 1.0)
    tuned.groups = list(_groups(model, rates, learning_rate, weight_decay))
    tuned.frozen = (_frozen_layers(model, parts.image), _frozen_layers(model, parts.text))
    tuned.unfreeze(0)
    return tuned


def _check(
    mode: str,
    learning_rate: float,
    weight_decay: float,
    layers: tuple[int | None, int | None],
    dropout: float,
) -> None:
    if mode not in TUNING_MODES:
        raise UsageError(f"mode must be one of {', '.join(TUNING_MODES)}, not {mode!r}.")
    if not 0 < learning_rate < math.inf:
        raise UsageError(f"learning_rate must be greater than 0, not {learning_rate}.")
    if not 0 <= weight_decay < math.inf:
        raise UsageError(f"weight_decay must be at least 0, not {weight_decay}.")
    if not 0 <= dropout < 1:
        raise UsageError(f"dropout must be at least 0 and less than 1, not {dropout}.")
    if mode == "partial" and None in layers:
        raise UsageError("layers must say how many of each tower are trained in mode partial.")


def check_mode_options(mode: str, *, has_layers: bool, layer_norms: bool, gradual: bool) -> None:
    """Raise UsageError for an option that is not one of this mode."""
    if mode not in {"partial", "lora"} and has_layers:
        raise UsageError(f"layers are an option of the modes partial and lora, not of {mode}.")
    if layer_norms and mode != "partial":
        raise UsageError(f"layer_norms are an option of the mode partial, not of {mode}.")
    if gradual and mode in {"lora", "linear"}:
        raise UsageError(f"Gradual unfreezing has nothing to unfreeze in mode {mode}.")


def _first_trained(
    mode: str, parts: ModelLayers, layers: tuple[int | None, int | None]
) -> tuple[int, int]:
    def first(tower: Tower, last: int | None) -> int:
        most = len(tower.layers)
        if mode == "linear":
            return most
        if last is None:
            return 1 if mode == "lora" else 0  # the embeddings are not adapted
        if not 0 <= last <= most:
            raise UsageError(
                f"layers of the {tower.name} tower must be from 0 to {most}, not {last}."
            )
        return max(most - last, 1) if mode == "lora" else most - last

    return first(parts.image, layers[0]), first(parts.text, layers[1])


def _adapt(
    model: nn.Module,
    parts: ModelLayers,
    lowest: tuple[int, int],
    rank: int,
    alpha: float,
    dropout: float,
) -> None:
    if rank < 1:
        raise UsageError(f"rank must be at least 1, not {rank}.")
    if not 0 < alpha < math.inf:
        raise UsageError(f"alpha must be greater than 0, not {alpha}.")
    adapted: list[Layer] = []
    for tower, first in zip(parts.towers, lowest, strict=True):
        adapted += tower.layers[first:]
    names = [name for layer in adapted for name in layer.modules]
    if not lora.adapt(model, names, rank=rank, alpha=alpha, dropout=dropout):
        raise UsageError("No layer is left to be adapted; choose at least 1 of a tower.")


def _frozen_layers(model: nn.Module, tower: Tower) -> int:
    """Count the leading layers in which nothing is trained."""

    def is_trained(layer: Layer) -> bool:
        trained = [parameter_of(model, name) for name in layer.parameters]
        for name in layer.modules:
            trained += model.get_submodule(name).parameters()  # updates of low rank are among them
        return any(parameter.requires_grad for parameter in trained)

    trained = [is_trained(layer) for layer in tower.layers]
    return trained.index(True) if any(trained) else len(trained)


def _rates(parts: ModelLayers, decay: float) -> dict[str, float]:
    """Return the factor of the learning rate of each parameter."""
    return {
        name: decay ** (len(tower.layers) - place)
        for tower in parts.towers
        for place, layer in enumerate((*tower.layers, tower.head))
        for name in layer.parameters
    }


def _groups(
    model: nn.Module, rates: Mapping[str, float], learning_rate: float, weight_decay: float
) -> Iterator[dict[str, Any]]:
    named: set[str] = getattr(model, "no_weight_decay", set)()
    together: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = 0.0 if parameter.ndim < 2 or name in named else weight_decay
            together.setdefault((rates.get(name, 1.0), decay), []).append(parameter)
    for (rate, decay), parameters in sorted(together.items(), key=lambda group: group[0]):
        yield {
            "params": parameters,
            "lr": learning_rate * rate,
            "weight_decay": decay,
            "rate": rate,
        }


def _is_layer_norm(model: nn.Module, name: str) -> bool:
    module = model.get_submodule(name.rpartition(".")[0])
    return any(kind in parent.__name__ for parent in type(module).mro() for kind in _LAYER_NORMS)


def _frozen_batch_norms(module: nn.Module) -> Iterator[nn.Module]:
    for part in module.modules():
        if isinstance(part, _BATCH_NORMS) and not any(
            parameter.requires_grad for parameter in part.parameters()
        ):
            yield part


def _linear_heads(model: nn.Module, parts: ModelLayers) -> list[nn.Linear]:
    heads = modules_in(model, [tower.head for tower in parts.towers])
    return [part for head in heads for part in head.modules() if isinstance(part, nn.Linear)]


def _drop_inputs(
    dropout: float, module: nn.Module, inputs: tuple[torch.Tensor, ...]
) -> tuple[torch.Tensor, ...]:
    return (F.dropout(inputs[0], dropout, module.training), *inputs[1:])


def _to_eval(module: nn.Module, _: tuple[torch.Tensor, ...]) -> None:
    if module.training:
        module.eval()
