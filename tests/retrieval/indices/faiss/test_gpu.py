import faiss
import numpy as np
import pytest

from retrieval.indices.faiss import ivf
from retrieval.indices.faiss.gpu import CODE_PARTS, assigning, gpus, needs_float16_tables, placing
from retrieval.indices.faiss.ivf import FactoryIndex

needs_gpu = pytest.mark.skipif(not gpus("cuda"), reason="FAISS sees no GPU here")


@pytest.fixture(scope="module")
def rows():
    vectors = np.random.default_rng(0).normal(size=(3000, 32))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


@pytest.mark.parametrize(
    ("device", "numbers"),
    [
        ("auto", (0, 1, 2)),
        ("cuda", (0, 1, 2)),
        ("cuda:1", (1,)),
        ("cuda:3", ()),
        ("cpu", ()),
        ("mps", ()),
    ],
)
def test_gpus_are_those_of_the_device(device, numbers, monkeypatch):
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 3)
    assert gpus(device) == numbers


def test_there_is_none_where_faiss_sees_none(monkeypatch):
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0)
    assert gpus("auto") == gpus("cuda:0") == ()


def test_tables_too_large_for_a_block_are_of_half_precision():
    small, large = (faiss.index_factory(512, f"IVF4,PQ{parts}") for parts in (32, 64))
    assert not needs_float16_tables(small)
    assert needs_float16_tables(large)
    assert not needs_float16_tables(faiss.IndexFlatL2(4))


@pytest.mark.parametrize("factory", ["IVF16,PQ4", "IVF16,PQ8x4fs", "IVF16,SQ8"])
def test_points_are_compared_where_they_are_placed_and_the_centroids_come_back(
    rows, factory, monkeypatch
):
    """A copy on the CPU stands where that on the GPU would."""
    placed = []

    def place(index):
        placed.append(faiss.clone_index(index))
        return placed[-1]

    expected = FactoryIndex(factory, rows)
    monkeypatch.setattr(ivf, "gpus", lambda _: (0,))
    monkeypatch.setattr(ivf, "placing", lambda _: place)
    index = FactoryIndex(factory, rows, device="cuda")
    assert index.gpu_problem is None
    codes = getattr(index.inner, "pq", None)
    assert index.inner.clustering_index is None
    assert codes is None or codes.assign_index is None
    assert [one.ntotal for one in placed] == [16] + ([] if codes is None else [codes.ksub])
    np.testing.assert_allclose(
        index.inner.quantizer.reconstruct_n(0, 16),
        expected.inner.quantizer.reconstruct_n(0, 16),
        atol=1e-5,
    )
    index.add(rows)
    expected.add(rows)
    queries = rows[:50].astype(np.float32)
    np.testing.assert_array_equal(index.search(queries, 5)[1], expected.search(queries, 5)[1])


def test_training_that_fails_leaves_nothing_behind(rows):
    index = faiss.index_factory(32, "IVF16,PQ8")
    with pytest.raises(RuntimeError), assigning(index, faiss.clone_index):
        index.train(rows[:3].astype(np.float32))
    assert index.clustering_index is None
    assert index.pq.assign_index is None


def test_a_gpu_that_cannot_train_leaves_it_to_the_cpu(rows, monkeypatch):
    """FAISS itself refuses: there is no GPU of this number."""
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 99)
    index = FactoryIndex("IVF16,PQ4", rows, device="cuda:98")
    assert "Invalid GPU device 98" in index.gpu_problem
    index.add(rows)
    assert index.search(rows[:5].astype(np.float32), 1)[1].tolist() == [[row] for row in range(5)]


def test_code_lengths_are_those_that_faiss_has_kernels_for():
    assert set(CODE_PARTS) >= {8, 16, 32, 64}
    assert 128 not in CODE_PARTS


@needs_gpu
@pytest.mark.parametrize("factory", ["IVF16,PQ8", "IVF16,Flat", "IVF16,SQ8"])
def test_a_copy_on_the_gpu_finds_what_the_master_finds(rows, factory):
    master = FactoryIndex(factory, rows, device="cuda:0")
    assert master.gpu_problem is None
    master.add(rows)
    copy = placing((0,))(master.inner)
    parameters = faiss.SearchParametersIVF(nprobe=16)
    queries = rows[:100].astype(np.float32)
    _, expected = master.inner.search(queries, 10, params=parameters)
    _, found = copy.search(queries, 10, params=parameters)
    same = [len(set(a) & set(b)) for a, b in zip(expected, found, strict=True)]
    assert np.mean(same) >= 9.9


@pytest.mark.skipif(len(gpus("cuda")) < 2, reason="FAISS sees fewer than two GPUs here")
def test_lists_are_shared_out_to_several_gpus(rows):
    master = FactoryIndex("IVF16,PQ8", rows)
    master.add(rows)
    copy = placing((0, 1))(master.inner)
    shards = faiss.downcast_index(copy)
    assert [shards.at(number).ntotal for number in range(shards.count())] == [1500, 1500]
