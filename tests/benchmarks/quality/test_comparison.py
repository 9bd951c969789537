"""Results side by side, with intervals and p values."""

import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.quality.comparison import (
    CHANGES_PRINTED,
    ComparisonRow,
    changes_markdown,
    compare_records,
    comparison_markdown,
    distinct_labels,
    find_changes,
)
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


def changed(record, ranks, found=()):
    """Return a record of text to image alone, with other ranks of its 90 queries."""
    direction = record.directions["t2i"]
    judgments = replace(direction.judgments, ranks=np.array(ranks, dtype=np.float64))
    return replace(record, directions={"t2i": replace(direction, judgments=judgments, found=found)})


def test_failures_that_are_mended_and_new_are_told_apart(measured):
    record, _ = measured
    rest = [1.0] * 84
    before = changed(record, [50, 11, 11, 10, 3, 1, *rest])
    after = changed(record, [10, 1, 12, 11, math.inf, 9, *rest])
    [changes] = find_changes([before, after], rank=10)
    ids = record.directions["t2i"].judgments.query_ids
    assert [change.query for change in changes.mended] == [ids[1], ids[0]]
    assert [change.query for change in changes.new] == [ids[4], ids[3]]
    assert (changes.mended[0].before, changes.mended[0].after) == (11, 1)
    assert changes.queries == 90
    [backwards] = find_changes([after, before], rank=10)
    assert {change.query for change in backwards.new} == {ids[0], ids[1]}
    [same] = find_changes([before, before], rank=10)
    assert same.mended == same.new == ()
    with pytest.raises(UsageError, match="at least 1"):
        find_changes([before, after], rank=0)


def test_changes_tell_the_numbers_and_the_largest(measured):
    record, _ = measured
    before = changed(record, [math.inf, *range(20, 40), *[1] * 69])
    [changes] = find_changes([before, changed(record, [1] * 90)], ["old", "new"], rank=10)
    text = changes_markdown(changes, lambda query: f"<{query}>")
    assert "text to image, new: 21 failures mended, 0 new, of 90 queries" in text
    first = record.directions["t2i"].judgments.query_ids[0]
    assert f"- mended: not found, then rank 1: <{first}>" in text
    assert text.count("- mended") == CHANGES_PRINTED


def test_equal_labels_are_numbered():
    assert distinct_labels(["a", "b", "a"]) == ["a [1]", "b", "a [3]"]


def test_labels_cannot_break_the_table():
    table = comparison_markdown([ComparisonRow("a|b", "t2i", "map", 0.5)])
    assert r"| a\|b |" in table
