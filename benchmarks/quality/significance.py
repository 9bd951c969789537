"""Statistical significance: bootstrap intervals, and a paired test between two runs.

    low, high = confidence_interval(judgments, "hit_recall@1", groups=photo_of_each_caption)
    paired_test(other, judgments, "hit_recall@1", groups=photo_of_each_caption).p_value

Queries that share a photo are not independent: the five captions of a clear photo all succeed.
Resampling them one by one understates the interval. `groups` gives the independent cluster of each
query, such as the photo of each caption, in the order of `Judgments.query_ids`; whole clusters are
then drawn, or exchanged between two runs.
"""

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.metrics import Aggregate, Judgments, PerQuery, parse_metric
from retrieval.errors import UsageError

RESAMPLES = 10_000
_BLOCK_CELLS = 300_000  # a block that fits the cache of a CPU core is several times as fast

Groups = Sequence[Hashable]
"""q labels, one per query: queries of equal label are resampled together."""


class Interval(NamedTuple):
    """Bounds of a confidence interval, in the unit of the metric."""

    low: float
    high: float


class PairedTest(NamedTuple):
    """First run minus second: difference of the figures, its interval, two-sided p value.

    `p_value`, greater than 0 and up to 1: probability of a difference at least as large if results
    are assigned to the two runs at random. All four are NaN if a figure is infinite: a run that is
    truncated before a relevant item has no mean rank to compare.
    """

    difference: float
    low: float
    high: float
    p_value: float


def confidence_interval(
    judgments: Judgments,
    name: str,
    *,
    groups: Groups | None = None,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Bootstrap the percentile interval of a metric over q queries.

    Queries, or groups of them, are drawn with replacement `resamples` times, and the metric is
    computed for each draw; the interval contains the middle `level`, 0 to 1, of these values (Efron
    and Tibshirani 1993, chapter 13; for groups, the cluster bootstrap of Field and Welsh 2007). The
    same seed gives the same interval. Bounds are infinite if the values of resamples are, such as
    mean ranks of items that were not found.

    Args:
        judgments: Ranks of the relevant items.
        name: Name of the metric.
        groups: Cluster of each query. (default: queries are independent)
        resamples: Number of resamples.
        level: Confidence level, 0 to 1.
        seed: Random seed.

    Raises:
        UsageError: Unknown metric, or another number of groups than queries.
    """
    metric = parse_metric(name)
    numbers = _group_numbers(groups, len(judgments))
    values = metric.per_query(judgments)
    figures = _resampled([values], numbers, metric.aggregate, resamples, seed)
    return _percentiles(figures[0], level)


def paired_test(
    first: Judgments,
    second: Judgments,
    name: str,
    *,
    groups: Groups | None = None,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> PairedTest:
    """Test whether two runs differ in a metric on the same queries.

    The p value is that of a paired randomisation test: under the null hypothesis the two values of
    a query may be exchanged, and those of a group together. It is (1 + number of random exchanges
    with a difference at least as large) / (1 + resamples), so never 0 (Smucker et al. 2007; Phipson
    and Smyth 2010). The interval is a paired bootstrap, as in `confidence_interval`: both runs are
    measured on the same drawn queries.

    Args:
        first: Ranks of the first run.
        second: Ranks of the second run, on the same queries.
        name: Name of the metric.
        groups: Cluster of each query. (default: queries are independent)
        resamples: Number of resamples.
        level: Confidence level of the interval, 0 to 1.
        seed: Random seed.

    Raises:
        UsageError: Unknown metric, runs on different queries, or another number of groups than
            queries.
    """
    metric = parse_metric(name)
    if first.query_ids != second.query_ids:
        raise UsageError(
            f"The runs answer different queries, {len(first):,} and {len(second):,}. Only runs on "
            "the same queries, in the same order, can be compared."
        )
    numbers = _group_numbers(groups, len(first))
    difference = _difference(np.array(metric.of(first)), np.array(metric.of(second))).item()
    if not np.isfinite(difference) or np.isinf(metric.of(first)):
        return PairedTest(np.nan, np.nan, np.nan, np.nan)
    pair = metric.per_query(first), metric.per_query(second)
    # The same sum in another order differs in its last bits, and must count as equal.
    tolerance = 1e-12 * max(1.0, abs(metric.of(first)), abs(metric.of(second)))
    aggregate = metric.aggregate
    return _paired(pair, numbers, aggregate, difference, tolerance, resamples, level, seed)


def paired_test_of_means(
    first: PerQuery,
    second: PerQuery,
    *,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> PairedTest:
    """Test whether the means of two runs differ, from (q,) finite values of the same queries.

    As `paired_test`, of independent queries. Raises UsageError for unequal numbers of values, or
    none.
    """
    if len(first) != len(second) or not len(first):
        raise UsageError(f"There are {len(first):,} and {len(second):,} values to compare.")
    difference = float(np.mean(first) - np.mean(second))
    tolerance = 1e-12 * max(1.0, float(np.abs(first).max()), float(np.abs(second).max()))
    numbers = np.arange(len(first))
    return _paired((first, second), numbers, "mean", difference, tolerance, resamples, level, seed)


def _paired(
    pair: tuple[PerQuery, PerQuery],
    numbers: NDArray[np.int64],
    aggregate: Aggregate,
    difference: float,
    tolerance: float,
    resamples: int,
    level: float,
    seed: int,
) -> PairedTest:
    figures = _resampled(pair, numbers, aggregate, resamples, seed)
    exchanged = _exchanged(pair, numbers, aggregate, resamples, seed)
    extreme = int(np.count_nonzero(np.abs(exchanged) >= abs(difference) - tolerance))
    return PairedTest(
        difference,
        *_percentiles(_difference(figures[0], figures[1]), level),
        (1 + extreme) / (1 + resamples),
    )


def _difference(first: PerQuery, second: PerQuery) -> PerQuery:
    """Subtract second from first; 0 if both are infinite."""
    return np.subtract(first, second, out=np.zeros_like(first), where=first != second)


def _group_numbers(groups: Groups | None, queries: int) -> NDArray[np.int64]:
    """Number the groups from 0 in order of appearance: (q,) int64."""
    if groups is None:
        return np.arange(queries)
    if len(groups) != queries:
        raise UsageError(f"There are {queries:,} queries and {len(groups):,} group labels.")
    number_of = {label: number for number, label in enumerate(dict.fromkeys(groups))}
    return np.array([number_of[label] for label in groups], dtype=np.int64)


def _blocks(resamples: int, width: int) -> Iterator[int]:
    step = max(1, _BLOCK_CELLS // width)
    for start in range(0, resamples, step):
        yield min(step, resamples - start)


def _resampled(
    samples: Sequence[PerQuery],
    numbers: NDArray[np.int64],
    aggregate: Aggregate,
    resamples: int,
    seed: int,
) -> NDArray[np.float64]:
    """Compute the metric of each sample on the same draws: (samples, resamples) float64."""
    generator = np.random.default_rng(seed)
    groups = int(numbers.max()) + 1
    blocks = []
    for size in _blocks(resamples, len(numbers)):
        drawn = generator.integers(0, groups, (size, groups))
        drawn += np.arange(size)[:, None] * groups
        times = np.bincount(drawn.ravel(), minlength=size * groups).reshape(size, groups)
        figures = _medians if aggregate == "median" else _means
        blocks.append([figures(sample, numbers, times) for sample in samples])
    return np.concatenate(blocks, axis=1)


def _means(
    sample: PerQuery, numbers: NDArray[np.int64], times: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean if group g occurs times[i, g] times: (b,) from (b, groups) counts."""
    weights = times.astype(np.float64)
    found = np.isfinite(sample)
    total = weights @ np.bincount(numbers, np.where(found, sample, 0))
    means: NDArray[np.float64] = total / (weights @ np.bincount(numbers))
    means[weights @ np.bincount(numbers, ~found) > 0] = np.inf  # 0 times infinity is NaN
    return means


def _medians(
    sample: PerQuery, numbers: NDArray[np.int64], times: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Median if group g occurs times[i, g] times: (b,) from (b, groups) counts."""
    order = np.argsort(sample)
    up_to = np.cumsum(times[:, numbers[order]], axis=1)
    total = up_to[:, -1:]
    lower = sample[order][(up_to > (total - 1) // 2).argmax(axis=1)]
    upper = sample[order][(up_to > total // 2).argmax(axis=1)]
    middle: NDArray[np.float64] = (lower + upper) / 2
    return middle


def _exchanged(
    pair: tuple[PerQuery, PerQuery],
    numbers: NDArray[np.int64],
    aggregate: Aggregate,
    resamples: int,
    seed: int,
) -> NDArray[np.float64]:
    """Differences of the figures after random exchanges of whole groups: (resamples,) float64."""
    # Another random stream than that of the bootstrap, so that the two are independent.
    generator = np.random.default_rng([seed, 1])
    groups = int(numbers.max()) + 1
    first, second = pair
    blocks = []
    for size in _blocks(resamples, len(numbers)):
        swap = generator.integers(0, 2, (size, groups), dtype=np.bool_)
        if aggregate == "median":
            each = swap[:, numbers]
            blocks.append(
                _difference(
                    np.median(np.where(each, second, first), axis=1),
                    np.median(np.where(each, first, second), axis=1),
                )
            )
        else:
            of_group = np.bincount(numbers, first - second)
            signs = 1 - 2.0 * swap
            blocks.append(signs @ of_group / len(numbers))
    return np.concatenate(blocks)


def _percentiles(figures: NDArray[np.float64], level: float) -> Interval:
    tail = (1 - level) / 2
    # Values of resamples, not interpolated: infinity minus infinity is NaN.
    low = np.quantile(figures, tail, method="lower")
    high = np.quantile(figures, 1 - tail, method="higher")
    return Interval(float(low), float(high))
