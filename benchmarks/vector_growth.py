"""How cost grows with the number of rows, and what that says of more rows than were measured."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.vector_measurement import BATCH, SINGLE
from benchmarks.vector_search import MethodResult


@dataclass(frozen=True)
class Cost:
    """What one number of rows takes; predicted: by the fit, not measured."""

    rows: int
    build_s: float
    memory_bytes: float
    mapped_bytes: float
    milliseconds: float
    batch_milliseconds: float
    predicted: bool = False


@dataclass(frozen=True)
class Growth:
    """Measured and predicted costs. exponents: of rows, by the name of a cost."""

    costs: tuple[Cost, ...]
    exponents: dict[str, float]
    assumptions: tuple[str, ...]


def cost_of(result: MethodResult, *, threads: int, recall: float, modality: str = "text") -> Cost:
    """The cost at the fastest setting that reaches a recall@10 for queries of one modality."""
    single, batch = (
        result.fastest(modality, 10, queries, threads, recall) for queries in (SINGLE, BATCH)
    )
    return Cost(
        rows=result.rows,
        build_s=result.build_s,
        memory_bytes=float(result.memory_bytes or 0),
        mapped_bytes=float(result.mapped_bytes or 0),
        milliseconds=single.milliseconds,
        batch_milliseconds=batch.milliseconds,
    )


def predict(costs: Sequence[Cost], rows: int) -> Growth:
    """Extend each cost by a power law through the measured ones, a * rows ** b.

    Least squares on the logarithms. Raises ValueError for fewer than two costs.
    """
    if len(costs) < 2:
        raise ValueError("a fit needs at least two numbers of rows")
    x = np.log([cost.rows for cost in costs])
    predicted: dict[str, float] = {}
    exponents: dict[str, float] = {}
    for name in ("build_s", "memory_bytes", "mapped_bytes", "milliseconds", "batch_milliseconds"):
        values = [max(float(getattr(cost, name)), 1e-9) for cost in costs]
        slope, constant = np.polyfit(x, np.log(values), 1)
        exponents[name] = float(slope)
        predicted[name] = float(np.exp(constant + slope * np.log(rows)))
    largest = max(costs, key=lambda cost: cost.rows)
    return Growth(
        costs=(*costs, Cost(rows=rows, predicted=True, **predicted)),
        exponents=exponents,
        assumptions=(
            f"Power laws through {', '.join(f'{cost.rows:,}' for cost in costs)} rows, on this "
            f"machine; {rows:,} is {rows / largest.rows:,.0f} times the largest that was measured.",
            "The choice of index follows the same rule, and its training sample grows with the "
            "lists.",
            "The embeddings stay in the page cache. Where they do not fit, each candidate that is "
            "refined is a read from the disk: add candidates times the latency of a read, divided "
            "by the reads that run at once.",
        ),
    )
