"""Builds the indices of a library when its rows call for it: at once, or in the background."""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.embeddings import RowChecker, Rows
from retrieval.encoders.base import Encoder, Space
from retrieval.errors import DamagedLibraryError, LibraryLockedError, MMSearchError
from retrieval.indices import generations
from retrieval.indices.base import BuildCancelled
from retrieval.indices.build import BuildOptions, build, is_build_due
from retrieval.indices.generations import Generation
from retrieval.indices.tuning import TuningQueries
from retrieval.indices.tuning_queries import encoded_texts
from retrieval.library import Library
from retrieval.machine import memory_bytes
from retrieval.media import Modality

_QUERIES = 500
"""Queries of each modality that an index is tuned with."""

_ASSUMED_MEMORY = 8 << 30


def needs_rebuild(library: Library, space: Space) -> list[Modality]:
    """List the modalities whose rows call for a build. Cheap enough to ask after every change."""
    found = []
    for modality in Modality:
        rows = committed_rows(library, space, modality)
        present = generations.latest(library.space_directory(space), modality, rows)
        if is_build_due(len(rows), present):
            found.append(modality)
    return found


def build_index(
    library: Library,
    modality: Modality,
    encoder: Callable[[], Encoder],
    space: Space,
    *,
    options: BuildOptions | None = None,
    device: str = "auto",
    on_progress: Callable[[str, int, int], None] = lambda *_: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Generation | None:
    """Build the index of one modality if its rows, or the options, call for it.

    Searches go on meanwhile; those that follow use the new index.

    Args:
        library: the library whose committed rows are indexed.
        modality: of the rows.
        encoder: loads the encoder of the space; called only if texts must be encoded.
        space: of the rows.
        options: what to build; None: as the number of rows calls for.
        device: where the index is trained and will be searched, as torch names it.
        on_progress: called with the step, and what is done of how much.
        should_stop: asked between steps; if true, nothing is written.

    Returns:
        The new generation; None where nothing was to be done, or should_stop() was true.

    Raises as `retrieval.indices.build.build`.
    """
    directory = library.space_directory(space)
    rows = committed_rows(library, space, modality)
    _require_whole(library, space, modality, rows)

    def queries() -> Mapping[Modality, TuningQueries]:
        if space.is_given:  # which is asked by vectors and items
            chosen = _sample(len(rows))
            vectors = rows[chosen].astype(np.float32)
            return {Modality.IMAGE: TuningQueries(vectors, source_rows=chosen)}
        texts = encoded_texts(
            directory,
            space.dimension,
            lambda batch: encoder().encode(Modality.TEXT, batch),
            on_progress=lambda done, total: on_progress("Encoding queries", done, total),
            should_stop=should_stop,
        )
        if should_stop():
            raise BuildCancelled
        found = {Modality.TEXT: TuningQueries(texts[:_QUERIES])}
        images = (
            rows if modality is Modality.IMAGE else committed_rows(library, space, Modality.IMAGE)
        )
        if len(images):
            chosen = _sample(len(images))
            found[Modality.IMAGE] = TuningQueries(
                images[chosen].astype(np.float32),
                source_rows=chosen if modality is Modality.IMAGE else None,
            )
        return found

    def fields_of(first: int, last: int) -> list[tuple[Any, ...]]:
        with library.catalog.snapshot() as snapshot:
            return snapshot.fields_of_rows(space.id, modality, first, last)

    half = (memory_bytes() or _ASSUMED_MEMORY) // 2  # the other one for the pages of the rows
    with suppress(BuildCancelled):
        return build(
            directory,
            modality,
            rows,
            queries,
            memory_bytes=half,
            cache_bytes=half,
            options=options or BuildOptions(),
            device=device,
            fields_of=fields_of,
            on_progress=on_progress,
            should_stop=should_stop,
        )
    return None


def _require_whole(library: Library, space: Space, modality: Modality, rows: Rows) -> None:
    """Raise DamagedLibraryError for damaged rows: an index would go on giving them."""
    with library.catalog.snapshot() as snapshot:
        checksum_count = min(len(rows), snapshot.checksum_count(space.id, modality))
    file = library.embeddings(space, modality)
    checker = RowChecker(file)
    checker.extend(rows, checksum_count)
    if checker.damaged_between(0, len(rows)) is not None:
        raise DamagedLibraryError(
            f"{checker.damaged_count:,} of the vectors in {file.path} are damaged, and no index is "
            "built over them. Run `mmsearch check --repair` first; searches go on meanwhile, and "
            "leave them out."
        )


def committed_rows(library: Library, space: Space, modality: Modality) -> Rows:
    """Open the (n, d) committed rows of a space and modality, memory-mapped."""
    with library.catalog.snapshot() as snapshot:
        count = snapshot.row_count(space.id, modality)
    return library.embeddings(space, modality).rows(count)


@dataclass(eq=False)
class BackgroundBuilder:
    """Builds the indices that are due in a thread of its own, one build at a time.

    on_built takes each new generation, on_problem why a build failed; both are called in that
    thread. What stops an earlier build is no reason not to try again at the next change.
    """

    library: Library
    encoder: Callable[[], Encoder]
    space: Space
    _: KW_ONLY
    device: str = "auto"
    on_built: Callable[[Generation], None] = lambda _generation: None
    on_problem: Callable[[str], None] = lambda _reason: None
    _stop: threading.Event = field(default_factory=threading.Event, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def start_if_due(self) -> bool:
        """Start a build if one is called for and none is running; returns whether one runs."""
        with self._lock:
            if self._stop.is_set():
                return False
            if self._thread is not None and self._thread.is_alive():
                return True
            if not needs_rebuild(self.library, self.space):
                return False
            # A daemon: training takes minutes and cannot be stopped, and what is lost is derivable.
            self._thread = threading.Thread(target=self._run, name="mmsearch-build", daemon=True)
            self._thread.start()
            return True

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait for the build that runs, if any."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def stop(self, timeout_s: float | None = 0.0) -> None:
        """Build no more; a build in flight ends soon, but not before FAISS has trained."""
        self._stop.set()
        self.wait(timeout_s)

    def _run(self) -> None:
        for modality in needs_rebuild(self.library, self.space):
            try:
                built = build_index(
                    self.library,
                    modality,
                    self.encoder,
                    self.space,
                    device=self.device,
                    should_stop=self._stop.is_set,
                )
            except LibraryLockedError:
                return  # somebody else builds it
            except (MMSearchError, RuntimeError, MemoryError) as error:
                self.on_problem(f"The index was not built: {error}")
                return
            if built is not None:
                self.on_built(built)


def _sample(count: int) -> NDArray[np.int64]:
    chosen = np.random.default_rng(0).choice(count, min(count, _QUERIES), replace=False)
    return np.sort(chosen).astype(np.int64)
