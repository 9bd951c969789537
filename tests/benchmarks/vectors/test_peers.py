"""Each way to search vectors finds what exact search finds."""

import numpy as np
import pytest

from benchmarks.vectors.measurement import count_hits
from benchmarks.vectors.peers import METHODS, make_method, missing
from benchmarks.vectors.workload import synthetic_workload
from retrieval.errors import UsageError

OURS = ("factory:IVF32,PQ16", "factory:HNSW32", "factory:OPQ16,IVF32,PQ16x4fs")


@pytest.fixture(scope="module")
def workload(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors")
    return synthetic_workload(folder, "clip", 3000, dimension=64, queries=50, seed=0)


@pytest.mark.parametrize("name", [*METHODS, *OURS])
@pytest.mark.slow
def test_the_most_thorough_setting_finds_the_nearest_rows(name, workload, tmp_path):
    method = make_method(name)
    if (lacking := missing(method)) is not None:
        pytest.skip(lacking)
    rows = workload.rows
    built = method.build(rows, tmp_path, threads=1, seed=0)
    index = method.open(rows, tmp_path, built, threads=1)
    least = 0.6 if name == "autofaiss" else 0.9
    for k in (10, 100):
        setting = method.settings(index, k)[-1]
        for modality, queries in workload.queries().items():
            truth = workload.truth()[modality][:, :k]
            together = method.search(index, rows, queries, k, setting)
            assert together.shape == truth.shape
            assert count_hits(together, truth) > least * truth.size
            for query in range(3):
                alone = method.search(index, rows, queries[query : query + 1], k, setting)
                # One by one and together may be computed in another order of additions.
                assert len(np.intersect1d(alone, together[query])) >= 0.9 * k


def test_a_name_that_is_none_is_refused():
    for name in ("nosuch", "factory:", "exact:IVF4"):
        with pytest.raises(UsageError, match="There is no method"):
            make_method(name)


def test_a_package_that_is_not_there_is_seen():
    class Absent(type(make_method("exact"))):
        package = "mmsearch_no_such_package"

    assert missing(Absent("absent", "exact")) == "mmsearch_no_such_package is not installed"
    assert missing(make_method("mmsearch")) is None


def test_a_server_that_nobody_names_is_seen(monkeypatch):
    pytest.importorskip("pymilvus")
    monkeypatch.delenv("MMSEARCH_MILVUS", raising=False)
    assert missing(make_method("milvus")) == "MMSEARCH_MILVUS names no server"
    monkeypatch.setenv("MMSEARCH_MILVUS", "http://127.0.0.1:1")
    assert missing(make_method("milvus")) is None
