"""Search over all committed rows of one space and modality: the index, and exactly what is past it.

Every answer comes from one instant: the index, the rows past it and the map of the embeddings are
exchanged together, while searches go on with those that they began with.
"""

import threading
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.embeddings import EmbeddingsFile, Rows
from retrieval.encoders.base import Vectors
from retrieval.indices import generations
from retrieval.indices.base import SearchSettings, TunableIndex
from retrieval.indices.exact import ExactIndex, nearest
from retrieval.indices.faiss.gpu_index import GpuIndex, on_device
from retrieval.indices.generations import Generation

FEW_ROWS = 4096
"""So many allowed rows or fewer are scored one by one: exact, and measured to be faster."""

_MOST_CANDIDATES = 20_000
"""Candidates to refine a query, unless more hits are wanted."""

_TUNED_K = 10
_PROBES_BY_K = 0.6
"""More hits lie in more lists: probes grow with this power of the wanted hits (measured)."""


@dataclass(frozen=True)
class _State:
    """What a search needs, of one instant. The tail holds the rows that the index does not."""

    rows: Rows
    generation: Generation | None
    index: TunableIndex | None
    tail: ExactIndex

    @classmethod
    def of(
        cls, rows: Rows, generation: Generation | None = None, index: TunableIndex | None = None
    ) -> "_State":
        tail = ExactIndex(rows.shape[1])
        tail.add(rows[0 if index is None else len(index) :])
        return cls(rows, generation, index, tail)

    def over(self, rows: Rows) -> "_State":
        return _State.of(rows, self.generation, self.index)

    @property
    def covered(self) -> int:
        return 0 if self.index is None else len(self.index)


def refine(
    vector: NDArray[np.float32], rows: NDArray[np.int64], embeddings: Rows
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Score candidate rows exactly from the embeddings and sort them, best first.

    vector: (d,); rows: (c,) distinct; embeddings: (n, d) float16. Returns (c,) rows and (c,)
    float32 inner products. Equal scores are ordered by row, the older first.
    """
    [scores], [found] = nearest(vector[np.newaxis], embeddings, len(rows), among=rows)
    order = np.lexsort((found, -scores))
    return found[order], scores[order]


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
        self._lock = threading.RLock()
        self._tried: tuple[list[int], int] | None = None
        self._loading: threading.Thread | None = None
        self._problem: str | None = None

    @property
    def rows(self) -> Rows:
        """The (n, d) rows that searches cover, float16, read-only."""
        return self._state.rows

    @property
    def generation(self) -> Generation | None:
        """The index in use; None where all rows are compared."""
        return self._state.generation

    @property
    def problem(self) -> str | None:
        """Why an index that exists is not in use, for the user; None if none is missed."""
        return self._problem if self._state.generation is None else None

    @property
    def device_problem(self) -> str | None:
        """Why the index is not searched on the GPU that was asked for, for the user."""
        index = self._state.index
        return index.problem if isinstance(index, GpuIndex) else None

    def refresh(self, row_count: int) -> None:
        """Let the searches that follow cover at least the first row_count rows.

        The first generation is taken up before this returns, a newer one as soon as it is in
        memory: see `settle`. Raises DamagedLibraryError when the embeddings have fewer rows.
        """
        rows = None
        if row_count > len(self._state.rows) or not self._is_whole(row_count):
            rows = self._embeddings.rows(row_count)  # raises for a file that was cut
        with self._lock:
            if rows is not None and row_count > len(self._state.rows):
                self._state = self._state.over(rows)
            if row_count == 0 or not self._is_outdated():
                return
            if self._state.generation is None:
                self._take_up()
            else:
                self._loading = threading.Thread(target=self._take_up, name="mmsearch-index")
                self._loading.start()

    def settle(self) -> None:
        """Wait until a generation that `refresh` found is in use."""
        if (loading := self._loading) is not None:
            loading.join()

    def candidates(
        self,
        queries: Vectors,
        k: int,
        allowed: NDArray[np.bool_] | None = None,
        query_modality: str = "text",
    ) -> NDArray[np.int64]:
        """Propose rows for each of m queries, among which the best k are to be found by `refine`.

        queries: (m, d) float32, unit. allowed: (n,) bool, the only rows to be found; those past its
        end are not. query_modality: where the queries come from, "image" or "text". Returns (m, c)
        distinct rows in no order, c at least k if there are so many, then -1.
        """
        return _candidates(self._state, queries, k, allowed, query_modality)

    def search(
        self,
        queries: Vectors,
        k: int,
        allowed: NDArray[np.bool_] | None = None,
        query_modality: str = "text",
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Find the best k rows for each query, refined exactly; see `Index.search`."""
        state = self._state
        found = _candidates(state, queries, k, allowed, query_modality)
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        for place, (query, proposed) in enumerate(zip(queries, found, strict=True)):
            best, best_scores = refine(query, proposed[proposed >= 0], state.rows)
            count = min(k, len(best))
            rows[place, :count], scores[place, :count] = best[:count], best_scores[:count]
        return scores, rows

    def _is_whole(self, row_count: int) -> bool:
        """Whether the file has so many rows still: reading past its end would end the process."""
        needed = row_count * self._embeddings.dimension * np.dtype(np.float16).itemsize
        try:
            return needed == 0 or self._embeddings.path.stat().st_size >= needed
        except OSError:
            return False

    def _is_outdated(self) -> bool:
        """Whether there is a generation that was not tried yet, or that too few rows kept away."""
        if self._loading is not None and self._loading.is_alive():
            return False
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

    def _take_up(self) -> None:
        """Load the newest usable generation and put it in the place of the one in use."""
        problems: list[str] = []
        loaded = generations.load_latest(
            self.directory, self.modality, self._state.rows, problems.append
        )
        placed = loaded and (loaded[0], on_device(loaded[1], self._device))
        with self._lock:
            self._problem = problems[0] if problems else None
            in_use = self._state.generation
            if placed and (in_use is None or in_use.number < placed[0].number):
                self._state = _State.of(self._state.rows, *placed)


def _candidates(
    state: _State,
    queries: Vectors,
    k: int,
    allowed: NDArray[np.bool_] | None,
    query_modality: str,
) -> NDArray[np.int64]:
    queries = np.ascontiguousarray(queries, dtype=np.float32)
    count = len(state.rows)
    if allowed is not None:
        allowed = _fit(allowed, count)
        count = int(np.count_nonzero(allowed))
        if count <= FEW_ROWS:
            among = np.flatnonzero(allowed)
            return nearest(queries, state.rows, min(k, count), among)[1]
    k = min(k, count)
    if state.index is None or state.generation is None:
        return state.tail.search(queries, k, allowed)[1]
    settings = state.generation.settings_for(query_modality)
    in_index, in_tail = None, None
    if allowed is not None:
        in_index, in_tail = allowed[: state.covered], allowed[state.covered :]
    proposed = _propose(state.index, queries, k, in_index, settings)
    if not len(state.tail):
        return proposed
    rows = state.tail.search(queries, min(k, len(state.tail)), in_tail)[1]
    return np.hstack([proposed, np.where(rows < 0, rows, rows + state.covered)])


def _propose(
    index: TunableIndex,
    queries: NDArray[np.float32],
    k: int,
    allowed: NDArray[np.bool_] | None,
    settings: SearchSettings,
) -> NDArray[np.int64]:
    """Propose at least k rows for each query, as far as there are so many."""
    available = len(index) if allowed is None else int(np.count_nonzero(allowed))
    wanted = min(k, available)
    overfetched = min(max(k, _TUNED_K) * settings.overfetch, _MOST_CANDIDATES)
    fetch = min(available, max(k, overfetched))
    if fetch == 0:
        return np.empty((len(queries), 0), dtype=np.int64)
    nprobe = round(settings.nprobe * max(1.0, k / _TUNED_K) ** _PROBES_BY_K)
    while True:
        rows = index.search(queries, fetch, allowed, replace(settings, nprobe=nprobe))[1]
        if nprobe >= (index.lists or len(index)) or (rows[:, wanted - 1] >= 0).all():
            return rows
        nprobe *= 4


def _fit(allowed: NDArray[np.bool_], count: int) -> NDArray[np.bool_]:
    if len(allowed) >= count:
        return allowed[:count]
    return np.concatenate([allowed, np.zeros(count - len(allowed), dtype=np.bool_)])
