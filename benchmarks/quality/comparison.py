"""Compare results on the same queries: differences with intervals, failures mended and new."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.metrics import Judgments, parse_metric
from benchmarks.quality.report import DIRECTION_NAMES, format_figure
from benchmarks.quality.results import DirectionRecord, QualityRecord
from benchmarks.quality.significance import paired_test
from retrieval.errors import UsageError

CHANGES_PRINTED = 3

_NOT_FOUND = 1e9


@dataclass(frozen=True)
class ComparisonRow:
    """Value of a metric for one result, and its difference from the first result.

    direction: such as `t2i`, or the kind of the queries. difference, low, high: in the unit of the
    metric, with a 95% interval; p_value: of the paired test. None for the first result itself, NaN
    if a value is infinite.
    """

    label: str
    direction: str
    metric: str
    value: float
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None


def distinct_labels(labels: Sequence[str]) -> list[str]:
    """Number the labels that occur twice, such as those of two editions of an encoder."""
    return [
        f"{label} [{number}]" if labels.count(label) > 1 else label
        for number, label in enumerate(labels, start=1)
    ]


@dataclass(frozen=True)
class Change:
    """A query that fails in one of two results only.

    before, after: rank of its first right item, infinite if that is not in the list. found_before,
    found_after: ids of the first items, as far as the results hold them.
    """

    query: str
    before: float
    after: float
    found_before: tuple[str, ...] = ()
    found_after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Changes:
    """The failures of the first result that another one mends, and those that it adds.

    direction: as of `ComparisonRow`. rank: a query without a right item down to it fails.
    queries: number of all. mended, new: the largest change first.
    """

    label: str
    direction: str
    rank: int
    queries: int
    mended: tuple[Change, ...]
    new: tuple[Change, ...]


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


def find_changes(
    records: Sequence[QualityRecord], labels: Sequence[str] | None = None, *, rank: int
) -> list[Changes]:
    """Find the failures of the first result that each other mends, and those that it adds.

    Args:
        records: Results on the same queries.
        labels: Names of the results. (default: `QualityRecord.label`)
        rank: A query without a right item down to this rank fails.

    Raises:
        UsageError: `rank` is less than 1, or results on different queries.
    """
    names = list(labels or (record.label for record in records))
    found = []
    for direction, base in records[0].directions.items():
        for name, record in zip(names[1:], records[1:], strict=True):
            if direction not in record.directions:
                continue
            other = record.directions[direction]
            _require_same_queries(direction, base.judgments, other.judgments)
            # Results of earlier versions hold no items.
            nothing = [()] * len(base.judgments)
            changes = [
                Change(query, float(before), float(after), found_before, found_after)
                for query, before, after, found_before, found_after in zip(
                    base.judgments.query_ids,
                    base.judgments.first_ranks,
                    other.judgments.first_ranks,
                    base.found or nothing,
                    other.found or nothing,
                    strict=True,
                )
            ]
            found.append(split_changes(name, direction, changes, rank))
    return found


def split_changes(label: str, direction: str, each: Sequence[Change], rank: int) -> Changes:
    """Select the failures mended and new from all queries of one direction or kind.

    Raises UsageError if `rank` is less than 1.
    """
    if rank < 1:
        raise UsageError(f"The rank of a failure must be at least 1, not {rank}.")
    mended = [change for change in each if change.after <= rank < change.before]
    new = [change for change in each if change.before <= rank < change.after]
    return Changes(
        label,
        direction,
        rank,
        len(each),
        tuple(sorted(mended, key=_growth)),
        tuple(sorted(new, key=_growth, reverse=True)),
    )


def _growth(change: Change) -> float:
    return min(change.after, _NOT_FOUND) / min(change.before, _NOT_FOUND)


def format_rank(rank: float) -> str:
    """Format a rank."""
    return f"rank {rank:,.0f}" if math.isfinite(rank) else "not found"


def changes_markdown(changes: Changes, text_of: Callable[[str], str]) -> str:
    """Format the numbers of failures mended and new, and the largest changes, as Markdown.

    text_of: names a query, given its id.
    """
    kind = DIRECTION_NAMES.get(changes.direction, changes.direction)
    mended, new = len(changes.mended), len(changes.new)
    lines = [
        "",
        f"{kind}, {changes.label}: {mended:,} failures mended, {new:,} new, of "
        f"{changes.queries:,} queries (no right item among the first {changes.rank}).",
    ]
    for name, listed in (("mended", changes.mended), ("new", changes.new)):
        lines += [
            f"- {name}: {format_rank(change.before)}, then {format_rank(change.after)}: "
            f"{text_of(change.query)}"
            for change in listed[:CHANGES_PRINTED]
        ]
    return "\n".join([*lines, ""])


def comparison_markdown(rows: Sequence[ComparisonRow]) -> str:
    """Format the rows as a Markdown table; differences of percentages in points."""
    lines = [
        "| queries | metric | result | value | difference | 95% interval | p |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [f"| {' | '.join(map(_cell, comparison_cells(row)))} |" for row in rows]
    return "\n".join([*lines, ""])


def comparison_cells(row: ComparisonRow) -> list[str]:
    """Format a row: queries, metric, result, value, difference, interval, p value."""
    cells = [
        DIRECTION_NAMES.get(row.direction, row.direction),
        row.metric,
        row.label,
        format_figure(row.metric, row.value),
    ]
    if row.difference is None or row.low is None or row.high is None or row.p_value is None:
        return [*cells, "", "", ""]
    if math.isnan(row.difference):
        return [*cells, "not comparable", "", ""]
    return [
        *cells,
        _signed(row.metric, row.difference),
        f"{_signed(row.metric, row.low)} to {_signed(row.metric, row.high)}",
        f"{row.p_value:.4f}",
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


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
