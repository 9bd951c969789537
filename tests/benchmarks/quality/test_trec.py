"""TREC files: what is written reads back alike, as other tools read it."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.metrics import judge
from benchmarks.quality.trec import write_qrels, write_run
from retrieval.errors import UsageError

any_id = st.text(alphabet=st.characters(codec=None, exclude_categories=()), min_size=1)
any_id |= st.text(alphabet="!20u\u3000 \t\r\n\x85ab\udc80", min_size=1)
scores = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.5, -0.0, 5e-324])
runs = st.dictionaries(any_id, st.dictionaries(any_id, scores, min_size=1, max_size=5), max_size=4)


def read(path: Path, column: int, convert: type) -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        fields = line.split()
        table.setdefault(unescaped(fields[0]), {})[unescaped(fields[2])] = convert(fields[column])
    return table


def unescaped(field: str) -> str:
    return re.sub(
        "!(?:u([0-9a-f]{4})|([0-9a-f]{2}))", lambda code: chr(int(code[1] or code[2], 16)), field
    )


def in_order_of_rank(hits):
    return sorted(hits.items(), key=lambda hit: (hit[1], hit[0]), reverse=True)


@given(runs)
def test_a_run_reads_back_as_it_was_written(tmp_path_factory, run):
    path = tmp_path_factory.mktemp("trec") / "run"
    write_run(path, run)
    back = read(path, 4, float)
    assert back == run
    assert list(back) == list(run)
    for query, hits in run.items():
        assert list(back[query].items()) == in_order_of_rank(hits)
    # All readers agree on the lines: there is no other white space than what separates.
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [len(line.split()) for line in lines] == [6] * sum(map(len, run.values()))


@given(st.dictionaries(any_id, st.dictionaries(any_id, st.integers(), min_size=1), max_size=4))
def test_qrels_read_back_as_they_were_written(tmp_path_factory, qrels):
    path = tmp_path_factory.mktemp("trec") / "qrels"
    write_qrels(path, qrels)
    back = read(path, 3, int)
    assert back == qrels
    assert [list(items) for items in back.values()] == [list(items) for items in qrels.values()]


def test_the_files_are_those_of_trec(tmp_path):
    write_run(tmp_path / "run", {"q1": {"a": 0.1, "b": 2, "c d": 0.1}}, tag="flat index")
    assert (tmp_path / "run").read_text() == (
        "q1 Q0 b 1 2.0 flat!20index\nq1 Q0 c!20d 2 0.1 flat!20index\nq1 Q0 a 3 0.1 flat!20index\n"
    )
    write_qrels(tmp_path / "qrels", {"q1": {"a": 1, "b": 0}})
    assert (tmp_path / "qrels").read_text() == "q1 0 a 1\nq1 0 b 0\n"


def test_a_run_is_written_as_it_comes_from_a_generator(tmp_path):
    path = tmp_path / "run"

    def hits():
        for number in range(3000):
            if number == 2999:
                assert path.stat().st_size > 0
            yield f"q{number}", {"a": 0.5, "b": 0.25}

    write_run(path, hits())
    assert len(read(path, 4, float)) == 3000


@given(st.lists(st.text(alphabet=[chr(code) for code in range(128)], min_size=1), unique=True))
def test_escaped_ascii_ids_sort_as_the_ids_do(tmp_path_factory, ids):
    path = tmp_path_factory.mktemp("trec") / "run"
    write_run(path, {"q": dict.fromkeys(ids, 1.0)})
    written = [line.split()[2] for line in path.read_text().splitlines()]
    assert written == sorted(written, reverse=True)


def test_a_query_without_items_leaves_no_line_and_still_counts(tmp_path):
    write_run(tmp_path / "run", {"q1": {}, "q2": {"a": 1.0}})
    run = read(tmp_path / "run", 4, float)
    assert run == {"q2": {"a": 1.0}}
    assert judge({"q1": {"a": 1}, "q2": {"a": 1}}, run).first_ranks.tolist() == [math.inf, 1]


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused(tmp_path, score):
    with pytest.raises(UsageError, match="'a' for query 'q'"):
        write_run(tmp_path / "run", {"q": {"a": score}})


def test_empty_ids_are_refused(tmp_path):
    with pytest.raises(UsageError, match="empty id"):
        write_run(tmp_path / "run", {"q": {"": 1.0}})
    with pytest.raises(UsageError, match="empty id"):
        write_qrels(tmp_path / "qrels", {"": {"a": 1}})
