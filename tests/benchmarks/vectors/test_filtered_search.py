import numpy as np
import pytest

from benchmarks.vectors.filtered_search import CORRELATIONS, filter_recall
from retrieval.embeddings import EmbeddingsFile
from retrieval.indices.base import Effort
from retrieval.indices.faiss.ivf import FactoryIndex
from retrieval.indices.generations import Training, Tuning, write
from retrieval.indices.searcher import Searcher


@pytest.fixture(scope="module")
def clustered():
    """20,000 rows in 64 clusters and 12 queries of the same distribution."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(64, 32))
    vectors = centres[random.integers(64, size=20_012)] + random.normal(0, 0.7, (20_012, 32))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors[:20_000].astype(np.float32), vectors[20_000:].astype(np.float32)


def searcher_over(directory, rows, nprobe, overfetch=20):
    file = EmbeddingsFile(directory / "image.f16", rows.shape[1])
    file.write(rows, 0)
    stored = file.rows(len(rows))
    index = FactoryIndex("IVF64,PQ16x4fs", stored)
    index.add(stored)
    tuning = Tuning(len(rows), 0.98, {"text": Effort(nprobe, overfetch)})
    write(directory, "image", index, stored, Training(len(rows), 0, 0.5, False, ()), tuning)
    searcher = Searcher(directory, "image", file)
    searcher.refresh(len(rows))
    return searcher


def test_filters_of_every_kind_keep_their_recall(clustered, tmp_path):
    rows, queries = clustered
    measured = filter_recall(searcher_over(tmp_path, rows, nprobe=16), queries)
    assert len(measured) == 5 * len(CORRELATIONS)
    for result in measured:
        assert result.recall >= 0.95, result
        assert 0 <= result.worst <= result.recall
        assert result.median_ms > 0


def test_it_notices_a_search_that_loses_rows(clustered, tmp_path, monkeypatch):
    from retrieval.indices import searcher

    rows, queries = clustered
    monkeypatch.setattr(searcher, "FEW_ROWS", 0)
    careless = searcher_over(tmp_path, rows, nprobe=1, overfetch=1)
    measured = filter_recall(careless, queries, selectivities=(0.1,))
    assert min(result.recall for result in measured) < 0.9
