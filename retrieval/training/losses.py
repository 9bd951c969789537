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


def distillation_loss(logits: Tensor, teacher: Tensor) -> Tensor:
    """Compute the Kullback-Leibler divergence of softmaxes from a teacher's, rows and columns.

    Hinton et al. 2015, over a batch's items instead of classes.

    Args:
        logits: (n, m), scaled similarities.
        teacher: (n, m), those of the teacher.

    Returns:
        The mean over rows and over columns, each averaged; 0 where both agree.
    """
    both = ((logits, teacher), (logits.T, teacher.T))
    losses = [
        F.kl_div(own.log_softmax(1), other.softmax(1), reduction="batchmean") for own, other in both
    ]
    return (losses[0] + losses[1]) / 2


def shares_loss(logits: Tensor, weights: Tensor) -> Tensor:
    """Compute the divergence of the rows' softmaxes from the shares of weights; 0 where equal.

    Args:
        logits: (q, n), scaled similarities of q texts and n photos.
        weights: (q, n), at least 0: how well photos fit. Rows of sum below 1 are left out.
    """
    kept = weights.sum(1) >= 1
    if not kept.any():
        return logits.new_zeros(())
    shares = weights[kept] / weights[kept].sum(1, keepdim=True)
    return F.kl_div(logits[kept].log_softmax(1), shares, reduction="batchmean")
