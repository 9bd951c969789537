"""Search over all committed rows of one space and modality: the index, and exactly what is past it.

Every answer comes from one instant: the index, the rows past it and the map of the embeddings are
exchanged together, while searches go on with those that they began with.
"""

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.embeddings import EmbeddingsFile, RowChecker, Rows, read_singly
from retrieval.encoders.base import Vectors
from retrieval.indices import generations
from retrieval.indices.base import (
    AllowedRows,
    Found,
    IndexUnavailableError,
    VectorIndex,
    load_engine,
)
from retrieval.indices.exact import ExactIndex, nearest
from retrieval.indices.generations import Generation
from retrieval.indices.refine import propose_rows, refine_all
from retrieval.machine import memory_bytes
from retrieval.media import Modality

FEW_ROWS = 4096
"""Up to this number of allowed rows, all are scored: exact, and measured to be faster."""

_RETRY_S = 30
"""Time for which a server that was away is not asked again."""

_LONGEST_TICK_NS = 3_000_000_000
"""FAT keeps times of every other second; nothing in use is coarser."""


@dataclass(frozen=True)
class _State:
    """What a search needs, of one instant. The tail holds the rows that the index does not."""

    rows: Rows
    generation: Generation | None
    index: VectorIndex | None
    tail: ExactIndex

    @classmethod
    def of(
        cls, rows: Rows, generation: Generation | None = None, index: VectorIndex | None = None
    ) -> "_State":
        if index is not None and 2 * rows.nbytes > (memory_bytes() or 0) > 0:
            read_singly(rows)
        tail = ExactIndex(rows.shape[1])
        tail.add(rows[0 if index is None else len(index) :])
        return cls(rows, generation, index, tail)

    def over(self, rows: Rows) -> "_State":
        return _State.of(rows, self.generation, self.index)

    @property
    def covered(self) -> int:
        return 0 if self.index is None else len(self.index)


class Searcher:
    """Finds rows of one space and modality; may be shared by threads.

    It begins with no rows: call `refresh` before each search, with the committed count. device:
    where the index is searched, as torch names it.
    """

    def __init__(
        self, directory: Path, modality: str, embeddings: EmbeddingsFile, device: str = "cpu"
    ) -> None:
        self.directory = directory
        self.modality = modality
        self._embeddings = embeddings
        self._device = device
        nothing = np.empty((0, embeddings.dimension), dtype=np.float16)
        self._state = _State.of(nothing)
        self._checker = RowChecker(embeddings)
        self._lock = threading.RLock()
        self._tried: tuple[list[int], int] | None = None
        self._listed_mtime_ns: int | None = None
        self._loading: threading.Thread | None = None
        self._problem: str | None = None
        self._retry_at: float | None = None

    @property
    def rows(self) -> Rows:
        """Return the (n, d) rows that searches cover, float16, read-only."""
        return self._state.rows

    @property
    def generation(self) -> Generation | None:
        """The index in use; None where all rows are compared."""
        return self._state.generation

    @property
    def problem(self) -> str | None:
        """Why an index is not in use, or not on the GPU that was asked for, for the user."""
        if self._state.index is not None:
            return self._state.index.problem
        if self._problem is None:
            return None
        told = (
            f"{self._problem}. It was not used: all vectors were searched exactly, which is slower"
        )
        if self._retry_at is not None:
            return f"{told}, until the server answers again."
        return f"{told}. `mmsearch build-index` rebuilds it."

    @property
    def damage(self) -> str | None:
        """Say how many rows were found to be damaged, for the user; None: none so far."""
        if not (count := self._checker.damaged_count):
            return None
        return (
            f"{count:,} of the vectors in {self._embeddings.path} {'is' if count == 1 else 'are'} "
            "damaged on the disk: what they show was left out. `mmsearch check --repair` makes "
            "them again from the files that were indexed."
        )

    def are_whole(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of some rows hold what was written, (n,) bool; each is compared once."""
        return ~self._checker.are_damaged(numbers)

    def refresh(self, row_count: int, checksum_count: int = 0) -> None:
        """Let the searches that follow cover at least the first row_count rows.

        checksum_count: how many of them have a checksum.

        The first generation is loaded before this returns, a newer one in the background: see
        `settle`. Raises DamagedLibraryError when the embeddings have fewer rows.
        """
        rows = None
        if row_count > len(self._state.rows) or not self._is_whole(row_count):
            rows = self._embeddings.rows(row_count)  # raises for a file that was cut
        with self._lock:
            if rows is not None and row_count > len(self._state.rows):
                self._checker.extend(rows, checksum_count)
                self._state = self._state.over(rows)
            if row_count == 0 or not self._is_outdated():
                return
            if self._state.generation is None and self._retry_at is None:
                self._load_latest()
            else:
                self._loading = threading.Thread(target=self._load_latest, name="mmsearch-index")
                self._loading.start()

    def settle(self) -> None:
        """Wait until a generation that `refresh` found is in use."""
        if (loading := self._loading) is not None:
            loading.join()

    def candidates(
        self,
        queries: Vectors,
        k: int,
        allowed: AllowedRows | NDArray[np.bool_] | None = None,
        query_modality: Modality = Modality.TEXT,
    ) -> NDArray[np.int64]:
        """Propose rows for each of m queries, among which `refine` finds the best k.

        Args:
            queries: (m, d) float32, unit.
            k: how many hits are wanted.
            allowed: the only rows to be found, or their bitmap; rows past its end are not found.
            query_modality: of the queries, for which the index was tuned.

        Returns:
            (m, c) distinct rows in no order, then -1; at least k rows unless there are fewer.
        """
        state = self._state
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        count = len(state.rows)
        if allowed is not None:
            allowed = allowed if isinstance(allowed, AllowedRows) else AllowedRows(allowed)
            allowed = allowed.part(0, count)
            count = allowed.count
            if count <= FEW_ROWS:
                ids = allowed.ids[self.are_whole(allowed.ids)]
                return nearest(queries, state.rows, min(k, len(ids)), ids)[1]
        k = min(k, count)
        if state.index is None or state.generation is None:
            return state.tail.search(queries, k, self._whole(0, len(state.rows), allowed))[1]
        effort = state.generation.effort_for(query_modality)
        in_index = in_tail = None
        if allowed is not None:
            in_index = allowed.part(0, state.covered)
            in_tail = allowed.part(state.covered, len(state.rows))
        try:
            proposed = propose_rows(state.index, queries, k, in_index, effort)
        except IndexUnavailableError as error:
            self._do_without(state.generation, error)
            return self.candidates(queries, k, allowed, query_modality)
        proposed[proposed >= 0] = np.where(
            self.are_whole(proposed[proposed >= 0]), proposed[proposed >= 0], -1
        )
        if not len(state.tail):
            return proposed
        in_tail = self._whole(state.covered, len(state.rows), in_tail)
        rows = state.tail.search(queries, min(k, len(state.tail)), in_tail)[1]
        return np.hstack([proposed, np.where(rows < 0, rows, rows + state.covered)])

    def search(
        self,
        queries: Vectors,
        k: int,
        allowed: AllowedRows | NDArray[np.bool_] | None = None,
        query_modality: Modality = Modality.TEXT,
    ) -> Found:
        """Find the best k rows for each query, refined exactly; see `VectorIndex.search`."""
        found = self.candidates(queries, k, allowed, query_modality)
        return refine_all(queries, found, k, self.rows)  # which hold all that were there before

    def _whole(self, first: int, last: int, allowed: AllowedRows | None) -> AllowedRows | None:
        """Take the damaged rows among first .. last-1 out of those that are allowed there."""
        damaged = self._checker.damaged_between(first, last)
        if damaged is None:
            return allowed
        return AllowedRows(~damaged if allowed is None else allowed.bitmap & ~damaged)

    def _is_whole(self, row_count: int) -> bool:
        """Tell whether the file still has these rows: reading past its end would crash."""
        needed = row_count * self._embeddings.dimension * np.dtype(np.float16).itemsize
        try:
            return needed == 0 or self._embeddings.path.stat().st_size >= needed
        except OSError:
            return False

    def _is_outdated(self) -> bool:
        """Tell whether there is a generation to try: a new one, or one that lacked rows."""
        if self._loading is not None and self._loading.is_alive():
            return False
        if self._retry_at is not None:
            return time.monotonic() >= self._retry_at
        mtime_ns = self.directory.stat().st_mtime_ns
        if mtime_ns == self._listed_mtime_ns and self._problem is None:
            return False
        # What is new within one tick of the file system's clock does not change the time again.
        is_past = time.time_ns() - mtime_ns > _LONGEST_TICK_NS
        self._listed_mtime_ns = mtime_ns if is_past else None
        numbers = generations.generation_numbers(self.directory, self.modality)
        rows = len(self._state.rows)
        if self._tried is not None and self._tried[0] == numbers:
            is_promising = self._problem is not None and self._tried[1] < rows
        else:
            generation = self._state.generation
            is_promising = bool(numbers) and (
                generation is None or numbers[-1] != generation.number
            )
        self._tried = numbers, rows
        return is_promising

    def _do_without(self, generation: Generation, error: IndexUnavailableError) -> None:
        """Search exactly for a while, since a server is away."""
        with self._lock:
            if self._state.generation == generation:
                self._state = _State.of(self._state.rows)
            self._problem = f"{generation.index_file(self.directory)} cannot be searched: {error}"
            self._retry_at = time.monotonic() + _RETRY_S

    def _load_latest(self) -> None:
        """Load the newest usable generation and swap it in."""
        problems: list[str] = []
        loaded = generations.load_latest(
            self.directory, self.modality, self._state.rows, problems.append
        )
        placed = loaded and (loaded[0], loaded[1].on_device(self._device))
        is_away = bool(problems) and self._is_on_server()
        with self._lock:
            self._problem = problems[0] if problems else None
            self._retry_at = time.monotonic() + _RETRY_S if is_away else None
            in_use = self._state.generation
            if placed and (in_use is None or in_use.number < placed[0].number):
                self._state = _State.of(self._state.rows, *placed)

    def _is_on_server(self) -> bool:
        """Return whether the newest generation is on a server."""
        newest = generations.latest(self.directory, self.modality, self._state.rows)
        return newest is not None and load_engine(newest.engine).on_server
