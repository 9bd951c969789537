"""Follow a table in the background: its copy takes up each new version, and builds its index."""

import threading
from collections.abc import Callable
from pathlib import Path

from retrieval.encoders.base import Encoder, Space
from retrieval.errors import LibraryLockedError
from retrieval.indices.maintenance import BackgroundBuilder
from retrieval.lance.copies import Copied, TableCopy, open_copy
from retrieval.lance.table import LanceTable
from retrieval.library import Library, library_exists

POLL_S = 5.0
_SECONDS_TO_END = 2.0


class TableFollower:
    """Asks a table for new versions every few seconds, in a thread of its own.

    A store that cannot be reached is no end: the copy serves what it has, `on_problem` is told why,
    and None as soon as the copy is in step again; `on_index_problem`, why no index was built. The
    callbacks are called in that thread and that of the builds.
    """

    def __init__(
        self,
        location: str,
        library: Library,
        *,
        shard: tuple[int, int] = (0, 1),
        poll_s: float = POLL_S,
        encoder: Callable[[Space], Encoder],
        device: str = "auto",
        on_update: Callable[[Copied], None] = lambda _copied: None,
        on_problem: Callable[[str | None], None] = lambda _reason: None,
        on_index_problem: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        self._location = location
        self._library = library
        self._shard = shard
        self._poll_s = poll_s
        self._on_update = on_update
        self._on_problem = on_problem
        self._copy: TableCopy | None = None
        self._stop = threading.Event()
        space = library.space()
        self._builder = BackgroundBuilder(
            library, lambda: encoder(space), space, device=device, on_problem=on_index_problem
        )
        # A daemon: a store that does not answer holds it for minutes.
        self._thread = threading.Thread(target=self._run, name="mmsearch-follow", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the batch in flight; what is lacking comes with the next start."""
        self._stop.set()
        self._builder.stop()
        self._thread.join(_SECONDS_TO_END)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow()
                self._on_problem(None)
            except LibraryLockedError:
                pass  # an index is being built, or the like
            except Exception as error:  # noqa: BLE001 - whatever it is, searches go on
                self._on_problem(f"{error} Searches go on with what the copy has.")
            self._stop.wait(self._poll_s)

    def _follow(self) -> None:
        if self._copy is None:
            table = LanceTable.open(self._location)
            self._copy = open_copy(table, self._library, shard=self._shard)
        while self._copy.is_outdated() and not self._stop.is_set():
            self._on_update(self._copy.update(should_stop=self._stop.is_set))
        self._builder.start_if_due()


def first_copy(
    location: str,
    directory: Path,
    *,
    shard: tuple[int, int] = (0, 1),
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Copied | None:
    """Make the copy of a table that is to be followed, unless there is a whole one already.

    Arguments, but for the location, and errors as of `open_copy` and `TableCopy.update`. Returns
    what was done; None: there is one, which is served at once.
    """
    if library_exists(directory):
        from retrieval.lance.copies import read_states

        if any(state.version for state in read_states(directory).values()):
            return None
    copy = open_copy(LanceTable.open(location), directory, shard=shard)
    try:
        return copy.update(on_progress=on_progress, should_stop=should_stop)
    finally:
        copy.library.close()
