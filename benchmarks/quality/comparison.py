"""Compare results on the same queries: differences with intervals and p values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.metrics import Judgments, parse_metric
from benchmarks.quality.report import DIRECTION_NAMES, format_figure
from benchmarks.quality.results import DirectionRecord, QualityRecord
from benchmarks.quality.significance import paired_test
from retrieval.errors import UsageError


@dataclass(frozen=True)
class ComparisonRow:
    """Value of a metric for one result, and its difference from the first result.

    difference, low, high: in the unit of the metric, with a 95% interval; p_value: of the paired
    test. None for the first result itself, NaN if a value is infinite.
    """

    label: str
    direction: str
    metric: str
    value: float
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None


def compare_records(
    records: Sequence[QualityRecord],
    metrics: Sequence[str],
    labels: Sequence[str] | None = None,
    *,
    seed: int = 0,
) -> list[ComparisonRow]:
    """Compare results with the first one, for each direction and metric.

    Args:
        records: At least two results.
        metrics: Names of the metrics.
        labels: Names of the results. (default: `QualityRecord.label`)
        seed: Random seed of the resampling.

    Raises:
        UsageError: Fewer than two results, or results on different queries.
    """
    if len(records) < 2:
        raise UsageError("A comparison needs at least two results.")
    names = list(labels or (record.label for record in records))
    first = records[0]
    rows = []
    for direction, base in first.directions.items():
        for metric in metrics:
            rows.append(ComparisonRow(names[0], direction, metric, _value(base, metric)))
            for name, record in zip(names[1:], records[1:], strict=True):
                if direction in record.directions:
                    other = record.directions[direction]
                    rows.append(_compare(name, direction, metric, base, other, seed))
    return rows


def comparison_markdown(rows: Sequence[ComparisonRow]) -> str:
    """Format the rows as a Markdown table; differences of percentages in points."""
    lines = [
        "| direction | metric | result | value | difference | 95% interval | p |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = [
            DIRECTION_NAMES[row.direction],
            row.metric,
            row.label,
            format_figure(row.metric, row.value),
        ]
        if row.difference is None or row.low is None or row.high is None or row.p_value is None:
            cells += ["", "", ""]
        elif math.isnan(row.difference):
            cells += ["not comparable", "", ""]
        else:
            cells += [
                _signed(row.metric, row.difference),
                f"{_signed(row.metric, row.low)} to {_signed(row.metric, row.high)}",
                f"{row.p_value:.4f}",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _value(record: DirectionRecord, metric: str) -> float:
    return parse_metric(metric).of(record.judgments)


def _compare(
    name: str,
    direction: str,
    metric: str,
    base: DirectionRecord,
    other: DirectionRecord,
    seed: int,
) -> ComparisonRow:
    _require_same_queries(direction, base.judgments, other.judgments)
    test = paired_test(other.judgments, base.judgments, metric, groups=base.groups, seed=seed)
    return ComparisonRow(name, direction, metric, _value(other, metric), *test)


def _require_same_queries(direction: str, base: Judgments, other: Judgments) -> None:
    if base.query_ids != other.query_ids or not np.array_equal(base.relevant, other.relevant):
        raise UsageError(
            f"The results answer different queries ({DIRECTION_NAMES[direction]}: "
            f"{len(base):,} and {len(other):,}). Compare results on the same dataset and split."
        )


def _signed(metric: str, value: float) -> str:
    shown = format_figure(metric, abs(value))
    return f"{'-' if value < 0 else '+'}{shown}"
