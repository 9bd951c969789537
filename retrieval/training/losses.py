"""Losses over batches of paired vectors."""

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


def matching_loss(logits: Tensor) -> Tensor:
    """Compute the cross-entropy of (n, n) logits both ways; row i belongs to column i."""
    target = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def contrastive_loss(
    images: Tensor,
    texts: Tensor,
    scale: Tensor | float,
    *,
    bias: Tensor | float | None = None,
    groups: Tensor | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """Compute the symmetric InfoNCE loss of paired images and texts.

    L = (1/2n) sum_i [ -log softmax_j(scale * x_i . y_j)[i] - log softmax_j(scale * y_i . x_j)[i] ]

    van den Oord et al. 2018 (InfoNCE), Radford et al. 2021 (both directions, learned scale).

    Rows that show the same image are no negatives: they are left out of the softmax. With label
    smoothing (Szegedy et al. 2016, over the captions of an image instead of all classes) they are
    positives, too: for logits l, groups G_i and t_ij = (1 - s) [i = j] + s [j in G_i] / |G_i|,

    L = (1/2n) sum_i sum_{p in G_i} -t_ip log( e^l_ip / (e^l_ip + sum_{j not in G_i} e^l_ij) ) + ...

    Args:
        images: (n, d), unit L2 norm.
        texts: (n, d), unit L2 norm; row i belongs to image i.
        scale: the inverse temperature, a scalar.
        bias: not used: a softmax does not depend on it.
        groups: (n,) int64, equal for rows that show the same image; None: all differ.
        smoothing: s, from 0 to 1; without effect on rows that are alone in their group.

    Returns:
        A scalar; log(n) for uninformative vectors.
    """
    logits = scale * images @ texts.T
    if groups is None:
        return matching_loss(logits)
    same = _same(groups)
    own = torch.eye(len(logits), device=logits.device, dtype=logits.dtype)
    target = (1 - smoothing) * own + smoothing * same / same.sum(1, keepdim=True)
    return (_divided_loss(logits, target, same) + _divided_loss(logits.T, target, same)) / 2


def _same(groups: Tensor) -> Tensor:
    return groups[:, None] == groups


def _divided_loss(logits: Tensor, target: Tensor, same: Tensor) -> Tensor:
    """Compare each positive with the negatives of its row, and average by the target."""
    others = logits.masked_fill(same, -torch.inf).logsumexp(1, keepdim=True)
    return (target * (torch.logaddexp(logits, others) - logits)).sum(1).mean()


def sigmoid_loss(
    images: Tensor,
    texts: Tensor,
    scale: Tensor | float,
    *,
    bias: Tensor | float | None = None,
    groups: Tensor | None = None,
) -> Tensor:
    """Compute the pairwise sigmoid loss of paired images and texts.

    L = -(1/n) sum_ij log sigmoid( z_ij (scale * x_i . y_j + bias) ), with z_ij = 1 where text j
    belongs to image i, else -1.

    Zhai et al. 2023 (SigLIP).

    Args:
        images: (n, d), unit L2 norm.
        texts: (n, d), unit L2 norm; row i belongs to image i.
        scale: the inverse temperature, a scalar; SigLIP starts at 10.
        bias: a scalar; SigLIP starts at -10, for most pairs are negatives. None: 0.
        groups: (n,) int64, equal for rows that show the same image, whose texts all belong to it;
            None: all differ.

    Returns:
        A scalar.
    """
    logits = scale * images @ texts.T
    if bias is not None:
        logits = logits + bias
    if groups is None:
        same = torch.eye(len(logits), device=logits.device, dtype=torch.bool)
    else:
        same = _same(groups)
    return -F.logsigmoid(torch.where(same, logits, -logits)).sum(1).mean()


def triplet_loss(
    images: Tensor,
    texts: Tensor,
    scale: Tensor | float,
    *,
    bias: Tensor | float | None = None,
    groups: Tensor | None = None,
    margin: float = 0.2,
) -> Tensor:
    """Compute the triplet loss of paired images and texts with the hardest negatives of the batch.

    L = (1/n) sum_i [ margin - x_i . y_i + max_{j not in G_i} x_i . y_j ]_+
                  + [ margin - x_i . y_i + max_{j not in G_i} x_j . y_i ]_+

    Faghri et al. 2018 (VSE++, "max of hinges"), as a mean instead of a sum.

    Args:
        images: (n, d), unit L2 norm.
        texts: (n, d), unit L2 norm; row i belongs to image i.
        scale: not used: the loss is of cosines.
        bias: not used.
        groups: (n,) int64, equal for rows that show the same image, G_i; None: all differ.
        margin: by which a pair must be more similar than others, in cosine.

    Returns:
        A scalar; 0 where there is no negative.
    """
    cosines = images @ texts.T
    if groups is None:
        groups = torch.arange(len(cosines), device=cosines.device)
    negatives = cosines.masked_fill(_same(groups), -torch.inf)
    own = cosines.diagonal()
    hinges = [(margin - own + negatives.amax(side)).clamp_min(0) for side in (0, 1)]
    return (hinges[0] + hinges[1]).mean()


class PairLoss(Protocol):
    """A loss of n paired images and texts; arguments and result as of `contrastive_loss`."""

    def __call__(
        self,
        images: Tensor,
        texts: Tensor,
        scale: Tensor | float,
        *,
        bias: Tensor | float | None = None,
        groups: Tensor | None = None,
    ) -> Tensor:
        """Return a scalar."""


PAIR_LOSSES: dict[str, PairLoss] = {
    "contrastive": contrastive_loss,
    "sigmoid": sigmoid_loss,
    "triplet": triplet_loss,
}
"""Losses of paired images and texts by name."""

MOST_SCALE = 100.0
"""Greatest inverse temperature: a greater one makes training unstable (Radford et al. 2021)."""


@torch.no_grad()
def clamp_scale(log_scale: Tensor) -> None:
    """Keep the logarithm of an inverse temperature within that of 1 to `MOST_SCALE`, in place."""
    log_scale.clamp_(0, math.log(MOST_SCALE))


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
