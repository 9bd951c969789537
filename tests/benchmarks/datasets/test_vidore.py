import io
import json

import numpy as np
import pytest
from PIL import Image

from benchmarks.datasets import load_dataset
from benchmarks.metrics import evaluate, judge
from benchmarks.quality.embedding_cache import EmbeddingCache
from benchmarks.quality.retrieval import Setup, measure_quality
from retrieval.errors import NotFoundError, UsageError
from retrieval.media.images import read_image

pytest.importorskip("pyarrow", reason="pyarrow is not installed")

QUERIES = [
    {"query-id": 10, "query": "turnover of 2024", "language": "en"},
    {"query-id": 11, "query": "chiffre d'affaires", "language": "fr"},
    {"query-id": 12, "query": "who signed?", "language": "en"},
]
QRELS = [
    {"query-id": 10, "corpus-id": 0, "score": 2},
    {"query-id": 10, "corpus-id": 2, "score": 1},
    {"query-id": 11, "corpus-id": 2, "score": 2},
    {"query-id": 12, "corpus-id": 1, "score": 0},
]


def content(number, width=30):
    stream = io.BytesIO()
    Image.new("RGB", (width, 40), (60 * number, 90, 10)).save(stream, "PNG")
    return stream.getvalue()


CORPUS = [{"corpus-id": n, "image": {"bytes": content(n), "path": "page.png"}} for n in range(4)]


def write(path, rows):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "corpus" / "test-00000-of-00002.parquet", CORPUS[:2])
    write(tmp_path / "corpus" / "test-00001-of-00002.parquet", CORPUS[2:])
    write(tmp_path / "queries" / "test-00000-of-00001.parquet", QUERIES)
    write(tmp_path / "qrels" / "test-00000-of-00001.parquet", QRELS)
    return tmp_path


def load(folder, *chosen):
    return load_dataset(f"vidore:{folder}?images={folder}/pages", *chosen)


def test_parts_as_on_the_hub(folder):
    dataset = load(folder)
    assert dataset.directions == ("t2i",)
    assert dataset.split == "test"
    assert dataset.qrels("t2i") == {"10": {"0": 2, "2": 1}, "11": {"2": 2}}
    assert dataset.queries("t2i") == {"10": "turnover of 2024", "11": "chiffre d'affaires"}
    assert list(dataset.items("t2i")) == ["0", "1", "2", "3"]
    pixels = [read_image(path).getpixel((0, 0))[0] for path in dataset.images.values()]
    assert pixels == [0, 60, 120, 180]
    assert [(str(p.kind), p.where) for p in dataset.problems] == [
        ("query without relevant item", "12")
    ]
    with pytest.raises(UsageError, match="t2t is not defined"):
        dataset.qrels("t2t")
    with pytest.raises(UsageError, match=r"\?images=FOLDER"):
        load_dataset(f"vidore:{folder}")


def test_queries_of_one_language(folder):
    assert load(folder, None, "fr").query_texts == {"11": "chiffre d'affaires"}
    with pytest.raises(UsageError, match=r"in the language 'de'\. There are: en, fr"):
        load(folder, None, "de")


def test_fewer_pages_leave_the_queries_of_the_others_out(folder):
    dataset = load(folder)
    assert dataset.first_images(2).qrels("t2i") == {"10": {"0": 2}}
    assert dataset.first_images(2).query_texts == {"10": "turnover of 2024"}
    assert dataset.without_images({"0": "damaged"}).qrels("t2i") == {"10": {"2": 1}, "11": {"2": 2}}
    assert dataset.fingerprint() != dataset.first_images(3).fingerprint()


def test_json_lines_and_names_of_version_3(tmp_path):
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(content(number))
    rows = {
        "corpus": [{"corpus_id": f"page {n}", "image": f"{n}.png"} for n in range(2)],
        "queries": [{"query_id": "q", "query": "red"}],
        "qrels": [{"query_id": "q", "corpus_id": "page 1", "score": 1}],
    }
    for part, lines in rows.items():
        (tmp_path / f"{part}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    dataset = load_dataset(f"vidore:{tmp_path}")
    assert dataset.qrels("t2i") == {"q": {"page%201": 1}}
    assert dataset.images["page%200"] == tmp_path / "0.png"


def test_rows_of_version_1(tmp_path):
    rows = [
        {
            "query": query,
            "image_filename": f"docs/{n}.png",
            "image": {"bytes": content(n), "path": None},
        }
        for n, query in enumerate(["a table", None, "a chart", "a table"])
    ]
    write(tmp_path / "data" / "test-00000-of-00001.parquet", [*rows, rows[0]])
    dataset = load(tmp_path)
    assert dataset.query_texts == {"0": "a table", "1": "a chart"}
    assert dataset.qrels("t2i") == {
        "0": {"docs/0.png": 1, "docs/3.png": 1},
        "1": {"docs/2.png": 1},
    }
    assert len(dataset.images) == 4


def test_what_is_wrong_is_named(folder):
    write(folder / "qrels" / "test-00000-of-00001.parquet", [QRELS[0] | {"corpus-id": 9}, QRELS[2]])
    assert [(str(p.kind), p.detail) for p in load(folder).problems][:1] == [
        ("unknown id", "page 9 is not in the corpus")
    ]
    write(folder / "qrels" / "test-00000-of-00001.parquet", [QRELS[0] | {"score": 0.5}])
    with pytest.raises(UsageError, match="'score' is not a whole number"):
        load(folder)
    write(folder / "qrels" / "test-00000-of-00001.parquet", [QRELS[3]])
    with pytest.raises(UsageError, match="not one query of split 'test' has a relevant page"):
        load(folder)
    with pytest.raises(UsageError, match="no split 'dev'"):
        load(folder, "dev")
    (folder / "qrels" / "test-00000-of-00001.parquet").unlink()
    with pytest.raises(NotFoundError, match="has no qrels"):
        load(folder)


def test_ndcg_at_5_counts_gains():
    qrels = {"q": {"a": 2, "b": 1, "c": 1}}
    run = {"q": {"x": 9.0, "b": 8.0, "a": 7.0, "y": 6.0, "z": 5.0, "c": 4.0}}
    ideal = 2 + 1 / np.log2(3) + 1 / 2
    expected = (1 / np.log2(3) + 2 / 2) / ideal
    assert evaluate(judge(qrels, run), ["ndcg@5"])["ndcg@5"] == pytest.approx(expected)


@pytest.mark.slow
def test_a_benchmark_of_pages(folder, tiny_encoder, tmp_path):
    import ir_measures

    ranked = {}
    result = measure_quality(
        load(folder),
        tiny_encoder,
        Setup(directions=("t2i",)),
        EmbeddingCache(tmp_path / "cache"),
        on_ranked=lambda _, found: ranked.setdefault(
            found.query_id, dict(zip(found.item_ids, found.scores, strict=True))
        ),
    )
    judgments = result.directions["t2i"].judgments
    ndcg = ir_measures.nDCG @ 5
    expected = ir_measures.calc_aggregate([ndcg], load(folder).qrels("t2i"), ranked)[ndcg]
    assert evaluate(judgments, ["ndcg@5"])["ndcg@5"] == pytest.approx(expected)
    assert all(len(items) == 4 for items in ranked.values())
