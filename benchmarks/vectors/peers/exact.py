"""Exact search over the memory-mapped rows: what the others are held against."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.vectors.peers.base import Setting
from retrieval.embeddings import Rows
from retrieval.encoders.base import Vectors
from retrieval.indices.exact import ExactIndex


class ExactMethod:
    """`ExactIndex`, as a library of up to 50,000 rows is searched."""

    name = builds = "exact"
    package = None
    rows_in_file = True

    def build(self, rows: Rows, folder: Path, *, threads: int, seed: int) -> str:
        """Nothing is built; see `Method.build`."""
        return "float16 rows"

    def open(self, rows: Rows, folder: Path, *, threads: int) -> None:
        """See `Method.open`."""
        self._index = ExactIndex(rows.shape[1])
        self._index.add(rows)

    def settings(self, k: int) -> list[Setting]:
        """There is nothing to set."""
        return [{}]

    def search(self, queries: Vectors, k: int, setting: Setting) -> NDArray[np.int64]:
        """See `Method.search`."""
        return self._index.search(queries, k)[1]
