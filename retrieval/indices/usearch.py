"""usearch: HNSW over vectors of half precision or of 8 bits."""

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


class UsearchIndex(VectorEngine):
    """HNSW with usearch's defaults of connectivity and expansion; its kind names f16 or i8.

    The breadth of an effort is `expansion_search`, which belongs to the index: one search runs at a
    time.
    """

    name = package = library = "usearch"
    capabilities = Capabilities(filters=False)

    def __init__(self, dimension: int, precision: str) -> None:
        self._index: Any = import_module("usearch.index").Index(
            ndim=dimension, metric="cos", dtype=precision
        )
        self._lock = threading.Lock()
        self.dimension = dimension
        self.kind = (
            f"HNSW, {precision}, connectivity {self._index.connectivity}, "
            f"expansion_add {self._index.expansion_add}"
        )

    @classmethod
    def create(
        cls, path: Path, rows: Rows, kind: str = "", *, seed: int = 0, device: str = "cpu"
    ) -> Self:
        """Make an empty graph; see `VectorEngine.create`."""
        return cls(rows.shape[1], _precision(kind))

    @classmethod
    def open(cls, path: Path, rows: Rows, kind: str) -> Self:
        """Read a graph into memory; see `VectorEngine.open`."""
        index = cls(rows.shape[1], _precision(kind))
        index._index.load(str(path))
        return index

    def __len__(self) -> int:
        return len(self._index)

    def _insert(self, rows: Rows) -> None:
        keys = np.arange(len(self), len(self) + len(rows), dtype=np.uint64)
        self._index.add(keys, rows.astype(np.float32), threads=self.threads)

    def save(self, path: Path) -> None:
        """Write the graph to a file."""
        self._index.save(str(path))

    def _search(
        self, queries: Vectors, k: int, allowed: AllowedRows | None, effort: Effort
    ) -> Found:
        scores, rows = nothing_found(len(queries), k)
        single = len(queries) == 1
        with self._lock:
            self._index.expansion_search = effort.breadth
            matches = self._index.search(
                queries[0] if single else queries, k, threads=1 if single else self.threads
            )
        keys, distances = np.atleast_2d(matches.keys, matches.distances)
        counts = np.atleast_1d(len(matches) if single else matches.counts)
        is_found = np.arange(keys.shape[1]) < counts[:, None]  # past it there is no value
        width = keys.shape[1]
        rows[:, :width][is_found] = keys[is_found]
        scores[:, :width][is_found] = 1 - distances[is_found]
        return scores, rows


def _precision(kind: str) -> str:
    return "i8" if "i8" in kind else "f16"
