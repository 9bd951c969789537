"""Results of queries of all kinds side by side."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from benchmarks.quality.queries import AbsentFigures, FoundPhoto, QueryFigures
from benchmarks.quality.queries_comparison import (
    QueriesRecord,
    compare_queries,
    find_query_changes,
    is_queries_result,
    paired_runs,
    read_queries_records,
)
from retrieval.errors import NotFoundError, UsageError


def figures(text, kind="noun", rank=1, value=0.5):
    return QueryFigures(
        text=text,
        kind=kind,
        right=3,
        unsure=1,
        precision_at_10=value,
        ap=value,
        ndcg=value,
        shown=4,
        shown_precision=None,
        shown_recall=value,
        shown_f1=value,
        best_f1=value,
        first_rank=rank,
        wanted=("a.jpg",),
        found=(FoundPhoto("b.jpg", 0), FoundPhoto("a.jpg", 1)),
    )


def run_of(name, ranks, values, shown=(), label="one"):
    kinds = ["noun"] * (len(ranks) - 2) + ["caption"] * 2
    queries = [
        figures(f"q{number}", kind, rank, value)
        for number, (kind, rank, value) in enumerate(zip(kinds, ranks, values, strict=True))
    ]
    absent = [AbsentFigures(f"nothing {number}", count) for number, count in enumerate(shown)]
    return QueriesRecord(label, name, tuple(queries), tuple(absent))


def test_each_kind_is_compared_with_an_interval():
    before = run_of("none", [1] * 22, [0.2] * 22, shown=[1] * 10)
    after = run_of("none", [1] * 22, [0.4] * 20 + [0.2] * 2, shown=[0] * 6 + [1] * 4, label="two")
    rows = compare_queries([before, after])
    by = {(row.direction, row.metric, row.label): row for row in rows}
    noun = by["noun", "ndcg", "two"]
    assert noun.value == pytest.approx(0.4)
    assert noun.difference == pytest.approx(0.2)
    assert noun.p_value < 0.001
    caption = by["caption", "shown_f1", "two"]
    assert (caption.difference, caption.low, caption.high, caption.p_value) == (0, 0, 0, 1)
    assert by["all", "map", "two"].value == pytest.approx((20 * 0.4 + 2 * 0.2) / 22)
    absent = by["absent", "nothing_shown", "two"]
    assert (by["absent", "nothing_shown", "one"].value, absent.value) == (0, 0.6)
    assert absent.low < 0.6 < absent.high
    assert {row.metric for row in rows if row.direction == "absent"} == {"nothing_shown"}
    assert {row.metric for row in compare_queries([before, after], ["map"])} == {"map"}
    with pytest.raises(UsageError, match="hit_recall@1"):
        compare_queries([before, after], ["hit_recall@1"])


def test_failures_are_told_by_kind():
    before = run_of("none", [1, 30, None, 5, 2], [0.1] * 5)
    after = run_of("none", [20, 2, 1, 5, None], [0.1] * 5, label="two")
    nouns, captions = find_query_changes([before, after], rank=10)
    assert (nouns.direction, captions.direction) == ("noun", "caption")
    assert [change.query for change in nouns.mended] == ["q2", "q1"]
    assert [change.query for change in nouns.new] == ["q0"]
    assert [(change.query, change.after) for change in captions.new] == [("q4", math.inf)]
    assert nouns.mended[0].found_after == ("b.jpg", "a.jpg")


def test_other_queries_are_not_compared():
    before = run_of("none", [1] * 4, [0.1] * 4, shown=[1])
    for other in (
        run_of("none", [1] * 5, [0.1] * 5, shown=[1]),
        run_of("none", [1] * 4, [0.1] * 4),
    ):
        for compare in (compare_queries, lambda runs: find_query_changes(runs, rank=10)):
            with pytest.raises(UsageError, match="different queries"):
                compare([before, other])


def test_runs_are_paired_by_their_rerankers():
    one = [run_of(name, [1] * 3, [0.1] * 3) for name in ("none", "fusion")]
    two = [run_of(name, [1] * 3, [0.1] * 3, label="two") for name in ("fusion", "none", "blip")]
    groups = paired_runs([one, two])
    assert [[run.name for run in group] for group in groups] == [["none"] * 2, ["fusion"] * 2]
    assert [group[1].label for group in groups] == ["two"] * 2
    with pytest.raises(UsageError, match="no reranker in common"):
        paired_runs([one[:1], two[:1]])


def test_results_are_read_as_they_were_written(tmp_path):
    run = run_of("fusion", [1, None, 3], [0.1, 0.2, 0.3], shown=[2])
    stored = {"reranker": "fusion", **asdict(run)}
    body = {"encoder": "starter", "runs": [stored, {**stored, "reranker": "none"}]}
    file = tmp_path / "result.json"
    file.write_text(json.dumps(body))
    assert is_queries_result(file)
    fusion, none = read_queries_records(file)
    assert (fusion.queries, fusion.absent) == (run.queries, run.absent)
    assert (fusion.label, none.label) == ("starter, rerank fusion", "starter")
    old = json.loads(file.read_text())
    del old["runs"][0]["queries"][0]["first_rank"]
    file.write_text(json.dumps(old))
    with pytest.raises(UsageError, match="earlier version"):
        read_queries_records(file)


@pytest.mark.parametrize(
    "content", ["", "[", "{}", '{"runs": 3}', '{"encoder": "x", "runs": [{"queries": []}]}', "\xff"]
)
def test_what_is_no_result_is_an_error(tmp_path, content):
    file = tmp_path / "result.json"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(UsageError, match="is not a result"):
        read_queries_records(file)
    with pytest.raises(NotFoundError):
        is_queries_result(tmp_path / "gone.json")


def test_values_are_means_of_the_queries():
    values = np.random.default_rng(0).random(8)
    rows = compare_queries([run_of("none", [1] * 8, values), run_of("none", [1] * 8, values)])
    row = next(row for row in rows if (row.direction, row.metric) == ("all", "precision@10"))
    assert row.value == pytest.approx(values.mean())
