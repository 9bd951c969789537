"""What FAISS does on GPUs: which there are, copying an index to them, and comparing in training."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from retrieval.indices.faiss import is_installed

CODE_PARTS = (1, 2, 3, 4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 96)
"""Into how many parts a product quantiser may cut a vector for FAISS's kernels, of 8 bits each."""

MOST_SELECTED = 2048
"""The longest list that FAISS selects on a GPU: of rows for a query, and of lists to visit."""

Placing = Callable[[Any], Any]
"""Copies a FAISS index to where it is searched; raises RuntimeError where that cannot be done."""

_SHARED_BYTES = 48 << 10
"""Fast memory of a block of threads on any GPU; the lookup tables of a query have to fit."""

_TEMPORARY_BYTES = 256 << 20
"""Of a GPU's memory, set aside for what a search needs between its steps."""


def gpus(device: str) -> tuple[int, ...]:
    """Numbers of the GPUs that FAISS uses for a device as torch names it.

    `auto` and `cuda`: all that there are; `cuda:1`: that one; none for other devices, and where
    FAISS sees no GPU, as its package for CPUs does not.
    """
    kind, _, number = device.partition(":")
    if kind not in {"auto", "cuda"} or not is_installed():
        return ()
    import faiss

    present = range(faiss.get_num_gpus())
    return tuple(gpu for gpu in present if not number or str(gpu) == number)


def placing(numbers: Sequence[int]) -> Placing:
    """Copy indices to these GPUs. Inverted lists are shared out to several, whole vectors repeated.

    All copies share one stream and one piece of temporary memory a GPU: only one of them may be
    used at a time.
    """
    import faiss

    resources = []
    for _ in numbers:
        resources.append(faiss.StandardGpuResources())
        resources[-1].setTempMemory(_TEMPORARY_BYTES)

    def place(index: Any) -> Any:
        options = faiss.GpuMultipleClonerOptions()
        options.shard = isinstance(index, faiss.IndexIVF)
        options.useFloat16 = needs_float16_tables(index)
        return faiss.index_cpu_to_gpu_multiple_py(resources, index, options, list(numbers))

    return place


def needs_float16_tables(index: Any) -> bool:
    """Return whether the lookup tables of its codes are too large for float32."""
    import faiss

    if not isinstance(index, faiss.IndexIVFPQ):
        return False
    return bool(4 * index.pq.M * index.pq.ksub > _SHARED_BYTES)


@contextmanager
def assigning(index: Any, place: Placing) -> Iterator[None]:
    """Let k-means look for the nearest centroid where `place` puts things, while an index trains.

    index: of inverted lists; their centroids and those of its codes are found so. It is on the CPU
    before and after.
    """
    import faiss

    codes = getattr(index, "pq", None)
    on_lists = place(faiss.IndexFlatL2(index.d))
    on_codes = None if codes is None else place(faiss.IndexFlatL2(codes.dsub))
    try:
        index.clustering_index = on_lists
        if codes is not None:
            codes.assign_index = on_codes
        yield
    finally:
        index.clustering_index = None
        if codes is not None:
            codes.assign_index = None
