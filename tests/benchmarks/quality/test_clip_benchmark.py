import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.metrics import Judgments
from benchmarks.quality.clip_benchmark import check_output, result_body, write_rows
from benchmarks.quality.results import DirectionRecord, Figure, QualityRecord
from retrieval.errors import UsageError


def direction(name, ranks):
    """Judge queries by the ranks of each one's relevant items."""
    judgments = Judgments(
        query_ids=tuple(f"q{place}" for place in range(len(ranks))),
        offsets=np.cumsum([0, *map(len, ranks)]),
        ranks=np.concatenate([np.array(each, np.float64) for each in ranks]),
        gains=np.ones(sum(map(len, ranks))),
        ranked=np.full(len(ranks), 40),
    )
    return DirectionRecord(
        direction=name,
        judgments=judgments,
        groups=judgments.query_ids,
        items=40,
        index="flat",
        milliseconds={},
        truncated_texts=0,
        metrics={"hit_recall@1": Figure(0, 0, 0), "recall@10": Figure(0, 0, 0)},
    )


@pytest.fixture
def record():
    """Four captions with a photo each, and two photos with two captions each."""
    return QualityRecord(
        dataset={"name": "flickr8k", "language": "en"},
        space={"encoder": "open_clip:ViT-B-32/laion2b_s34b_b79k", "weights": "sha256:1234"},
        setup={"refine": True},
        environment={},
        directions={
            "t2i": direction("t2i", [[1], [5], [6], [30]]),
            "i2t": direction("i2t", [[2, 30], [6, 7]]),
        },
    )


FIGURES = {
    "image_retrieval_recall@1": 0.25,
    "text_retrieval_recall@1": 0.0,
    "image_retrieval_recall@5": 0.5,
    "text_retrieval_recall@5": 0.5,
}
"""By hand. Any caption of a photo counts: two of its four are not asked for."""


def test_a_result_is_that_of_their_program(record):
    assert result_body(record) == {
        "dataset": "flickr8k",
        "model": "ViT-B-32",
        "pretrained": "laion2b_s34b_b79k",
        "task": "zeroshot_retrieval",
        "metrics": FIGURES,
        "language": "en",
    }


@pytest.mark.parametrize(
    ("encoder", "model", "pretrained"),
    [
        ("open_clip:ViT-B-32//home/me/best.pt", "ViT-B-32", "best.pt"),
        ("starter", "starter", "sha256:1234"),
        ("local-dir:/home/me/mine", "local-dir:mine", "sha256:1234"),
        ("clap:laion/clap-htsat", "clap:laion/clap-htsat", "sha256:1234"),
    ],
)
def test_models_are_named_without_their_folders(record, encoder, model, pretrained):
    body = result_body(replace(record, space=record.space | {"encoder": encoder}))
    assert (body["model"], body["pretrained"]) == (model, pretrained)


def test_what_is_not_plain_search_by_the_model_is_said(record):
    reranked = replace(
        record,
        directions={
            name: replace(each, index="IVF32,PQ64", reranked=20)
            for name, each in record.directions.items()
        },
        reranker={"name": "vlm:/home/me/my models/x", "depth": 20},
    )
    assert result_body(reranked)["model"] == "ViT-B-32, IVF32,PQ64 refined, rerank vlm:x@20"


def test_rows_of_a_table(record, tmp_path):
    german = replace(record, dataset=record.dataset | {"language": "de"})
    file = tmp_path / "new" / "rows.csv"
    write_rows([record, german], file)
    with file.open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    assert list(rows[0]) == [
        "dataset",
        "model",
        "pretrained",
        "task",
        "language",
        *FIGURES,
        "model_fullname",
    ]
    assert [row["language"] for row in rows] == ["en", "de"]
    assert {name: float(rows[0][name]) for name in FIGURES} == FIGURES
    assert rows[0]["model_fullname"] == "ViT-B-32 laion2b_s34b_b79k"


def test_files_of_their_program(record, tmp_path):
    write_rows([record], tmp_path / "one.json")
    assert json.loads((tmp_path / "one.json").read_text()) == result_body(record)
    none = replace(record, dataset=record.dataset | {"language": "zh"})
    write_rows([record, none], tmp_path / "all.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "all.en.json",
        "all.zh.json",
        "one.json",
    ]


def test_what_cannot_be_a_row_is_refused(tmp_path):
    check_output(tmp_path / "row.CSV", ["i2t", "t2i", "t2t"])
    with pytest.raises(UsageError, match=r"writes \.csv or \.json, not row\.txt"):
        check_output(tmp_path / "row.txt", ["t2i", "i2t"])
    with pytest.raises(UsageError, match="add i2t to --directions"):
        check_output(tmp_path / "row.csv", ["t2i"])
