"""Searches on a copy of an index: a copy on the CPU stands where that on the GPU would."""

import threading
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
import pytest

from retrieval.indices.base import AllowedRows, Effort
from retrieval.indices.faiss import gpu_index
from retrieval.indices.faiss.gpu import MOST_SELECTED, gpus
from retrieval.indices.faiss.gpu_index import GpuIndex
from retrieval.indices.faiss.ivf import FactoryIndex

pytestmark = pytest.mark.slow

SETTINGS = Effort(breadth=32, overfetch=10)


@pytest.fixture(scope="module")
def rows():
    """Unit vectors in 50 clusters, 6,000 x 32."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(50, 32))
    vectors = centres[generator.integers(0, 50, 6000)] + 0.4 * generator.normal(size=(6000, 32))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture(scope="module")
def queries(rows):
    return rows[:60].astype(np.float32)


def build(rows, factory="IVF32,PQ16"):
    index = FactoryIndex(factory, rows)
    index.add(rows)
    return index


@pytest.fixture(scope="module")
def master(rows):
    return build(rows)


class Recorder:
    """Copies an index as FAISS's GPU kernels behave: no selectors, no long lists; counts calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()

    def __call__(self, index):
        copy = faiss.clone_index(index)
        recorder, search = self, copy.search

        class Copy:
            def search(self, queries, k, params):
                with recorder._lock:
                    recorder._now += 1
                    recorder.most_at_once = max(recorder.most_at_once, recorder._now)
                assert params.sel is None
                assert k <= MOST_SELECTED
                assert params.nprobe <= MOST_SELECTED
                recorder.calls.append((len(queries), k))
                found = search(queries, k, params=params)
                with recorder._lock:
                    recorder._now -= 1
                return found

        return Copy()


@pytest.mark.parametrize(
    "factory",
    ["IVF32,PQ16", "IVF32,Flat", pytest.param("OPQ16_32,IVF32,PQ16", marks=pytest.mark.slow)],
)
def test_the_copy_finds_what_the_master_finds(rows, queries, factory):
    master, place = build(rows, factory), Recorder()
    index = GpuIndex(master, place)
    assert (len(index), index.max_breadth, index.problem) == (6000, 32, None)
    for k in (1, 10, 300):
        scores, found = index.search(queries, k, effort=SETTINGS)
        expected_scores, expected = master.search(queries, k, effort=SETTINGS)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_allclose(scores, expected_scores, atol=1e-5)
    assert [k for _, k in place.calls] == [1, 10, 300]


@pytest.mark.parametrize("share", [0.5, 0.1, 0.02])
@pytest.mark.parametrize("k", [10, 200])
def test_filters_are_applied_to_longer_lists(master, rows, queries, share, k):
    place = Recorder()
    index = GpuIndex(master, place)
    allowed = np.random.default_rng(1).random(len(rows)) < share
    scores, found = index.search(queries, k, AllowedRows(allowed), SETTINGS)
    assert found.shape == scores.shape == (len(queries), k)
    named = found >= 0
    assert allowed[found[named]].all()
    assert (named.sum(axis=1) == min(k, allowed.sum())).all()
    assert (scores[~named] == -np.inf).all()
    assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in found)
    # Every list is visited, so that both find the best by the same estimates.
    _, expected = master.search(queries, k, AllowedRows(allowed), SETTINGS)
    same = [len(np.intersect1d(a[a >= 0], b[b >= 0])) for a, b in zip(found, expected, strict=True)]
    assert np.mean(same) >= 0.99 * min(k, allowed.sum())
    assert all(k <= MOST_SELECTED for _, k in place.calls)


def test_rows_far_from_the_query_are_found_with_the_selector(master, rows, queries):
    """What passes is just where the query is not: none of the long list does."""
    index = GpuIndex(master, Recorder())
    for query in queries[:10]:
        similarity = rows.astype(np.float32) @ query
        allowed = similarity < np.quantile(similarity, 0.3)
        _, found = index.search(query[None], 100, AllowedRows(allowed), SETTINGS)
        _, expected = master.search(query[None], 100, AllowedRows(allowed), SETTINGS)
        assert allowed[found].all()
        np.testing.assert_array_equal(found, expected)


def test_nothing_is_found_where_nothing_is_allowed(master, rows, queries):
    nothing = AllowedRows(np.zeros(len(rows), bool))
    scores, found = GpuIndex(master, Recorder()).search(queries, 3, nothing)
    assert (found == -1).all()
    assert (scores == -np.inf).all()


def test_what_a_gpu_cannot_select_is_searched_on_the_cpu(master, queries):
    place = Recorder()
    index = GpuIndex(master, place)
    _, found = index.search(queries, MOST_SELECTED + 1, effort=SETTINGS)
    assert found.shape == (len(queries), MOST_SELECTED + 1)
    assert not place.calls
    assert index.problem is None


def test_many_queries_are_given_in_blocks(master, rows, monkeypatch):
    monkeypatch.setattr(gpu_index, "_BLOCK_QUERIES", 16)
    place = Recorder()
    many = rows[:40].astype(np.float32)
    _, found = GpuIndex(master, place).search(many, 5, effort=SETTINGS)
    assert [count for count, _ in place.calls] == [16, 16, 8]
    np.testing.assert_array_equal(found, master.search(many, 5, effort=SETTINGS)[1])
    assert GpuIndex(master, place).search(many[:0], 5)[1].shape == (0, 5)


def test_settings_travel_with_the_call_and_one_search_runs_at_a_time(master, queries):
    place = Recorder()
    index = GpuIndex(master, place)
    probes = (1, 2, 4, 32) * 10
    expected = {n: master.search(queries, 10, effort=Effort(n))[1] for n in probes}
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda n: index.search(queries, 10, effort=Effort(n))[1], probes)
        for nprobe, rows in zip(probes, found, strict=True):
            np.testing.assert_array_equal(rows, expected[nprobe])
    assert place.most_at_once == 1


def test_a_gpu_without_room_is_told_and_done_without(master, queries):
    def full(index):
        # FAISS's own error: there is no GPU of this number.
        resources = [faiss.StandardGpuResources()]
        options = faiss.GpuMultipleClonerOptions()
        return faiss.index_cpu_to_gpu_multiple_py(resources, index, options, [98])

    index = GpuIndex(master, full)
    assert "searched on the CPU" in index.problem
    assert "Invalid GPU device 98" in index.problem
    expected = master.search(queries, 10, effort=SETTINGS)[1]
    np.testing.assert_array_equal(index.search(queries, 10, effort=SETTINGS)[1], expected)


def test_a_search_that_fails_is_done_on_the_cpu_and_so_are_those_after_it(master, queries):
    # An index without training raises FAISS's RuntimeError when it is searched.
    index = GpuIndex(master, lambda _: faiss.IndexIVFPQ(faiss.IndexFlatL2(32), 32, 32, 8, 8))
    assert index.problem is None
    expected = master.search(queries, 10, effort=SETTINGS)[1]
    for _ in range(2):
        np.testing.assert_array_equal(index.search(queries, 10, effort=SETTINGS)[1], expected)
        assert "is_trained" in index.problem


def test_an_index_that_is_not_meant_for_a_gpu_stays_as_it_is(master, rows, monkeypatch):
    assert master.on_device("cpu") is master
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    assert master.on_device("cuda") is master
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 99)
    graph = build(rows[:200], "HNSW8")
    assert graph.on_device("cuda") is graph
    placed = master.on_device("cuda:98")
    assert isinstance(placed, GpuIndex)
    assert "Invalid GPU device 98" in placed.problem


def test_codes_that_only_processors_compare_are_told(rows, queries):
    """The kind that a library without a GPU chose, opened where there is one."""
    index = build(rows, "IVF32,PQ16x4fs").on_device("cpu")
    assert index.search(queries, 10, effort=SETTINGS)[1].shape == (60, 10)


@pytest.mark.skipif(not gpus("cuda"), reason="FAISS sees no GPU here")
@pytest.mark.parametrize("factory", ["IVF32,PQ16", "OPQ16_32,IVF32,PQ16"])
def test_cpu_and_gpu_agree(rows, queries, factory):
    master = build(rows, factory)
    index = master.on_device("cuda")
    assert index.problem is None
    allowed = np.random.default_rng(1).random(len(rows)) < 0.2
    for some in (None, AllowedRows(allowed)):
        _, found = index.search(queries, 100, some, SETTINGS)
        _, expected = master.search(queries, 100, some, SETTINGS)
        same = [len(np.intersect1d(a, b)) for a, b in zip(found, expected, strict=True)]
        assert np.mean(same) >= 99
    assert index.problem is None
