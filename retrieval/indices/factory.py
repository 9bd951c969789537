"""An index by its FAISS factory string: `IVF1024,PQ64`, `OPQ64_256,IVF256,PQ64`, `HNSW32`."""

from collections.abc import Iterator

import faiss
import numpy as np
from numpy.typing import NDArray

from retrieval.embeddings import Rows
from retrieval.encoders.base import Vectors
from retrieval.errors import UsageError

_POINTS_PER_CENTROID = 64
"""FAISS asks for 39 training points a centroid and uses at most 256."""


class FactoryIndex:
    """Any FAISS index over unit vectors, trained on the rows that it will first hold.

    The metric is L2, which on unit vectors ranks as the inner product does, and loses less under
    product quantisation. `nprobe`, the number of inverted lists that a search visits, travels with
    the call. Raises UsageError for a string that FAISS does not know, or too few training rows.
    """

    def __init__(self, factory: str, training: Rows, *, nprobe: int = 16, seed: int = 0) -> None:
        self.factory = factory
        self.nprobe = nprobe
        dimension = training.shape[1]
        try:
            self._index = faiss.index_factory(dimension, factory, faiss.METRIC_L2)
        except RuntimeError as error:
            raise UsageError(
                f"{factory!r} is not a FAISS factory string for {dimension} dimensions, such as "
                f"IVF1024,PQ64 ({str(error).splitlines()[-1]})."
            ) from error
        self._inverted = self._find_inverted_lists()
        for clustering in self._clusterings():
            clustering.seed = seed
            clustering.min_points_per_centroid = 1  # else FAISS warns on standard output
        inner = self._index if self._inverted is None else self._inverted
        if hasattr(inner, "do_polysemous_training"):
            # It orders codes for Hamming filtering, which nothing uses, and takes most of the time.
            inner.do_polysemous_training = False
        sample = _sample(training, self._sample_size(len(training)), seed)
        try:
            self._index.train(sample)
        except RuntimeError as error:
            raise UsageError(
                f"{factory} cannot be trained on {len(sample):,} vectors: "
                f"{str(error).splitlines()[-1]}."
            ) from error

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, rows: Rows) -> None:
        """Cover the (n, d) rows that follow those covered so far."""
        self._index.add(np.ascontiguousarray(rows, dtype=np.float32))

    def search(
        self, queries: Vectors, k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find k rows for each query; see `Index.search`. Scores are 1 - distance^2 / 2."""
        parameters = None
        selector = None
        if allowed is not None:
            bitmap = np.packbits(allowed, bitorder="little")
            selector = faiss.IDSelectorBitmap(len(bitmap), faiss.swig_ptr(bitmap))
        if self._inverted is not None:
            probes = min(self.nprobe, self._inverted.nlist)
            parameters = faiss.SearchParametersIVF(nprobe=probes, sel=selector)
            if isinstance(self._index, faiss.IndexPreTransform):
                # Behind a transform (OPQ) the parameters belong to the index inside.
                parameters = faiss.SearchParametersPreTransform(index_params=parameters)
        elif selector is not None:
            parameters = faiss.SearchParameters(sel=selector)
        squared, rows = self._index.search(
            np.ascontiguousarray(queries, dtype=np.float32), k, params=parameters
        )
        return np.where(rows < 0, -np.inf, 1 - squared / 2).astype(np.float32), rows

    def _find_inverted_lists(self) -> "faiss.IndexIVF | None":
        inner = faiss.downcast_index(
            self._index.index if isinstance(self._index, faiss.IndexPreTransform) else self._index
        )
        return inner if isinstance(inner, faiss.IndexIVF) else None

    def _clusterings(self) -> "Iterator[faiss.ClusteringParameters]":
        inner = self._inverted if self._inverted is not None else self._index
        for owner in (inner, getattr(inner, "pq", None)):
            if (clustering := getattr(owner, "cp", None)) is not None:
                yield clustering

    def _sample_size(self, available: int) -> int:
        centroids = max(256, self._inverted.nlist if self._inverted is not None else 0)
        return min(available, centroids * _POINTS_PER_CENTROID)


def _sample(rows: Rows, size: int, seed: int) -> NDArray[np.float32]:
    chosen = np.random.default_rng(seed).choice(len(rows), size, replace=False)
    return np.asarray(rows[np.sort(chosen)], dtype=np.float32)
