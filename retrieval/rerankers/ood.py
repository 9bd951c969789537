"""How much a query is like what a fusion model has learned from: how far to trust its match."""

import torch
from torch import Tensor, nn

_SHRINKAGE = 1e-3
_NEAR, _FAR = 0.9, 0.99


class Familiarity(nn.Module):
    """Mahalanobis distance from the training data, and which distances are still familiar.

    The distance of x is |(x - mean) whitening| (Lee et al. 2018 find unfamiliar inputs so). Below
    `near` x is trusted wholly, beyond `far` not at all. Until `fit`, everything is familiar.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.whitening: Tensor
        self.near: Tensor
        self.far: Tensor
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("whitening", torch.zeros(width, width))
        self.register_buffer("near", torch.zeros(1))
        self.register_buffer("far", torch.ones(1))

    def fit(self, training: Tensor, held_out: Tensor) -> None:
        """Learn from (n, width) training states and (m, width) held-out ones of the same kind.

        near and far become the distances below which 90% and 99% of the held-out states lie. All
        is rounded to float16, as it will be kept.
        """
        mean = training.double().mean(0)
        centred = training.double() - mean
        covariance = centred.T @ centred / max(1, len(training) - 1)
        variance = covariance.diagonal().mean().clamp(min=1e-6)
        covariance += _SHRINKAGE * variance * torch.eye(len(mean), device=mean.device)
        root = torch.linalg.cholesky(torch.linalg.inv(covariance))
        self.mean.copy_(mean.half())
        self.whitening.copy_(root.half())
        levels = torch.tensor([_NEAR, _FAR], device=mean.device)
        near, far = torch.quantile(self.distance(held_out), levels).half()
        self.near.fill_(near)
        self.far.fill_(far)

    def distance(self, x: Tensor) -> Tensor:
        """Distance of (n, width) states from the training data, (n,)."""
        distance: Tensor = ((x - self.mean) @ self.whitening).norm(dim=1)
        return distance

    def forward(self, x: Tensor) -> Tensor:
        """Trust in (n, width) states, (n,): from 1 at `near` straight down to 0 at `far`."""
        far = torch.maximum(self.far, self.near + 1e-3)
        return ((far - self.distance(x)) / (far - self.near)).clamp(0, 1)


def mean_state(states: Tensor, mask: Tensor) -> Tensor:
    """The mean of the present tokens, (n, t, width) under an (n, t) bool mask -> (n, width)."""
    present = mask[:, :, None]
    return (states * present).sum(1) / present.sum(1)
