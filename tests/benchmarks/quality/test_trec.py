"""TREC files: written and read back alike, as other tools read them, and refused where broken."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.metrics import judge
from benchmarks.quality.trec import read_qrels, read_run, write_qrels, write_run
from retrieval.errors import NotFoundError, UsageError

any_id = st.text(alphabet=st.characters(codec=None, exclude_categories=()), min_size=1)
any_id |= st.text(alphabet="!20u\u3000 \t\r\n\x85ab\udc80", min_size=1)
scores = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.5, -0.0, 5e-324])
runs = st.dictionaries(any_id, st.dictionaries(any_id, scores, min_size=1, max_size=5), max_size=4)


def in_order_of_rank(hits):
    return sorted(hits.items(), key=lambda hit: (hit[1], hit[0]), reverse=True)


@given(runs)
def test_a_run_reads_back_as_it_was_written(tmp_path_factory, run):
    path = tmp_path_factory.mktemp("trec") / "run"
    write_run(path, run)
    back = read_run(path)
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
    back = read_qrels(path)
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
    assert len(read_run(path)) == 3000


@given(st.lists(st.text(alphabet=[chr(code) for code in range(128)], min_size=1), unique=True))
def test_escaped_ascii_ids_sort_as_the_ids_do(tmp_path_factory, ids):
    path = tmp_path_factory.mktemp("trec") / "run"
    write_run(path, {"q": dict.fromkeys(ids, 1.0)})
    written = [line.split()[2] for line in path.read_text().splitlines()]
    assert written == sorted(written, reverse=True)


def test_a_query_without_items_leaves_no_line_and_still_counts(tmp_path):
    write_run(tmp_path / "run", {"q1": {}, "q2": {"a": 1.0}})
    run = read_run(tmp_path / "run")
    assert run == {"q2": {"a": 1.0}}
    assert judge({"q1": {"a": 1}, "q2": {"a": 1}}, run).first_ranks.tolist() == [math.inf, 1]


def test_files_of_other_tools_are_read(tmp_path):
    path = tmp_path / "run"
    path.write_bytes("q1\tQ0\tid\u3000wide\t0\t1e3\tx\r\n\n  q1 Q0 wow! 7 -2 x y".encode()[:-2])
    assert read_run(path) == {"q1": {"id\u3000wide": 1000.0, "wow!": -2.0}}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"q1 Q0 b 1 0.5", "5 fields"),
        (b"q1 Q0 b c 1 0.5 x", "7 fields"),
        (b"q1 Q0 b 1 high x", "high"),
        (b"q1 Q0 b 1 nan x", "nan"),
        (b"q1 Q0 b 1 inf x", "inf"),
        (b"q1 Q0 a 1 0.5 x", "'a' occurs twice for query 'q1'"),
        (b"q1 Q0 \xff 1 0.5 x", "utf-8"),
    ],
)
def test_a_broken_run_is_refused_with_file_and_line(tmp_path, line, says):
    path = tmp_path / "broken.trec"
    path.write_bytes(b"q1 Q0 a 1 0.5 x\n\n" + line + b"\n")
    with pytest.raises(UsageError, match=says) as caught:
        read_run(path)
    assert f"{path}:3:" in str(caught.value)


@pytest.mark.parametrize(
    "line", [b"q1 0 b", b"q1 0 b 1.5", b"q1 0 b yes", b"q1 0 a 1", b"q1 0 b 1 1"]
)
def test_broken_qrels_are_refused_with_file_and_line(tmp_path, line):
    path = tmp_path / "broken.qrels"
    path.write_bytes(b"q1 0 a 1\n" + line)
    with pytest.raises(UsageError) as caught:
        read_qrels(path)
    assert f"{path}:2:" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NotFoundError, match=r"no file .*absent\.trec"):
        read_run(tmp_path / "absent.trec")


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused(tmp_path, score):
    with pytest.raises(UsageError, match="'a' for query 'q'"):
        write_run(tmp_path / "run", {"q": {"a": score}})


def test_empty_ids_are_refused(tmp_path):
    with pytest.raises(UsageError, match="empty id"):
        write_run(tmp_path / "run", {"q": {"": 1.0}})
    with pytest.raises(UsageError, match="empty id"):
        write_qrels(tmp_path / "qrels", {"": {"a": 1}})
