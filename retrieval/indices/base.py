"""What every index offers: the protocol, and how hard a search tries."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from retrieval.embeddings import Rows
from retrieval.encoders.base import Vectors


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """How hard a search tries; it travels with the call.

    nprobe: inverted lists visited a query; in a graph (HNSW) the length of the candidate list
    (efSearch). overfetch: candidates proposed for each wanted hit, before exact refine. recall:
    share of the exact best that they found when they were tuned, 0..1; None: not tuned.
    """

    nprobe: int = 16
    overfetch: int = 10
    recall: float | None = None


class Index(Protocol):
    """Proposes rows that are near to a query. It covers rows 0 .. len-1 of the embeddings.

    Rows never change once they are committed, so an index only ever grows. Not safe for a search
    while `add` runs; several searches may run at once.
    """

    def __len__(self) -> int:
        """Rows covered."""
        ...

    def add(self, rows: Rows) -> None:
        """Cover the (n, d) rows that follow those covered so far."""
        ...

    def search(
        self, queries: Vectors, k: int, allowed: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the best k rows for each of m queries by inner product.

        `allowed`, (len,) bool, leaves only some rows to be found. Returns scores, (m, k) float32,
        descending, and rows, (m, k) int64; where fewer than k rows can be found the rest of the
        scores is -inf and of the rows -1.
        """
        ...


class TunableIndex(Protocol):
    """An index that settings travel to with each call; an index of no lists has no `lists`."""

    def __len__(self) -> int:
        """Rows covered."""
        ...

    @property
    def lists(self) -> int | None:
        """Inverted lists."""
        ...

    def search(
        self,
        queries: Vectors,
        k: int,
        allowed: NDArray[np.bool_] | None = None,
        parameters: SearchSettings | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find k rows for each query; see `Index.search`. Scores estimate inner products."""
        ...
