"""Optimal transport against a linear program, and against its formula token by token."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from retrieval.training.alignment import (
    ITERATIONS,
    PROXIMAL_WEIGHT,
    transport_distance,
    transport_plan,
)


def exact_distance(cost: np.ndarray) -> float:
    """The least cost of moving uniform weights, as a linear program."""
    rows, columns = cost.shape
    sums = [np.kron(np.eye(rows), np.ones(columns)), np.kron(np.ones(rows), np.eye(columns))]
    found = linprog(
        cost.ravel(),
        A_eq=np.concatenate(sums),
        b_eq=np.concatenate([np.full(rows, 1 / rows), np.full(columns, 1 / columns)]),
    )
    return float(found.fun)


def plain_plan(cost: list[list[float]]) -> np.ndarray:
    """The steps of the method (Xie et al. 2018, algorithm 1), entry by entry."""
    t, u = len(cost), len(cost[0])
    plan = [[1.0] * u for _ in range(t)]
    scale = [1 / u] * u
    for _ in range(ITERATIONS):
        mixed = [
            [math.exp(-cost[i][j] / PROXIMAL_WEIGHT) * plan[i][j] for j in range(u)]
            for i in range(t)
        ]
        own = [1 / t / sum(mixed[i][j] * scale[j] for j in range(u)) for i in range(t)]
        scale = [1 / u / sum(mixed[i][j] * own[i] for i in range(t)) for j in range(u)]
        plan = [[own[i] * mixed[i][j] * scale[j] for j in range(u)] for i in range(t)]
    return np.array(plan)


def draw(t: int, u: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(t, 5, generator=generator), torch.randn(u, 5, generator=generator)


def cosine_costs(words: torch.Tensor, patches: torch.Tensor) -> np.ndarray:
    return np.array(
        [[1 - float(torch.cosine_similarity(w, v, dim=0)) for v in patches] for w in words]
    )


@settings(max_examples=15)
@given(t=st.integers(1, 6), u=st.integers(1, 9), seed=st.integers(0, 2**32))
def test_the_distance_is_nearly_the_least_cost_of_transport(t: int, u: int, seed: int) -> None:
    words, patches = draw(t, u, seed)
    whole = [torch.ones(1, length, dtype=torch.bool) for length in (t, u)]
    found = float(transport_distance(words[None], whole[0], patches[None], whole[1]))
    cost = cosine_costs(words, patches)
    assert found == pytest.approx(float((plain_plan(cost.tolist()) * cost).sum()), abs=1e-4)
    assert found == pytest.approx(exact_distance(cost), abs=0.03)


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32), filler=st.sampled_from([0.0, 5.0, 1e4]))
def test_padding_changes_neither_plan_nor_distance(seed: int, filler: float) -> None:
    words, patches = draw(4, 6, seed)
    masks = torch.arange(4) < torch.tensor([[4], [2]]), torch.arange(6) < torch.tensor([[3], [6]])
    both = [torch.stack([tokens, tokens]) for tokens in (words, patches)]
    for tokens, mask in zip(both, masks, strict=True):
        tokens[~mask] = filler
    found = transport_distance(both[0], masks[0], both[1], masks[1])
    for row, (t, u) in enumerate([(4, 3), (2, 6)]):
        ones = [torch.ones(1, length, dtype=torch.bool) for length in (t, u)]
        alone = transport_distance(words[None, :t], ones[0], patches[None, :u], ones[1])
        assert float(found[row]) == pytest.approx(float(alone), abs=1e-5)
    plan = transport_plan(torch.rand(2, 4, 6), *masks)
    assert (plan[~(masks[0][:, :, None] & masks[1][:, None])] == 0).all()
    assert (plan >= 0).all()
    torch.testing.assert_close(plan.sum(1), masks[1] / masks[1].sum(1, keepdim=True))


def test_tokens_that_are_the_same_have_no_distance() -> None:
    words, _ = draw(5, 5, 0)
    order = torch.tensor([3, 1, 4, 0, 2])
    ones = torch.ones(1, 5, dtype=torch.bool)
    assert float(transport_distance(words[None], ones, words[order][None], ones)) < 0.01
    costs = 1 - torch.eye(5)[order]
    plan = transport_plan(costs[None], ones, ones)[0]
    torch.testing.assert_close(plan, torch.eye(5)[order] / 5, atol=1e-3, rtol=0)


def test_gradients_bring_tokens_nearer() -> None:
    words, patches = (tokens[None].requires_grad_() for tokens in draw(4, 6, 1))
    masks = [torch.ones(1, length, dtype=torch.bool) for length in (4, 6)]
    before = transport_distance(words, masks[0], patches, masks[1]).sum()
    for tokens, gradient in zip(
        (words, patches), torch.autograd.grad(before, [words, patches]), strict=True
    ):
        assert gradient.isfinite().all()
        tokens.data -= 0.5 * gradient
    assert transport_distance(words, masks[0], patches, masks[1]).sum() < before
