"""Word-region alignment: optimal transport between the words of a text and the patches of an image.

The objective of UNITER (Chen et al. 2020), computed by the inexact proximal point method for
optimal transport, IPOT (Xie et al. 2018).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

ITERATIONS = 50
PROXIMAL_WEIGHT = 0.5
"""Both as of UNITER's published training."""


def transport_plan(
    cost: Tensor,
    rows: Tensor,
    columns: Tensor,
    *,
    iterations: int = ITERATIONS,
    proximal_weight: float = PROXIMAL_WEIGHT,
) -> Tensor:
    """Approximate the optimal transport between two uniform distributions over present tokens.

    min over T of sum_ij T_ij C_ij with T 1 = a, T' 1 = b, a = 1 / t at each of t present rows, b
    likewise. Each step solves the problem with a Kullback-Leibler term to the plan before, by one
    pass of Sinkhorn's scaling: Q = exp(-C / beta) * T, d = a / (Q s), s = b / (Q' d),
    T = diag(d) Q diag(s).

    Args:
        cost: (n, t, u) float32, C.
        rows: (n, t) bool, at least one True a row: the tokens that are present.
        columns: (n, u) bool, likewise.
        iterations: number of steps.
        proximal_weight: beta.

    Returns:
        (n, t, u), not negative, 0 for absent tokens; columns sum to b, rows nearly to a.
    """
    present = rows[:, :, None] & columns[:, None]
    a = (rows / rows.sum(1, keepdim=True))[:, :, None]
    b = (columns / columns.sum(1, keepdim=True))[:, :, None]
    kernel = torch.exp(-cost / proximal_weight) * present
    plan = present.to(cost.dtype)
    scale = b
    # Absent tokens have zeros above and below; present ones never fall to the least number.
    least = torch.finfo(cost.dtype).tiny
    for _ in range(iterations):
        mixed = kernel * plan
        own = a / (mixed @ scale).clamp(min=least)
        scale = b / (mixed.transpose(1, 2) @ own).clamp(min=least)
        plan = own * mixed * scale.transpose(1, 2)
    return plan


def transport_distance(
    words: Tensor, word_mask: Tensor, patches: Tensor, patch_mask: Tensor
) -> Tensor:
    """Compute the transport distance of n texts and images by the cosine distance of tokens, (n,).

    sum_ij T_ij (1 - cos(w_i, v_j)), 0 to 2. The gradient goes through the cosines, not the plan.

    Args:
        words: (n, t, c).
        word_mask: (n, t) bool, at least one True a row.
        patches: (n, u, c).
        patch_mask: (n, u) bool, at least one True a row.
    """
    cost = 1 - F.normalize(words, dim=-1) @ F.normalize(patches, dim=-1).transpose(1, 2)
    plan = transport_plan(cost.detach(), word_mask, patch_mask)
    return (plan * cost).sum((1, 2))
