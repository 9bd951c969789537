"""Out-of-distribution trust: less of it the further a query is from the training data."""

import torch
from torch import Tensor, nn

_SHRINKAGE = 1e-3
_TRUST_QUANTILES = (0.9, 0.99)


class MahalanobisTrust(nn.Module):
    """Trust in inputs, 1 to 0, by their Mahalanobis distance from the training data.

    The distance of x is |(x - mean) whitening| (Lee et al. 2018). Trust is 1 up to
    `full_trust_distance` and falls linearly to 0 at `zero_trust_distance`. Until `fit`, it is 1 for
    everything.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean: Tensor
        self.whitening: Tensor
        self.full_trust_distance: Tensor
        self.zero_trust_distance: Tensor
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("whitening", torch.zeros(width, width))
        self.register_buffer("full_trust_distance", torch.zeros(1))
        self.register_buffer("zero_trust_distance", torch.ones(1))

    def fit(self, training: Tensor, held_out: Tensor) -> None:
        """Fit the distribution of (n, width) training states.

        The trust distances become the 90th and 99th percentile of the distances of (m, width)
        held-out states. Everything is rounded to float16, the precision of the weight file.
        """
        mean = training.double().mean(0)
        centred = training.double() - mean
        covariance = centred.T @ centred / max(1, len(training) - 1)
        variance = covariance.diagonal().mean().clamp(min=1e-6)
        covariance += _SHRINKAGE * variance * torch.eye(len(mean), device=mean.device)
        root = torch.linalg.cholesky(torch.linalg.inv(covariance))
        self.mean.copy_(mean.half())
        self.whitening.copy_(root.half())
        levels = torch.tensor(_TRUST_QUANTILES, device=mean.device)
        full, zero = torch.quantile(self.distance(held_out), levels).half()
        self.full_trust_distance.fill_(full)
        self.zero_trust_distance.fill_(zero)

    def distance(self, x: Tensor) -> Tensor:
        """Mahalanobis distance of (n, width) states from the training data, (n,)."""
        distance: Tensor = ((x - self.mean) @ self.whitening).norm(dim=1)
        return distance

    def forward(self, x: Tensor) -> Tensor:
        """Compute the trust in (n, width) states, (n,), 0 to 1."""
        zero = torch.maximum(self.zero_trust_distance, self.full_trust_distance + 1e-3)
        return ((zero - self.distance(x)) / (zero - self.full_trust_distance)).clamp(0, 1)


def mean_state(states: Tensor, mask: Tensor) -> Tensor:
    """Average the present tokens, (n, t, width) under an (n, t) bool mask -> (n, width)."""
    present = mask[:, :, None]
    return (states * present).sum(1) / present.sum(1)
