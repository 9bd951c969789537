import json
import math
from dataclasses import replace

import ir_measures
import numpy as np
import pytest
import ranx

from api.cli.bench.retrieval import _file_of
from benchmarks.datasets import load_dataset
from benchmarks.metrics import evaluate
from benchmarks.quality.comparison import compare_records, comparison_markdown
from benchmarks.quality.embedding_cache import EmbeddingCache
from benchmarks.quality.report import format_figure, markdown, published_beside, write_report
from benchmarks.quality.results import read_record, record_of, write_record
from benchmarks.quality.retrieval import Setup, measure_quality
from benchmarks.quality.trec import write_qrels, write_run
from retrieval.errors import NotFoundError, UsageError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Thirty small pictures of noise with three captions each."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("captioned")
    (folder / "images").mkdir()
    generator = np.random.default_rng(0)
    lines = []
    for number in range(30):
        noise = generator.integers(0, 256, (36, 36, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "images" / f"{number}.png")
        ways = ("here", "there", "<everywhere>" + " again" * 9)
        captions = [f"noise {number} seen {way}" for way in ways]
        lines.append(json.dumps({"image": f"{number}.png", "split": "val", "en": captions}))
    (folder / "captions.jsonl").write_text("\n".join(lines))
    return load_dataset(f"jsonl:{folder}", split="val")


@pytest.fixture(scope="module")
def measured(dataset, tiny_encoder, tmp_path_factory):
    """A real run of the small encoder: the record and the ranked lists."""
    ranked = {"t2i": {}, "i2t": {}}
    cache = EmbeddingCache(tmp_path_factory.mktemp("cache"))
    result = measure_quality(
        dataset,
        tiny_encoder,
        Setup(),
        cache,
        on_ranked=lambda direction, one: ranked[direction].update({one.query_id: one}),
    )
    return record_of(result), ranked


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
    write_record(record, tmp_path / "a" / "result.json")
    again = read_record(tmp_path / "a" / "result.json")
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
    write_record(record, tmp_path / "r.json")
    again = read_record(tmp_path / "r.json")
    assert again.directions["t2i"].metrics["mean_rank"].value == math.inf
    assert (
        again.directions["t2i"].metrics["mean_rank"]
        == record.directions["t2i"].metrics["mean_rank"]
    )


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 99}', '{"format": 1}'])
def test_other_files_are_no_results(content, tmp_path):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(UsageError, match=r"r.json"):
        read_record(tmp_path / "r.json")
    with pytest.raises(NotFoundError):
        read_record(tmp_path / "nowhere.json")


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


def test_the_report_is_one_file_that_needs_no_other(measured, dataset, tmp_path):
    record, ranked = measured
    page = write_report(tmp_path / "report", record, dataset, ranked).read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert "Reranked" not in page
    assert page.count('class="failure"') == 48
    assert "data:image/jpeg;base64," in page
    assert "&lt;everywhere&gt;" in page
    assert "<everywhere>" not in page
    assert 'src="http' not in page
    assert "href=" not in page.replace('xlink:href="#', "")
    assert "| hit_recall@1 |" in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")


def test_problems_of_the_data_are_told(measured):
    record, _ = measured
    assert "30 x text cut at the encoder's context" in markdown(record)
    broken = replace(record, dataset={**record.dataset, "problems": {"missing image": 3}})
    assert "3 x missing image" in markdown(broken)


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
    write_record(reranked, tmp_path / "r.json")
    again = read_record(tmp_path / "r.json")
    assert again.reranker == reranked.reranker
    assert [kept.reranked for kept in again.directions.values()] == [10, 0]
    assert again.label == reranked.label


def test_a_record_from_before_there_were_rerankers_is_read(measured, tmp_path):
    record, _ = measured
    write_record(record, tmp_path / "r.json")
    body = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    del body["reranker"]
    for kept in body["directions"].values():
        del kept["reranked"]
    (tmp_path / "r.json").write_text(json.dumps(body), encoding="utf-8")
    again = read_record(tmp_path / "r.json")
    assert again.reranker == {}
    assert again.label == record.label


def test_published_figures_stand_beside_the_dataset_they_are_of(measured):
    record, _ = measured
    assert published_beside(record) == []
    flickr = replace(record, dataset={**record.dataset, "name": "Flickr30k", "split": "test"})
    rows = published_beside(flickr)
    assert any(row["model"].startswith("CLIP ViT-B/32") for row in rows)
    assert all(row["source"].startswith("https://") for row in rows)
    assert "not measured here" in markdown(flickr)


def test_figures_are_percentages_but_ranks():
    assert format_figure("hit_recall@1", 0.123) == "12.3"
    assert format_figure("median_rank", 1234.0) == "1,234.0"


def test_each_direction_gets_a_file_of_its_own(tmp_path):
    both, one = Setup(directions=("t2i", "i2t")), Setup(directions=("t2i",))
    assert _file_of(tmp_path / "run.trec", "t2i", both).name == "run.t2i.trec"
    assert _file_of(tmp_path / "run.trec", "t2i", one).name == "run.trec"
