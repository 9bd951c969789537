"""hnswlib: HNSW over vectors of single precision."""

import threading
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import numpy as np

from retrieval.embeddings import Rows
from retrieval.encoders.base import Vectors
from retrieval.indices.base import (
    AllowedRows,
    Capabilities,
    Effort,
    Found,
    VectorEngine,
    nothing_found,
)

_LINKS = 16
_EF_CONSTRUCTION = 200


class HnswlibIndex(VectorEngine):
    """M and ef_construction as in the examples of its documentation.

    The breadth of an effort is `ef`, which belongs to the index: one search runs at a time. Its
    filters are Python functions called for each row, so that longer lists are faster.
    """

    name = package = library = "hnswlib"
    capabilities = Capabilities(filters=False)
    kind = f"HNSW, f32, M {_LINKS}, ef_construction {_EF_CONSTRUCTION}"

    def __init__(self, dimension: int) -> None:
        self._index: Any = import_module("hnswlib").Index(space="ip", dim=dimension)
        self._lock = threading.Lock()
        self.dimension = dimension

    @classmethod
    def create(
        cls, path: Path, rows: Rows, kind: str = "", *, seed: int = 0, device: str = "cpu"
    ) -> Self:
        """Make an empty graph; see `VectorEngine.create`."""
        index = cls(rows.shape[1])
        index._index.init_index(
            max_elements=len(rows), M=_LINKS, ef_construction=_EF_CONSTRUCTION, random_seed=seed
        )
        return index

    @classmethod
    def open(cls, path: Path, rows: Rows, kind: str) -> Self:
        """Read a graph into memory; see `VectorEngine.open`."""
        index = cls(rows.shape[1])
        index._index.load_index(str(path))
        return index

    def __len__(self) -> int:
        return int(self._index.element_count)

    def _insert(self, rows: Rows) -> None:
        covered = len(self)
        if covered + len(rows) > self._index.max_elements:
            self._index.resize_index(covered + len(rows))
        labels = np.arange(covered, covered + len(rows))
        self._index.add_items(rows.astype(np.float32), labels, num_threads=self.threads or -1)

    def save(self, path: Path) -> None:
        """Write the graph to a file."""
        self._index.save_index(str(path))

    def _search(
        self, queries: Vectors, k: int, allowed: AllowedRows | None, effort: Effort
    ) -> Found:
        scores, rows = nothing_found(len(queries), k)
        width = min(k, len(self))
        with self._lock:
            # A graph whose list is no longer than what is asked for may lack some, an error.
            self._index.set_ef(max(effort.breadth, width))
            labels, distances = self._index.knn_query(
                queries, width, num_threads=self.threads or -1
            )
        rows[:, :width], scores[:, :width] = labels, 1 - distances
        return scores, rows
