"""How cost grows with the number of rows, and what that says of more rows than were measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.vectors.measurement import BATCH, SINGLE
from benchmarks.vectors.search import MethodResult


@dataclass(frozen=True)
class Cost:
    """What one number of rows takes; predicted, not measured, where it says so."""

    rows: int
    build_s: float
    memory_bytes: float
    mapped_bytes: float
    milliseconds: float
    batch_milliseconds: float
    predicted: bool = False


@dataclass(frozen=True)
class Growth:
    """Measured and predicted costs. exponents: of rows, by the name of a time."""

    costs: tuple[Cost, ...]
    exponents: dict[str, float]
    assumptions: tuple[str, ...]


def cost_of(result: MethodResult, *, threads: int, recall: float, modality: str = "text") -> Cost:
    """Read the cost at the fastest setting that reaches a recall@10.

    Args:
        result: of one method.
        threads: number of search threads.
        recall: recall@10 to reach, 0 to 1.
        modality: of the queries.
    """
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
    """Extend each cost from the two largest numbers of rows: smaller ones may have no index yet.

    Bytes by a straight line, since part of them is there without any rows; times by a power law,
    a * rows ** b. Raises ValueError for fewer than two costs.
    """
    if len(costs) < 2:
        raise ValueError("a prediction needs at least two numbers of rows")
    small, large = sorted(costs, key=lambda cost: cost.rows)[-2:]
    predicted: dict[str, float] = {}
    exponents: dict[str, float] = {}
    for name in ("memory_bytes", "mapped_bytes"):
        first, second = float(getattr(small, name)), float(getattr(large, name))
        a_row = (second - first) / (large.rows - small.rows)
        predicted[name] = second + a_row * (rows - large.rows)
    for name in ("build_s", "milliseconds", "batch_milliseconds"):
        first, second = (max(float(getattr(cost, name)), 1e-9) for cost in (small, large))
        exponents[name] = math.log(second / first) / math.log(large.rows / small.rows)
        predicted[name] = second * (rows / large.rows) ** exponents[name]
    return Growth(
        costs=(*costs, Cost(rows=rows, predicted=True, **predicted)),
        exponents=exponents,
        assumptions=(
            f"From {small.rows:,} and {large.rows:,} rows on this machine: bytes by a straight "
            f"line, times by a power law; {rows:,} is {rows / large.rows:,.0f} times the larger.",
            "The lists grow with the rows, by the rule that chooses the index: with many of them, "
            "comparing rows and queries with every list takes more than such a law foresees.",
            "The embeddings stay in the page cache. Where they do not fit, each candidate that is "
            "refined is a read from the disk: add candidates times the latency of a read, divided "
            "by the reads that run at once.",
        ),
    )
