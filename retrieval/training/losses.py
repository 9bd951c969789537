"""Losses over batches of paired vectors."""

import torch
import torch.nn.functional as F
from torch import Tensor


def matching_loss(logits: Tensor) -> Tensor:
    """Compute the cross-entropy of (n, n) logits both ways; row i belongs to column i."""
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor | float) -> Tensor:
    """Compute the symmetric InfoNCE loss of paired images and texts.

    L = (1/2n) sum_i [ -log softmax_j(scale * x_i . y_j)[i] - log softmax_j(scale * y_i . x_j)[i] ]

    van den Oord et al. 2018 (InfoNCE), Radford et al. 2021 (both directions, learned scale).

    Args:
        images: (n, d), unit L2 norm.
        texts: (n, d), unit L2 norm; row i belongs to image i.
        scale: the inverse temperature, a scalar.

    Returns:
        A scalar; log(n) for uninformative vectors.
    """
    return matching_loss(scale * images @ texts.T)
