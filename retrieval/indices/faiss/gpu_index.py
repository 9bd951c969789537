"""Search on GPUs, with the index in main memory as the master.

The master is what is written and added to. It also takes over what a GPU does not do: lists of more
than 2,048 candidates, filters that leave too few of them, and everything where a GPU has no room.
"""

import threading
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from retrieval.encoders.base import Vectors
from retrieval.indices.base import AllowedRows, Effort, Found, VectorIndex
from retrieval.indices.faiss.gpu import MOST_SELECTED, Placing
from retrieval.indices.faiss.ivf import FactoryIndex
from retrieval.indices.refine import filtered_fetch, keep_allowed, probes_for

_BLOCK_QUERIES = 1024
"""Queries given to the GPU at a time, which bounds what a search takes of its memory."""


class GpuIndex(VectorIndex):
    """Searches a copy of an index of inverted lists on GPUs, one call at a time.

    FAISS's classic kernels ignore selectors: what a filter leaves is picked from a longer list, and
    a query for which that is too short is searched on the CPU, with the selector.

    `problem` tells why there is no copy, or none any more: `place` could not make one, or a search
    on it failed, for want of memory, say. All searches are done by the master then.
    """

    def __init__(self, master: FactoryIndex, place: Placing) -> None:
        self._master = master
        self.effort = master.effort
        self._lock = threading.Lock()
        self._copy: Any = None
        self.problem: str | None = None
        try:
            self._copy = place(master.inner)
        except RuntimeError as error:
            self._give_up(error)

    def __len__(self) -> int:
        return len(self._master)

    @property
    def max_breadth(self) -> int:
        """Return the number of inverted lists."""
        return self._master.max_breadth

    def _search(
        self, queries: Vectors, k: int, allowed: AllowedRows | None, effort: Effort
    ) -> Found:
        if allowed is not None:
            return self._search_allowed(queries, k, allowed, effort)
        found = self._on_gpu(queries, k, effort.breadth)
        return self._master.search(queries, k, None, effort) if found is None else found

    def _search_allowed(
        self, queries: NDArray[np.float32], k: int, allowed: AllowedRows, effort: Effort
    ) -> Found:
        probes = probes_for(effort.breadth, allowed.count / max(1, len(self)))
        longer = self._on_gpu(queries, filtered_fetch(k, allowed), probes)
        if longer is None:
            return self._master.search(queries, k, allowed, effort)
        scores, rows = keep_allowed(longer, k, allowed)
        is_short = rows[:, min(k, allowed.count) - 1] < 0
        if is_short.any():
            scores[is_short], rows[is_short] = self._master.search(
                queries[is_short], k, allowed, effort
            )
        return scores, rows

    def _on_gpu(self, queries: NDArray[np.float32], k: int, nprobe: int) -> Found | None:
        """Search the copy; None where that cannot be done."""
        nprobe = min(nprobe, self.max_breadth)
        if not len(queries) or not 0 < k <= MOST_SELECTED or nprobe > MOST_SELECTED:
            return None
        vectors = self._master.transformed(queries)
        parameters = faiss.SearchParametersIVF(nprobe=nprobe)
        parts = []
        with self._lock:
            if self._copy is None:
                return None
            try:
                parts = [
                    self._copy.search(vectors[first : first + _BLOCK_QUERIES], k, params=parameters)
                    for first in range(0, len(vectors), _BLOCK_QUERIES)
                ]
            except RuntimeError as error:
                self._give_up(error)
                return None
        squared, rows = (np.concatenate(part) for part in zip(*parts, strict=True))
        return np.where(rows < 0, -np.inf, 1 - squared / 2).astype(np.float32), rows

    def _give_up(self, error: RuntimeError) -> None:
        self._copy = None
        self.problem = (
            f"{self._master.kind} is searched on the CPU, since the GPU cannot: "
            f"{str(error).splitlines()[-1]}."
        )
