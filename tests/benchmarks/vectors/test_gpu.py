import faiss
import pytest

from benchmarks.vectors import gpu as gpu_search
from benchmarks.vectors.gpu import MOST_RECALL_DIFFERENCE, compare_gpu, gpu_markdown
from benchmarks.vectors.workload import synthetic_workload
from retrieval.errors import MMSearchError
from retrieval.indices.faiss import ivf
from retrieval.indices.faiss.gpu import gpus
from retrieval.indices.faiss.gpu_index import GpuIndex


@pytest.fixture(scope="module")
def workload(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors")
    return synthetic_workload(folder, "clip", 3000, dimension=32, queries=100, seed=0)


@pytest.fixture
def copies_on_the_cpu(monkeypatch):
    """Where a GPU would be, FAISS's own index on the CPU."""
    for module in (gpu_search, ivf):
        monkeypatch.setattr(module, "gpus", lambda device: () if device == "cpu" else (0,))
    monkeypatch.setattr(ivf, "placing", lambda _: faiss.clone_index)


def test_the_same_index_is_compared_in_both_places(workload, copies_on_the_cpu):
    result = compare_gpu(workload, factory="IVF32,PQ4")
    assert [one.trained_on for one in result.builds] == ["cpu", "cuda"]
    assert len(result.comparisons) == 2 * 2 * 2
    assert {one.batch for one in result.comparisons} == {1, 100}
    assert all(one.ratio > 0 for one in result.comparisons)
    assert result.largest_difference == pytest.approx(0, abs=1e-3)
    text = gpu_markdown(result)
    assert f"within {MOST_RECALL_DIFFERENCE:g}" in text
    assert text.count("| IVF32,PQ4 |") == 2


def test_a_gpu_that_gives_up_is_an_error(workload, copies_on_the_cpu, monkeypatch):
    untrained = faiss.IndexIVFPQ(faiss.IndexFlatL2(32), 32, 32, 4, 8)
    on_device = ivf.FactoryIndex.on_device

    def give_up(index, device):
        return on_device(index, device) if device == "cpu" else GpuIndex(index, lambda _: untrained)

    monkeypatch.setattr(ivf.FactoryIndex, "on_device", give_up)
    with pytest.raises(MMSearchError, match="is_trained"):
        compare_gpu(workload, factory="IVF32,PQ4")


@pytest.mark.skipif(not gpus("cuda"), reason="FAISS sees no GPU here")
def test_a_gpu_recalls_what_the_cpu_does(workload):
    result = compare_gpu(workload, factory="IVF32,PQ4")
    assert result.largest_difference <= MOST_RECALL_DIFFERENCE
