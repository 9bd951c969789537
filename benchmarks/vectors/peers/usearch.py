"""usearch: HNSW over vectors of half precision or of 8 bits."""

from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.vectors.peers.base import Setting
from retrieval.embeddings import Rows
from retrieval.encoders.base import Vectors

_ROWS_PER_ADD = 50_000


class UsearchMethod:
    """Its own defaults of connectivity and expansion; `ef` is `expansion_search`."""

    package = "usearch"
    rows_in_file = False

    def __init__(self, precision: str) -> None:
        self.name = self.builds = f"usearch-{precision}"
        self._precision = precision

    def build(self, rows: Rows, folder: Path, *, threads: int, seed: int) -> str:
        """See `Method.build`."""
        index = import_module("usearch.index").Index(
            ndim=rows.shape[1], metric="cos", dtype=self._precision
        )
        for first in range(0, len(rows), _ROWS_PER_ADD):
            part = np.asarray(rows[first : first + _ROWS_PER_ADD], dtype=np.float32)
            keys = np.arange(first, first + len(part), dtype=np.uint64)
            index.add(keys, part, threads=threads)
        index.save(str(folder / "index.usearch"))
        return (
            f"HNSW, {self._precision}, connectivity {index.connectivity}, "
            f"expansion_add {index.expansion_add}"
        )

    def open(self, rows: Rows, folder: Path, *, threads: int) -> None:
        """See `Method.open`."""
        self._threads = threads
        self._index = import_module("usearch.index").Index(
            ndim=rows.shape[1], metric="cos", dtype=self._precision
        )
        self._index.load(str(folder / "index.usearch"))

    def settings(self, k: int) -> list[Setting]:
        """See `Method.settings`."""
        return [{"ef": ef} for ef in (16, 32, 64, 128, 256, 512) if ef >= k]

    def search(self, queries: Vectors, k: int, setting: Setting) -> NDArray[np.int64]:
        """See `Method.search`."""
        self._index.expansion_search = setting["ef"]
        if len(queries) == 1:
            keys = self._index.search(queries[0], k, threads=1).keys
            found = np.full((1, k), -1, np.int64)
            found[0, : len(keys)] = keys
            return found
        matches = self._index.search(queries, k, threads=self._threads)
        found = np.asarray(matches.keys).astype(np.int64)
        found[np.arange(k) >= np.asarray(matches.counts)[:, None]] = -1
        return found
