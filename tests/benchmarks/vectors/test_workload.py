"""Rows, queries and true neighbours that methods are measured on."""

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks.datasets import load_dataset
from benchmarks.quality.embedding_cache import EmbeddingCache
from benchmarks.vectors.workload import dataset_workload, synthetic_workload
from retrieval.errors import UsageError


def test_the_truth_is_that_of_exact_search_and_is_kept(tmp_path):
    made = synthetic_workload(tmp_path, "clip", 500, dimension=32, queries=20, seed=1)
    assert made.rows.shape == (500, 32)
    for modality, queries in made.queries().items():
        cosines = queries @ made.rows.astype(np.float32).T
        nearest = np.sort(cosines, axis=1)[:, ::-1][:, :100]
        found = np.take_along_axis(cosines, made.truth()[modality], axis=1)
        assert found == pytest.approx(nearest, abs=1e-5)
    changed = (made.folder / "rows.f16").stat().st_mtime_ns
    again = synthetic_workload(tmp_path, "clip", 500, dimension=32, queries=20, seed=1)
    assert (again.rows == made.rows).all()
    assert (made.folder / "rows.f16").stat().st_mtime_ns == changed
    other = synthetic_workload(tmp_path, "clip", 500, dimension=32, queries=20, seed=2)
    assert other.folder != made.folder


def test_photos_are_rows_or_queries_and_captions_are_queries(tmp_path, tiny_encoder):
    random = np.random.default_rng(0)
    lines = []
    (tmp_path / "images").mkdir()
    for number in range(16):
        name = f"{number}.png"
        noise = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "images" / name)
        lines.append(json.dumps({"image": name, "split": "val", "en": [f"noise {number}"]}))
    (tmp_path / "captions.jsonl").write_text("\n".join(lines))
    data = load_dataset(f"jsonl:{tmp_path}")
    made = dataset_workload(
        tmp_path / "made", data, tiny_encoder, EmbeddingCache(tmp_path / "cache")
    )
    queries = made.queries()
    assert made.name == f"{tmp_path.name}-val-en-{tiny_encoder.space.id}-1000"
    assert made.rows.shape == (14, 32)
    assert {kind: len(vectors) for kind, vectors in queries.items()} == {"image": 2, "text": 16}
    similarity = queries["image"] @ made.rows.astype(np.float32).T
    assert similarity.max() < 0.9999
    assert (made.truth()["text"][:, 14:] == -1).all()


def test_a_dataset_without_texts_has_no_text_queries(tmp_path, tiny_encoder):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "images" / "1.png")
    line = json.dumps({"image": "1.png", "split": "val", "en": []})
    (tmp_path / "captions.jsonl").write_text(line)
    data = load_dataset(f"jsonl:{tmp_path}")
    with pytest.raises(UsageError, match="texts"):
        dataset_workload(tmp_path, data, tiny_encoder, EmbeddingCache(tmp_path))
