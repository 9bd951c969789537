import json
import math
from dataclasses import replace

import ir_measures
import numpy as np
import pytest
import ranx

from api.cli.bench.retrieval import _file_of
from benchmarks.metrics import evaluate
from benchmarks.quality.embedding_cache import EmbeddingCache
from benchmarks.quality.report import markdown
from benchmarks.quality.results import published_name, read_records, record_of, write_records
from benchmarks.quality.retrieval import Setup, measure_quality
from benchmarks.quality.trec import write_qrels, write_run
from retrieval.errors import NotFoundError, UsageError


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::numba.NumbaWarning")
@pytest.mark.parametrize("direction", ["t2i", "i2t"])
def test_other_tools_compute_the_same_from_the_trec_files(direction, dataset, measured, tmp_path):
    record, ranked = measured
    run_file, qrels_file = tmp_path / "run.trec", tmp_path / "qrels"
    lists = ranked[direction].values()
    write_run(
        run_file,
        ((one.query_id, dict(zip(one.item_ids, one.scores, strict=True))) for one in lists),
    )
    write_qrels(qrels_file, dataset.qrels(direction))
    ours = evaluate(record.directions[direction].judgments, ["map", "mrr", "ndcg@10", "recall@10"])

    names = {
        ir_measures.AP: "map",
        ir_measures.RR: "mrr",
        ir_measures.nDCG @ 10: "ndcg@10",
        ir_measures.R @ 10: "recall@10",
    }
    theirs = ir_measures.calc_aggregate(
        list(names),
        ir_measures.read_trec_qrels(str(qrels_file)),
        ir_measures.read_trec_run(str(run_file)),
    )
    for measure, name in names.items():
        assert theirs[measure] == pytest.approx(ours[name], abs=1e-9)

    also_theirs = ranx.evaluate(
        ranx.Qrels.from_file(str(qrels_file), kind="trec"),
        ranx.Run.from_file(str(run_file), kind="trec"),
        ["map", "mrr", "ndcg@10", "recall@10"],
    )
    assert also_theirs == pytest.approx(ours, abs=1e-9)


def test_a_record_comes_back_from_its_file(measured, tmp_path):
    record, _ = measured
    write_records([record], tmp_path / "a" / "result.json")
    (again,) = read_records(tmp_path / "a" / "result.json")
    assert again.dataset == record.dataset
    assert again.space["encoder"].startswith("local-dir:")
    assert again.environment["faiss"]
    for direction, kept in record.directions.items():
        assert again.directions[direction].metrics == kept.metrics
        np.testing.assert_array_equal(
            again.directions[direction].judgments.ranks, kept.judgments.ranks
        )
    assert again.rsum == record.rsum


def test_items_that_were_not_found_come_back_as_infinite_ranks(dataset, tiny_encoder, tmp_path):
    cache = EmbeddingCache(tmp_path / "cache")
    record = record_of(measure_quality(dataset, tiny_encoder, Setup(depth=2), cache))
    assert record.directions["t2i"].metrics["mean_rank"].value == math.inf
    write_records([record], tmp_path / "r.json")
    (again,) = read_records(tmp_path / "r.json")
    assert again.directions["t2i"].metrics["mean_rank"].value == math.inf
    assert (
        again.directions["t2i"].metrics["mean_rank"]
        == record.directions["t2i"].metrics["mean_rank"]
    )


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 99}', '{"format": 1}'])
def test_other_files_are_no_results(content, tmp_path):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(UsageError, match=r"r.json"):
        read_records(tmp_path / "r.json")
    with pytest.raises(NotFoundError):
        read_records(tmp_path / "nowhere.json")


@pytest.fixture(scope="module")
def reranked(measured):
    """The record as if a reranker had scored the first ten items, and texts been compared too."""
    record, _ = measured
    directions = {
        "t2i": replace(record.directions["t2i"], reranked=10),
        "t2t": replace(record.directions["i2t"], reranked=0),
    }
    reranker = {"name": "fusion", "identity": "abc", "match_weight": 0.05, "depth": 10}
    return replace(record, directions=directions, reranker=reranker)


def test_a_reranked_record_says_by_what_and_how_deep(measured, reranked, tmp_path):
    assert reranked.label.endswith(", flat, rerank fusion@10, en")
    assert "rerank" not in measured[0].label
    table = markdown(reranked)
    assert "Reranked by fusion (match weight 0.05). Text to image: the first 10;" in table
    assert "text to text: not, a reranker needs a text and an image" in table
    assert "Reranked" not in markdown(measured[0])
    write_records([reranked], tmp_path / "r.json")
    (again,) = read_records(tmp_path / "r.json")
    assert again.reranker == reranked.reranker
    assert [kept.reranked for kept in again.directions.values()] == [10, 0]
    assert again.label == reranked.label


def test_a_record_from_before_there_were_rerankers_is_read(measured, tmp_path):
    record, _ = measured
    write_records([record], tmp_path / "r.json")
    body = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    del body["reranker"]
    for kept in body["directions"].values():
        del kept["reranked"]
    (tmp_path / "r.json").write_text(json.dumps(body), encoding="utf-8")
    (again,) = read_records(tmp_path / "r.json")
    assert again.reranker == {}
    assert again.label == record.label


def test_each_direction_gets_a_file_of_its_own(tmp_path):
    both, one = Setup(directions=("t2i", "i2t")), Setup(directions=("t2i",))
    assert _file_of(tmp_path / "run.trec", "t2i", both).name == "run.t2i.trec"
    assert _file_of(tmp_path / "run.trec", "t2i", one).name == "run.trec"


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("vlm:/home/me/my models/best/", "vlm:best"),
        ("vlm:Qwen/Qwen3-VL-Reranker-2B", "vlm:Qwen/Qwen3-VL-Reranker-2B"),
        ("starter", "starter"),
        ("", ""),
    ],
)
def test_published_names_say_nothing_of_folders(name, published):
    assert published_name(name) == published
