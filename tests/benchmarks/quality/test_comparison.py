"""Results side by side, with intervals and p values."""

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.quality.comparison import ComparisonRow, compare_records, comparison_markdown
from benchmarks.quality.embedding_cache import EmbeddingCache
from benchmarks.quality.results import record_of
from benchmarks.quality.retrieval import Setup, measure_quality
from retrieval.errors import UsageError


def test_a_result_does_not_differ_from_itself(measured):
    record, _ = measured
    rows = compare_records([record, record], ["hit_recall@10", "median_rank"])
    assert [row.difference for row in rows] == [None, 0, None, 0] * 2
    assert all(row.p_value in {None, 1} for row in rows)
    table = comparison_markdown(rows)
    assert len(table.splitlines()) == 2 + 8
    assert "+0.0" in table


def test_results_on_other_queries_are_not_compared(measured, dataset, tiny_encoder, tmp_path):
    record, _ = measured
    cache = EmbeddingCache(tmp_path / "cache")
    other = record_of(measure_quality(dataset.first_images(5), tiny_encoder, Setup(), cache))
    with pytest.raises(UsageError, match="different queries"):
        compare_records([record, other], ["map"])
    with pytest.raises(UsageError, match="two results"):
        compare_records([record], ["map"])


def test_each_later_result_is_measured_against_the_first(measured):
    record, _ = measured
    direction = record.directions["t2i"]
    ranks = np.ones_like(direction.judgments.ranks)
    perfect = replace(direction, judgments=replace(direction.judgments, ranks=ranks))
    better = replace(record, directions={"t2i": perfect})
    rows = compare_records([record, better], ["mrr"], ["old", "new"])
    assert [(row.label, row.direction) for row in rows] == [
        ("old", "t2i"),
        ("new", "t2i"),
        ("old", "i2t"),
    ]
    assert rows[1].value == 1
    assert rows[1].difference == pytest.approx(1 - rows[0].value)
    assert rows[1].low < rows[1].difference < rows[1].high
    assert rows[1].p_value < 0.01


def test_differences_are_signed_points_and_ranks_stay_ranks():
    table = comparison_markdown(
        [
            ComparisonRow("a", "t2i", "map", 0.5),
            ComparisonRow("b", "t2i", "map", 0.48, -0.02, -0.035, 0.001, 0.04),
            ComparisonRow("b", "i2t", "mean_rank", 9.0, 2.0, 1.0, 3.0, 0.0001),
            ComparisonRow(
                "c", "t2i", "mean_rank", math.inf, math.nan, math.nan, math.nan, math.nan
            ),
        ]
    ).splitlines()
    assert table[2:] == [
        "| text to image | map | a | 50.0 |  |  |  |",
        "| text to image | map | b | 48.0 | -2.0 | -3.5 to +0.1 | 0.0400 |",
        "| image to text | mean_rank | b | 9.0 | +2.0 | +1.0 to +3.0 | 0.0001 |",
        "| text to image | mean_rank | c | inf | not comparable |  |  |",
    ]
