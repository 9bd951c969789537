"""Our own way: the chosen FAISS index, over-fetched, its candidates scored exactly."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.vectors.peers.base import Setting
from retrieval.embeddings import Rows
from retrieval.encoders.base import Vectors
from retrieval.indices.base import SearchSettings
from retrieval.indices.choice import BYTES_PER_ROW, choose
from retrieval.indices.exact import ExactIndex
from retrieval.indices.faiss.ivf import FactoryIndex
from retrieval.indices.searcher import refine

_PROBES = (2, 4, 8, 16, 32, 64, 128, 256)
_OVERFETCH = (3, 10, 30)
_MOST_CANDIDATES = 1000


class FactoryMethod:
    """Any FAISS factory string, refined from the memory-mapped rows.

    overfetch: candidates that are scored exactly, in lengths of the list; (0,): none are, and the
    index's own order stands.
    """

    package = None

    def __init__(
        self, factory: str, *, name: str | None = None, overfetch: tuple[int, ...] = _OVERFETCH
    ) -> None:
        self.name = name or f"factory:{factory}"
        self.builds = self.name
        self.rows_in_file = overfetch != (0,)
        self._factory = factory
        self._overfetch = overfetch

    def build(self, rows: Rows, folder: Path, *, threads: int, seed: int) -> str:
        """See `Method.build`."""
        factory = self._choose(rows)
        if factory is not None:
            index = FactoryIndex(factory, rows, seed=seed)
            index.add(rows)
            index.save(folder / "index.faiss")
        (folder / "index.json").write_text(json.dumps({"factory": factory}))
        return factory or "exact"

    def open(self, rows: Rows, folder: Path, *, threads: int) -> None:
        """See `Method.open`."""
        factory = json.loads((folder / "index.json").read_text())["factory"]
        self._rows = rows
        self._index: FactoryIndex | None = None
        if factory is None:
            self._exact = ExactIndex(rows.shape[1])
            self._exact.add(rows)
        else:
            self._index = FactoryIndex.load(folder / "index.faiss", factory)

    def settings(self, k: int) -> list[Setting]:
        """See `Method.settings`."""
        if self._index is None:
            return [{}]
        lists = self._index.lists
        probes = [n for n in _PROBES if lists is None or n <= lists]
        overfetch = [n for n in self._overfetch if n * k <= max(_MOST_CANDIDATES, k * 3)]
        return [{"nprobe": n, "overfetch": factor} for factor in overfetch for n in probes]

    def search(self, queries: Vectors, k: int, setting: Setting) -> NDArray[np.int64]:
        """See `Method.search`."""
        if self._index is None:
            return self._exact.search(queries, k)[1]
        fetch = min(len(self._index), k * max(1, setting["overfetch"]))
        settings = SearchSettings(nprobe=setting["nprobe"])
        proposed = self._index.search(queries, fetch, parameters=settings)[1]
        if not setting["overfetch"]:
            return proposed
        found = np.full((len(queries), k), -1, np.int64)
        for place, (vector, candidates) in enumerate(zip(queries, proposed, strict=True)):
            best, _ = refine(vector, candidates[candidates >= 0], self._rows)
            found[place, : len(best[:k])] = best[:k]
        return found

    def _choose(self, rows: Rows) -> str | None:
        return self._factory


class OwnMethod(FactoryMethod):
    """The index that a library of this size gets; exact search where that is the choice."""

    def __init__(self) -> None:
        super().__init__("", name="mmsearch")

    def _choose(self, rows: Rows) -> str | None:
        return choose(len(rows), rows.shape[1], BYTES_PER_ROW * len(rows)).factory
