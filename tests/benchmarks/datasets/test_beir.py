import json

import pytest

from benchmarks.datasets import load_dataset
from retrieval.errors import NotFoundError, UsageError

CORPUS = (
    {"_id": "d1", "title": "Cats", "text": "They purr."},
    {"_id": "d 2", "title": "", "text": "Dogs bark.", "metadata": {}},
    {"_id": 3, "text": "Fish."},
)
QUERIES = ({"_id": "d1", "text": "who purrs?"}, {"_id": "q2", "text": "pets"})
HEADER = "query-id\tcorpus-id\tscore\n"


@pytest.fixture
def write(tmp_path):
    def write_files(corpus=CORPUS, queries=QUERIES, **qrels):
        for name, rows in (("corpus", corpus), ("queries", queries)):
            lines = "\n".join(json.dumps(row) for row in rows)
            (tmp_path / f"{name}.jsonl").write_text(lines)
        (tmp_path / "qrels").mkdir()
        for split, judgments in qrels.items():
            (tmp_path / "qrels" / f"{split}.tsv").write_text(judgments)
        return f"beir:{tmp_path}"

    return write_files


def test_queries_apart_from_the_corpus(write):
    dataset = load_dataset(write(test=HEADER + "d1\td1\t1\nq2\td 2\t2\nq2\td1\t1\nq2\t3\t0\n"))
    assert dataset.directions == ("t2t",)
    assert dataset.qrels("t2t") == {"d1": {"d1": 1}, "q2": {"d%202": 2, "d1": 1}}
    assert dataset.queries("t2t") == {"d1": "who purrs?", "q2": "pets"}
    assert dataset.items("t2t") == {"d1": "Cats They purr.", "d%202": "Dogs bark.", "3": "Fish."}
    assert not dataset.problems
    with pytest.raises(UsageError, match="t2i is not defined"):
        dataset.qrels("t2i")
    with pytest.raises(UsageError, match="first 5 of 0 images"):
        dataset.first_images(5)


def test_splits_are_files_and_headers_may_lack(write):
    specification = write(dev="q2\td1\t1\n", train=HEADER + "d1\td1\t1\r\n")
    assert load_dataset(specification, "dev").query_texts == {"q2": "pets"}
    assert load_dataset(specification, "all").qrels("t2t") == {"q2": {"d1": 1}, "d1": {"d1": 1}}
    with pytest.raises(UsageError, match=r"needs a split.*dev .*train"):
        load_dataset(specification)
    with pytest.raises(UsageError, match="does not name languages"):
        load_dataset(specification, "dev", "en")


def test_every_problem_is_reported(write):
    dataset = load_dataset(
        write(
            corpus=[*CORPUS, {"_id": "d1", "text": "Again."}, {"_id": "void", "text": " "}],
            queries=[
                *QUERIES,
                {"_id": "q2", "text": "again"},
                {"_id": "mute", "text": None},
                {"_id": "idle", "text": "nothing fits"},
            ],
            test=HEADER
            + "q2\td1\t1\nq2\td1\t2\nq2\tnone\t1\nq2\tvoid\t1\n"
            + "who\td1\t1\nmute\td1\t1\nidle\td1\t0\n",
        )
    )
    assert [(str(problem.kind), problem.where) for problem in dataset.problems] == [
        ("duplicate id", "corpus.jsonl:4"),
        ("empty text", "corpus.jsonl:5"),
        ("duplicate id", "queries.jsonl:3"),
        ("empty text", "queries.jsonl:4"),
        ("duplicate id", "test.tsv:3"),
        ("unknown id", "test.tsv:4"),
        ("unknown id", "test.tsv:5"),
        ("unknown id", "test.tsv:6"),
        ("query without relevant item", "queries.jsonl:5"),
    ]
    assert dataset.qrels("t2t") == {"q2": {"d1": 2}}
    assert dataset.query_texts == {"q2": "pets"}


@pytest.mark.parametrize("line", ["q2\td1", "q2 d1 1", "q2\td1\t1.5", "q2\t\t1", "q2\t0\td1\t1"])
def test_malformed_judgments_are_refused(write, line):
    with pytest.raises(UsageError, match=r"test\.tsv:2: expected query id"):
        load_dataset(write(test=HEADER + line + "\n"))


def test_malformed_rows_are_refused(write, tmp_path):
    specification = write(test=HEADER + "q2\td1\t1\n")
    for row in ({"text": "x"}, {"_id": "", "text": "x"}, {"_id": "a", "text": ["x"]}):
        (tmp_path / "corpus.jsonl").write_text(json.dumps(row))
        with pytest.raises(UsageError, match=r"corpus\.jsonl:1: "):
            load_dataset(specification)


def test_nothing_relevant_is_an_error(write):
    with pytest.raises(UsageError, match="not one query"):
        load_dataset(write(test=HEADER + "q2\tnone\t1\n"))


def test_missing_files_are_named(write, tmp_path):
    specification = write()
    with pytest.raises(NotFoundError, match=r"qrels holds no \*\.tsv"):
        load_dataset(specification)
    (tmp_path / "queries.jsonl").unlink()
    with pytest.raises(NotFoundError, match=r"queries\.jsonl does not exist.*beir"):
        load_dataset(specification)
