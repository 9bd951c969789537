"""Interpolation of weights before and after a fine-tuning, chosen on validation.

Fine-tuned weights are better on what they were tuned on and worse elsewhere; between them and the
old ones lie weights that keep much of both (WiSE-FT, Wortsman et al. 2022, "Robust fine-tuning of
zero-shot models").
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from retrieval.training.validation import Recalls

SHARES = tuple(tenth / 10 for tenth in range(11))
"""Shares of the new weights that are measured."""


@dataclass(frozen=True)
class Interpolation:
    """A share of the new weights, 0 to 1, and the recalls on validation with it."""

    share: float
    recalls: Recalls


def interpolated(
    old: Mapping[str, Tensor], new: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """Compute (1 - share) * old + share * new for each tensor.

    Args:
        old: weights by name.
        new: weights of the same shapes; those that are missing are the old ones.
        share: 0 to 1; at both ends the weights are exactly the old or the new ones.

    Returns:
        Weights of the names of `old`. Of integers, such as counters, the new ones.
    """
    found = {}
    for name, before in old.items():
        after = new.get(name, before).to(before.device)
        if share <= 0 or not before.is_floating_point():
            found[name] = before if share <= 0 else after
        else:
            found[name] = after if share >= 1 else before.lerp(after, share)
    return found


def choose_share(
    measure: Callable[[float], Recalls], known: Mapping[float, Recalls]
) -> list[Interpolation]:
    """Measure all `SHARES` but those of `known` recalls; returns them, the best one first.

    Of equal mean recalls, the one with the smaller share is better: it has forgotten less.
    """
    tried = [
        Interpolation(each, known[each] if each in known else measure(each)) for each in SHARES
    ]
    return sorted(tried, key=lambda each: (-each.recalls.mean, each.share))
