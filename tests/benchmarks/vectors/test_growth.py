"""Costs of more rows than were measured."""

from dataclasses import replace

import pytest

from benchmarks.vectors.growth import Cost, cost_of, predict
from benchmarks.vectors.tables import growth_markdown


def test_growth_is_foreseen_from_the_two_largest(point, result_of):
    results = [
        result_of(
            point(0.96, 1e6 / rows**0.5, modality="text"),
            point(0.96, 4e6 / rows**0.5, modality="text", batch=100),
            rows=rows,
        )
        for rows in (10_000, 100_000, 1_000_000)
    ]
    costs = [cost_of(result, threads=1, recall=0.95) for result in results]
    assert costs[0] == Cost(10_000, 100, 720_000, 10_240_000, 0.1, 0.025)
    without_index = replace(costs[0], build_s=0.0, memory_bytes=0.0)
    fixed = [replace(cost, memory_bytes=cost.memory_bytes + 10**7) for cost in costs[1:]]
    growth = predict([without_index, *fixed], 100_000_000)
    last = growth.costs[-1]
    assert last.predicted
    assert last.memory_bytes == pytest.approx(72e8 + 1e7)
    assert last.mapped_bytes == pytest.approx(1024e8)
    assert last.build_s == pytest.approx(1e6)
    assert last.milliseconds == pytest.approx(10)
    assert growth.exponents["milliseconds"] == pytest.approx(0.5)
    assert "| 100,000,000 (predicted) | 1,000,000.0 |" in growth_markdown(growth)
    with pytest.raises(ValueError, match="at least two"):
        predict(costs[:1], 10)
