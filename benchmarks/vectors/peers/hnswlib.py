"""hnswlib: HNSW over vectors of single precision."""

from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.vectors.peers.base import Setting
from retrieval.embeddings import Rows
from retrieval.encoders.base import Vectors

_ROWS_PER_ADD = 50_000
_LINKS = 16
_EF_CONSTRUCTION = 200


class HnswlibMethod:
    """M and ef_construction as in its documentation's examples."""

    name = builds = "hnswlib"
    package = "hnswlib"
    rows_in_file = False

    def build(self, rows: Rows, folder: Path, *, threads: int, seed: int) -> str:
        """See `Method.build`."""
        index = import_module("hnswlib").Index(space="ip", dim=rows.shape[1])
        index.init_index(
            max_elements=len(rows), M=_LINKS, ef_construction=_EF_CONSTRUCTION, random_seed=seed
        )
        for first in range(0, len(rows), _ROWS_PER_ADD):
            part = np.asarray(rows[first : first + _ROWS_PER_ADD], dtype=np.float32)
            index.add_items(part, np.arange(first, first + len(part)), num_threads=threads)
        index.save_index(str(folder / "index.hnswlib"))
        return f"HNSW, f32, M {_LINKS}, ef_construction {_EF_CONSTRUCTION}"

    def open(self, rows: Rows, folder: Path, *, threads: int) -> None:
        """See `Method.open`."""
        self._threads = threads
        self._index = import_module("hnswlib").Index(space="ip", dim=rows.shape[1])
        self._index.load_index(str(folder / "index.hnswlib"))

    def settings(self, k: int) -> list[Setting]:
        """See `Method.settings`."""
        return [{"ef": ef} for ef in (16, 32, 64, 128, 256, 512) if ef >= k]

    def search(self, queries: Vectors, k: int, setting: Setting) -> NDArray[np.int64]:
        """See `Method.search`."""
        self._index.set_ef(setting["ef"])
        labels, _ = self._index.knn_query(queries, k, num_threads=self._threads)
        return np.asarray(labels).astype(np.int64)
