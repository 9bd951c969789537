"""Low-rank adaptation (LoRA) of weights, of whatever module they are.

The library `peft` is not used: to adapt `nn.MultiheadAttention`, which holds the projections of
open_clip's towers, it adds the adapter to the frozen weight before each forward pass and subtracts
it afterwards, so that rounding moves the frozen weight, and the parameter is replaced by a new one.
"""

import copy
from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize


class LowRankUpdate(nn.Module):
    """Add a low-rank update to a weight: W + (alpha / r) B A (Hu et al. 2021, section 4.1).

    A is (r, in) and random, B is (out, r) and starts at zero, so that nothing changes at first. A
    kernel (out, in, h, w) counts as a matrix (out, in * h * w).

    Args:
        weight: the weight that will be adapted, of two dimensions or more.
        rank: r; no more than either side of the matrix.
        alpha: scale of the update times the rank.
        dropout: share of the input features that the update does not see in a training step, the
            same for all rows of a batch.
    """

    def __init__(self, weight: Tensor, *, rank: int, alpha: float, dropout: float = 0.0) -> None:
        super().__init__()
        rows, columns = weight.flatten(1).shape
        rank = min(rank, rows, columns)
        self.scale = alpha / rank
        self.dropout = dropout
        self.down = nn.Parameter(weight.new_empty(rank, columns))
        self.up = nn.Parameter(weight.new_zeros(rows, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the adapted weight, of the same shape."""
        down: Tensor = self.down
        if self.training and self.dropout:
            down = down * F.dropout(down.new_ones(down.shape[1]), self.dropout)
        return weight + (self.scale * (self.up @ down)).view_as(weight)


def adapt(
    model: nn.Module, modules: Iterable[str], *, rank: int, alpha: float, dropout: float
) -> list[nn.Parameter]:
    """Put low-rank updates before the matrices in some modules, and return their parameters.

    Weights of linear layers and convolutions and the joint projections of attention are adapted;
    embeddings, norms and biases are not. The model's own weights stay as they are.
    """
    updates: list[nn.Parameter] = []
    seen: set[int] = set()
    for path in modules:
        for module in list(model.get_submodule(path).modules()):
            for name, weight in list(module.named_parameters(recurse=False)):
                if not _is_matrix(module, name) or id(weight) in seen:
                    continue
                seen.add(id(weight))
                update = LowRankUpdate(weight, rank=rank, alpha=alpha, dropout=dropout)
                # Not checked: the check runs the update, which draws random numbers.
                parametrize.register_parametrization(module, name, update, unsafe=True)
                updates += update.parameters()
    return updates


def _is_matrix(module: nn.Module, name: str) -> bool:
    return name == "in_proj_weight" or (
        name == "weight" and isinstance(module, nn.Linear | nn.Conv2d)
    )


def merged(model: nn.Module) -> nn.Module:
    """Copy a model with all updates added to the weights: its plain architecture, for inference."""
    plain = copy.deepcopy(model).eval()
    for module in list(plain.modules()):
        if parametrize.is_parametrized(module):
            names = list(module.parametrizations)  # type: ignore[arg-type]
            weights = {name: getattr(module, name).detach() for name in names}
            # PyTorch's way back would change the class that the copy shares with the model.
            module.__class__ = type(module).__bases__[0]
            del module.parametrizations
            for name, weight in weights.items():
                module.register_parameter(name, nn.Parameter(weight))
    return plain
