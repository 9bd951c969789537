"""Interpolated weights, and the choice of the share."""

import pytest
import torch

from retrieval.training.encoders.interpolation import SHARES, choose_share, interpolated
from retrieval.training.validation import Recalls

OLD = {"weight": torch.tensor([0.0, 1.0]), "count": torch.tensor(3), "kept": torch.ones(1)}
NEW = {"weight": torch.tensor([1.0, 3.0]), "count": torch.tensor(5)}


def test_weights_lie_on_the_line_between_old_and_new():
    assert interpolated(OLD, NEW, 0.25)["weight"].tolist() == [0.25, 1.5]


@pytest.mark.parametrize(("share", "expected"), [(0.0, OLD), (1.0, OLD | NEW)])
def test_both_ends_are_exact(share, expected):
    found = interpolated(OLD, NEW, share)
    assert found.keys() == OLD.keys()
    assert all(torch.equal(found[name], expected[name]) for name in OLD)


def test_counters_are_not_interpolated():
    assert interpolated(OLD, NEW, 0.5)["count"] == 5


def recalls_of(mean: float) -> Recalls:
    return Recalls((mean,) * 3, (mean,) * 3)


def test_the_best_share_is_first_and_known_ones_are_not_measured():
    measured = []

    def measure(share: float) -> Recalls:
        measured.append(share)
        return recalls_of(0.5 if share in {0.4, 0.6} else 0.1)

    trials = choose_share(measure, {0.0: recalls_of(0.2), 1.0: recalls_of(0.3)})
    assert measured == list(SHARES[1:-1])
    assert [trial.share for trial in trials[:4]] == [0.4, 0.6, 1.0, 0.0]
