"""The protocol of vector engines: what an index over the embeddings can be asked for.

An engine is derived from the embeddings and never their only copy. Deleting is filtering: rows of
removed files are left out of the allowed rows, until the library is compacted.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from retrieval.embeddings import Rows
from retrieval.encoders.base import Vectors
from retrieval.errors import LibraryError
from retrieval.filters import Filter

Found = tuple[NDArray[np.float32], NDArray[np.int64]]
"""Scores and rows of m queries, both (m, k), best first; -inf and -1 where there are fewer."""

ENGINES = {
    "exact": "retrieval.indices.exact:ExactIndex",
    "faiss": "retrieval.indices.faiss.ivf:FactoryIndex",
    "hnswlib": "retrieval.indices.hnswlib:HnswlibIndex",
    "lancedb": "retrieval.indices.lancedb:LancedbIndex",
    "milvus": "retrieval.indices.milvus:MilvusIndex",
    "milvus-lite": "retrieval.indices.milvus_lite:MilvusLiteIndex",
    "pgvector": "retrieval.indices.pgvector:PgvectorIndex",
    "usearch": "retrieval.indices.usearch:UsearchIndex",
}
"""Class of each engine by name; a module is imported when its engine is asked for."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard a search tries. It travels with the call: a query changes nothing shared.

    breadth: how much of the index a query visits, in the engine's own unit: inverted lists (nprobe)
    or, in a graph, the length of the candidate list (ef). overfetch: candidates proposed for each
    wanted hit, before exact refine. recall: share of the exact best that was found with it when it
    was tuned, 0..1; None: not tuned. query_bits: of each dimension of a query that is compared with
    codes of signs (RaBitQ); None: the engine's default.
    """

    breadth: int = 16
    overfetch: int = 10
    recall: float | None = None
    query_bits: int | None = None

    def widened(self, factor: float) -> "Effort":
        """Visit `factor` times as much."""
        return replace(self, breadth=round(self.breadth * factor))


@dataclass(frozen=True)
class Capabilities:
    """What an engine does by itself.

    refines: its scores are exact inner products. `search_refined`, which tuning and benchmarks
    call, takes them as they are; a search of the library re-scores its few candidates all the same,
    which also puts equal scores in order, the older row first. filters: it takes allowed rows;
    others are asked for longer lists.
    """

    refines: bool = False
    filters: bool = True


@dataclass(frozen=True, eq=False)
class AllowedRows:
    """The only rows that may be found, in every form that an engine may understand.

    bitmap: (n,) bool, over the rows of the index. filter: a condition that says the same, for
    engines on servers, which hold the fields of a filter beside the vectors; None where there is
    none. The bitmap decides.
    """

    bitmap: NDArray[np.bool_]
    filter: Filter | None = None

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """Row numbers, (count,), ascending."""
        return np.flatnonzero(self.bitmap)

    @cached_property
    def count(self) -> int:
        """Return the number of rows allowed."""
        return int(np.count_nonzero(self.bitmap))

    def part(self, begin: int, end: int) -> "AllowedRows":
        """Those among rows begin .. end-1, numbered from `begin`; rows past the bitmap are not."""
        if (begin, end) == (0, len(self.bitmap)):
            return self
        bitmap = self.bitmap[begin:end]
        if len(bitmap) < end - begin:
            bitmap = np.concatenate([bitmap, np.zeros(end - begin - len(bitmap), dtype=np.bool_)])
        return AllowedRows(bitmap, self.filter)


class VectorIndex(ABC):
    """What can be searched. It covers rows 0 .. len-1 of the embeddings, and only ever grows.

    Several searches may run at once, but none while `add` runs. An engine implements `_search`,
    which is called for rows and queries that exist, (m, d) float32, and an effort.
    """

    capabilities: ClassVar[Capabilities] = Capabilities()
    effort = Effort()
    """Effort of searches that bring none."""
    query_bits: tuple[int | None, ...] = (None,)
    """Values of `Effort.query_bits` that tuning tries."""
    problem: str | None = None
    """Why it is not searched on the device that was asked for, for the user."""

    @abstractmethod
    def __len__(self) -> int:
        """Rows covered."""

    @property
    def max_breadth(self) -> int:
        """Return the breadth that visits everything."""
        return len(self)

    def search(
        self,
        queries: Vectors,
        k: int,
        allowed: AllowedRows | None = None,
        effort: Effort | None = None,
    ) -> Found:
        """Find the best k rows for each of m queries by inner product.

        Args:
            queries: (m, d) float32, unit.
            k: length of the lists, at least 1; it may exceed the number of rows.
            allowed: of as many rows as the index covers; None: all. Only engines that filter by
                themselves are given it: see `refine.search_index`.
            effort: over-fetch is the caller's matter, unless the engine refines by itself.

        Returns:
            Scores, which estimate inner products, and rows, both (m, k), best first; -inf and -1
            where fewer rows were found.
        """
        if not len(queries) or not len(self) or (allowed is not None and not allowed.count):
            return nothing_found(len(queries), k)
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        return self._search(queries, k, allowed, effort or self.effort)

    @abstractmethod
    def _search(
        self, queries: Vectors, k: int, allowed: AllowedRows | None, effort: Effort
    ) -> Found: ...


class VectorEngine(VectorIndex):
    """An index that can be built, opened, grown and described; one class an engine.

    An engine implements `_insert`, which is given (b, d) float16 rows that follow those covered.

    name: as in `ENGINES`. kind: what was built, in the engine's own words, such as `IVF1024,PQ64`;
    with it the index can be opened again. dimension: of the vectors.
    """

    name: ClassVar[str]
    package: ClassVar[str | None] = None
    """The optional module that it needs."""
    library: ClassVar[str] = ""
    """The name of what searches, as users know it."""
    reads_untrusted: ClassVar[bool] = False
    """Whether `open` checks all that a file says, as a library from a stranger needs."""
    on_server: ClassVar[bool] = False
    """Whether the vectors are on a server, which may be away."""
    detail_names: ClassVar[tuple[str, ...]] = ()
    """Names of the facts of `details`."""
    is_extendable: bool = True
    """Whether `add` may follow on `open`; the index of a copied library belongs to the first."""
    fields_of: Callable[[int, int], Sequence[tuple[Any, ...]]] | None = None
    """Reads what engines filter by of rows first .. last-1: `Snapshot.fields_of_rows`."""
    training_reasons: tuple[str, ...] = ()
    """Sentences about how the index was trained, for the user."""
    threads: int = 0
    """Threads of one call; 0: one a core. FAISS follows OpenMP's settings."""

    block_rows: ClassVar[int] = 50_000
    """Rows that are inserted at a time; also how long a cancelled build may go on."""

    kind: str
    dimension: int

    @classmethod
    @abstractmethod
    def create(
        cls, path: Path, rows: Rows, kind: str = "", *, seed: int = 0, device: str = "cpu"
    ) -> Self:
        """Make an index that covers nothing yet.

        Args:
            path: where `save` will be asked to leave it, and where an engine on disk works.
            rows: (n, d) float16, those that it will cover first; some are used to train it.
            kind: what to build; "": the engine's default.
            seed: for training.
            device: where it is trained, as torch names it.

        Raises:
            UsageError: the kind is unknown, or cannot be trained on these rows.
        """

    @classmethod
    @abstractmethod
    def open(cls, path: Path, rows: Rows, kind: str) -> Self:
        """Open what `save` left at a path, over some of the (n, d) rows.

        Raises RuntimeError for a file that the engine cannot read.
        """

    @classmethod
    def version(cls) -> str:
        """Version of the library that searches."""
        return ""

    def add(
        self,
        rows: Rows,
        *,
        on_progress: Callable[[int, int], None] = lambda *_: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Cover the (n, d) rows that follow those covered so far.

        on_progress(done, total) is called as it goes on. Raises BuildCancelled soon after
        should_stop() returns true; some of the rows are covered then.
        """
        for begin in range(0, len(rows), self.block_rows):
            if should_stop():
                raise BuildCancelled
            block = rows[begin : begin + self.block_rows]
            self._insert(block)
            on_progress(begin + len(block), len(rows))

    @abstractmethod
    def _insert(self, rows: Rows) -> None: ...

    def save(self, path: Path) -> None:
        """Make the index durable; an engine in one file writes that, others their own path."""

    def abandon(self) -> None:
        """Remove what `add` left elsewhere than in the file that `save` would have written."""

    @classmethod
    def discard(cls, path: Path, kept: Path | None = None) -> bool:
        """Remove what belongs to a file and lies elsewhere, but not what a kept file needs.

        Returns False where that cannot be done now.
        """
        return True

    def close(self) -> None:
        """Release what an engine on disk holds; nothing can be searched then."""

    def on_device(self, device: str) -> VectorIndex:
        """Return the index as it is searched on a device, as torch names it."""
        return self

    def details(self) -> dict[str, Any]:
        """Facts that only this engine has, by the names of `detail_names`."""
        return {}

    def training_rows(self, available: int) -> int:
        """Return the number of available rows to train on."""
        return 0

    def quantisation_error(self, rows: Rows) -> float:
        """Mean squared distance of (n, d) rows to their centroids; 0 for an engine without.

        It grows when new rows differ from those that the index was trained on.
        """
        return 0.0


class IndexUnavailableError(LibraryError):
    """The server that holds an index is away, or no longer holds it."""


class UnsafeIndexError(RuntimeError):
    """A file of an index that is not of a kind that is built here, or does not fit together."""


class BuildCancelled(Exception):  # noqa: N818 - somebody wished so, nothing failed
    """Raised where `should_stop` returned true; the index is not usable."""


def load_engine(name: str) -> type[VectorEngine]:
    """Import the class of an engine; raises KeyError for a name that is not in `ENGINES`.

    Its optional package is imported when an index is created or opened.
    """
    module, _, attribute = ENGINES[name].partition(":")
    engine: type[VectorEngine] = getattr(import_module(module), attribute)
    return engine


def nothing_found(queries: int, k: int) -> Found:
    """Lists of k for some queries, in which nothing was found."""
    return np.full((queries, k), -np.inf, np.float32), np.full((queries, k), -1, np.int64)
