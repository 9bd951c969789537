"""Keep a library up to date with its sources while they change.

What the operating system tells of a change only says where to look again: a run of the pipeline
that is limited to those paths finds out what it was. So what is reported twice, late or in another
order comes to the same, and a move is one comparison that knows both places.
"""

import os
import stat
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import watchfiles

from indexer.decoder_pool import DecoderPool
from indexer.enrichment.run import EnrichmentSummary
from indexer.enrichment.subtitles import is_subtitle
from indexer.ignore_files import IGNORE_FILE_NAME
from indexer.moved_sources import MoveOptions, follow_moves, missing_sources
from indexer.partial_scan import PartialScan, names_below, narrowed
from indexer.pipeline import DEFAULT_BATCH_SIZE, DEFAULT_LIMIT_S, default_workers, index_sources
from indexer.progress import Progress, Summary
from indexer.scan import LIBRARY_FILES, is_of_kinds
from indexer.sources import Changes, SourceOptions, absolute, choose_sources, remember_sources
from indexer.write_stability import LASTING_S, WriteStability
from retrieval.catalog.paths import is_at_or_below
from retrieval.encoders.base import Encoder
from retrieval.errors import LibraryLockedError, MMSearchError, NotFoundError
from retrieval.library import Library
from retrieval.media.sidecars import SIDECAR_ENDINGS
from retrieval.objects.paths import is_uri

DEFAULT_POLL_S = 30.0
"""How often a source is walked from which no notifications can be had."""
_TICK_MS = 200
_CALM_MS = 100
_BURST_MS = 1_000
_CHECK_SOURCES_S = 1.0
_RETRY_LOCKED_S = 1.0
_RETRY_FAILED_S = 10.0
_MOST_CHANGES = 5_000
_LOOK_UP_S = 1.0
"""How often changes are looked for while models look for texts."""

Enrich = Callable[[Callable[[], bool]], Sequence[EnrichmentSummary]]
"""Looks for texts until all are found, a limit is reached, or it is asked to stop."""


@dataclass(frozen=True)
class Watching:
    """All sources are up to date and watched; `polled` are those that are walked now and then."""

    sources: tuple[str, ...]
    polled: tuple[str, ...]


@dataclass(frozen=True)
class Updated:
    """A run changed something in the library, or was the first."""

    summary: Summary


@dataclass(frozen=True)
class Waiting:
    """Another process writes to the library; the changes are taken up when it has finished."""

    reason: str


@dataclass(frozen=True)
class SourceGone:
    """A source is not there (any more); what was indexed from it stays, and it is looked for."""

    path: str


@dataclass(frozen=True)
class SourceBack:
    """A source that was not there is looked at, and watched, again."""

    path: str


@dataclass(frozen=True)
class Polling:
    """From these sources no notifications can be had: they are walked now and then instead."""

    paths: tuple[str, ...]
    seconds: float
    reason: str


@dataclass(frozen=True)
class Trouble:
    """A run failed as a whole; it is tried again, and reported again only for another reason."""

    reason: str


@dataclass(frozen=True)
class FoundTexts:
    """Models have looked for texts in what is indexed, while nothing changed.

    problem: why they could not; then they are tried again after the next change.
    """

    task: str
    looked_at: int
    with_text: int
    failed: int = 0
    problem: str | None = None


Event = FoundTexts | Watching | Updated | Waiting | SourceGone | SourceBack | Polling | Trouble


def watch_sources(
    library: Library,
    encoder: Encoder,
    paths: Sequence[str | os.PathLike[str]] = (),
    *,
    on_event: Callable[[Event], None],
    stop_event: threading.Event,
    changes: Changes | None = None,
    poll: float | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    workers: int | None = None,
    limit_s: float = DEFAULT_LIMIT_S,
    max_pixels: int | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    enrich: Enrich | None = None,
) -> None:
    """Bring paths, or all sources, up to date, and keep them so until `stop_event` is set.

    The first run brings everything up to date; what changes meanwhile, as in every run, is taken up
    by the next one. Errors of later runs are reported as events, and the runs are tried again.

    Args:
        library, encoder, paths, changes: as for `index_sources`.
        on_event: called with what happened, in this thread.
        stop_event: ends the watch; a run that is in progress ends with its batch.
        poll: seconds between walks of the sources, for network file systems, which report no
            changes of other computers; None: be notified, but of URIs, which are always polled.
        batch_size, workers, limit_s, max_pixels, on_progress: as for `index_sources`.
        enrich: looks for texts, a little at a time, when no change waits; it is asked to stop as
            soon as one does.

    Raises:
        NotFoundError: a path does not exist when it begins, or there is no source.
    """
    if missing_sources(library):
        with suppress(LibraryLockedError), library.writer():
            follow_moves(library, paths, changes, MoveOptions())
    sources = choose_sources(library, paths, changes)
    if not sources:
        raise NotFoundError(f"{library.path} has no sources yet: name a folder to watch.")
    with DecoderPool(workers or default_workers(), limit_s=limit_s) as readers:

        def run(partial: PartialScan) -> Summary:
            return index_sources(
                library,
                encoder,
                partial=partial,
                readers=readers,
                batch_size=batch_size,
                workers=workers,
                max_pixels=max_pixels,
                on_progress=on_progress,
                should_stop=stop_event.is_set,
            )

        def remember() -> None:
            with library.writer():
                remember_sources(library, sources)

        passed_over = absolute(library.path)
        _Watch(sources, passed_over, remember, run, on_event, stop_event, poll, enrich).go_on()


@dataclass(frozen=True)
class _Identity:
    """What tells whether a source is still the same folder, or a file with the same content."""

    device: int
    inode: int
    is_directory: bool
    size: int = 0
    mtime_ns: int = 0

    @classmethod
    def of(cls, path: str) -> "_Identity | None":
        if is_uri(path):
            return cls(0, 0, is_directory=False)
        try:
            status = os.stat(path)  # noqa: PTH116
        except OSError:
            return None
        if stat.S_ISDIR(status.st_mode):
            return cls(status.st_dev, status.st_ino, is_directory=True)
        return cls(status.st_dev, status.st_ino, False, status.st_size, status.st_mtime_ns)


class _Watch:
    """What is to be looked at, and when."""

    def __init__(
        self,
        sources: Mapping[str, SourceOptions],
        passed_over: str,
        remember: Callable[[], None],
        run: Callable[[PartialScan], Summary],
        on_event: Callable[[Event], None],
        stop: threading.Event,
        poll: float | None,
        enrich: Enrich | None = None,
    ) -> None:
        self._sources = sources
        self._real = {os.path.realpath(root): root for root in sources}
        self._passed_over = (passed_over, os.path.realpath(passed_over))
        self._remember: Callable[[], None] | None = remember
        self._run = run
        self._tell = on_event
        self._stop = stop
        self._poll_s = poll if poll is not None else DEFAULT_POLL_S
        self._polled = {root for root in sources if poll is not None or is_uri(root)}
        self._next_poll = 0.0
        self._due: dict[str, float] = {}
        self._not_before = 0.0
        self._stability = WriteStability()
        self._identities: dict[str, _Identity] = {}
        self._gone: set[str] = set()
        self._next_check = 0.0
        self._last_told: Waiting | Trouble | None = None
        self._is_up_to_date = False
        self._changes: Generator[set[watchfiles.main.FileChange], None, None] | None = None
        self._must_reopen = True
        self._enrich = enrich
        self._texts_wait = enrich is not None
        self._found: dict[str, FoundTexts] = {}
        self._next_look = 0.0

    def go_on(self) -> None:
        """Look and wait until it is to stop."""
        try:
            self._look_at_all()
            while not self._stop.is_set():
                self._check_sources()
                self._look()
                self._collect()
                self._poll()
                self._find_texts()
        finally:
            if self._changes is not None:
                self._changes.close()

    def _find_texts(self) -> None:
        """Look for texts for a while, if nothing else is to be done."""
        now = time.monotonic()
        if not self._texts_wait or not self._is_up_to_date or self._due or now < self._not_before:
            return
        assert self._enrich is not None
        self._next_look = now + _LOOK_UP_S
        try:
            done = self._enrich(self._has_changes)
        except LibraryLockedError as error:
            self._put_off(_RETRY_LOCKED_S, Waiting(str(error)))
            return
        except MMSearchError as error:
            self._texts_wait = False
            self._tell(Trouble(str(error)))
            return
        self._last_told = None
        for one in done:
            before = self._found.get(one.task, FoundTexts(one.task, 0, 0))
            self._found[one.task] = FoundTexts(
                one.task,
                before.looked_at + one.looked_at,
                before.with_text + one.with_text,
                before.failed + one.failed,
                one.problem,
            )
        self._texts_wait = any(one.interrupted for one in done)
        if not self._texts_wait:
            for found in self._found.values():
                if found.looked_at or found.problem:
                    self._tell(found)
            self._found.clear()

    def _has_changes(self) -> bool:
        """Return whether something else is to be done, or the watch is to end."""
        if self._stop.is_set() or self._due:
            return True
        if time.monotonic() >= self._next_look:
            self._collect()
            self._check_sources()
            self._next_look = time.monotonic() + _LOOK_UP_S
        return bool(self._due) or self._stop.is_set()

    def _look_at_all(self) -> None:
        now = time.monotonic()
        self._due.update((root, now) for root in self._sources if root not in self._gone)

    def _check_sources(self, *, at_once: bool = False) -> None:
        """Notice sources that went away, came back, or are other folders than before."""
        if not at_once and time.monotonic() < self._next_check:
            return
        self._next_check = time.monotonic() + _CHECK_SOURCES_S
        for root in self._sources:
            identity = _Identity.of(root)
            before = self._identities.get(root)
            if identity is None or (before and identity != before and _is_empty_folder(root)):
                if root not in self._gone:
                    self._lose(root)
                continue
            self._identities[root] = identity
            if root in self._gone:
                self._gone.discard(root)
                self._tell(SourceBack(root))
            elif before is None or identity == before:
                continue
            self._must_reopen = self._must_reopen or identity.is_directory
            self._due[root] = time.monotonic()

    def _lose(self, root: str) -> None:
        self._gone.add(root)
        self._due = {path: at for path, at in self._due.items() if not is_at_or_below(path, root)}
        self._must_reopen = True
        self._tell(SourceGone(root))

    def _reopen(self) -> None:
        """Ask for notifications of all sources that are there, from now on."""
        before, self._changes, self._must_reopen = self._changes, None, False
        unspeakable = [root for root in self._sources if not _is_unicode(root)]
        self._fall_back(unspeakable, "its path is not valid text")
        roots = [
            root
            for root, identity in self._identities.items()
            if identity.is_directory and root not in self._polled and root not in self._gone
        ]
        if roots:
            changes = watchfiles.watch(
                *roots,
                watch_filter=None,
                debounce=_BURST_MS,
                step=_CALM_MS,
                stop_event=self._stop,
                rust_timeout=_TICK_MS,
                yield_on_timeout=True,
                ignore_permission_denied=True,
            )
            try:
                self._take(next(changes, set()))
                self._changes = changes
            except (OSError, RuntimeError) as error:
                changes.close()
                if all(map(os.path.lexists, roots)):
                    self._fall_back(roots, _why_no_notifications(error))
                else:
                    self._next_check, self._must_reopen = 0.0, True
        if before is not None:
            # What it has noticed until now, beside what the new one notices.
            with suppress(RuntimeError):
                self._take(next(before, set()))
            before.close()

    def _fall_back(self, roots: Iterable[str], reason: str) -> None:
        new = tuple(root for root in roots if root not in self._polled)
        if new:
            self._polled.update(new)
            self._tell(Polling(new, self._poll_s, reason))

    def _collect(self) -> None:
        """Wait a little for changes."""
        if self._changes is None:
            self._stop.wait(_TICK_MS / 1e3)
            return
        try:
            self._take(next(self._changes, set()))
        except RuntimeError:
            # A name that is not valid text, or too many changes at once: what changed is not known,
            # and the notifier cannot be used any more.
            self._stop.wait(_CHECK_SOURCES_S)
            self._must_reopen = True
            self._look_at_all()

    def _take(self, changes: set[watchfiles.main.FileChange]) -> None:
        if len(changes) > _MOST_CHANGES:
            # The system's queue may have run over, and new folders may have been missed.
            self._must_reopen = True
            self._look_at_all()
            return
        now = time.monotonic()
        for change, changed in changes:
            path = self._as_named(changed)
            place = self._place_to_look_at(change, path)
            if place is None:
                continue
            self._due[place] = now
            if change is watchfiles.Change.added and os.path.isdir(place):  # noqa: PTH112
                # What came into a new folder before it was watched was not reported.
                self._stability.look_again[place] = now + LASTING_S

    def _as_named(self, path: str) -> str:
        """Spell a path as below its source: some systems tell it without links."""
        if any(is_at_or_below(path, root) for root in self._sources):
            return path
        for real, root in self._real.items():
            if is_at_or_below(path, real):
                return root + path[len(real) :]
        return path

    def _place_to_look_at(self, change: watchfiles.Change, path: str) -> str | None:
        """Find the narrowest path below which a change can matter; None if it cannot."""
        above = [root for root in self._sources if is_at_or_below(path, root)]
        if not above or any(is_at_or_below(path, place) for place in self._passed_over):
            return None
        root = max(above, key=len)
        if path == root:
            self._must_reopen = self._must_reopen or change is watchfiles.Change.deleted
            return root
        options = self._sources[root]
        directory, name = os.path.split(path)
        if name in {IGNORE_FILE_NAME, *LIBRARY_FILES}:
            return directory
        is_hidden = any(name.startswith(".") for name in names_below(root, path))
        # What is gone may have been a directory; sidecars are about the files beside them.
        is_sidecar = name.lower().endswith(SIDECAR_ENDINGS) or is_subtitle(name)
        may_matter = (
            change is watchfiles.Change.deleted
            or is_of_kinds(path, options.kinds)
            or is_sidecar
            or os.path.isdir(path)  # noqa: PTH112
        )
        if not may_matter or (is_hidden and not options.hidden):
            return None
        if is_subtitle(name):  # speech is written down again, where it is at all
            self._texts_wait = self._enrich is not None
        return directory if is_sidecar else path

    def _poll(self) -> None:
        now = time.monotonic()
        if self._is_up_to_date and self._polled and now >= self._next_poll:
            self._due.update((root, now) for root in self._polled if root not in self._gone)

    def _look(self) -> None:
        """Run over what is due."""
        now = time.monotonic()
        due = [path for path, at in self._due.items() if at <= now]
        if due:
            self._check_sources(at_once=True)
        if self._must_reopen:
            # Before the look, so that what changes during it is noticed.
            self._reopen()
        if now < self._not_before or not due or self._must_reopen:
            return
        taken = [
            path
            for path in due
            if self._due.pop(path, None) is not None and not self._stability.is_being_written(path)
        ]
        paths = narrowed(taken, self._there())
        if paths and not self._try(paths):
            for path in paths:
                self._due.setdefault(path, now)
        for path, at in self._stability.look_again.items():
            self._due.setdefault(path, at)
        self._stability.look_again.clear()

    def _there(self) -> dict[str, SourceOptions]:
        """Select the sources to look at: what was indexed from those that are gone stays."""
        return {root: options for root, options in self._sources.items() if root not in self._gone}

    def _try(self, paths: Sequence[str]) -> bool:
        """Run over some paths; False if that is to be done again."""
        self._stability.has_news = False
        start = time.monotonic()
        try:
            if self._remember:
                self._remember()
                self._remember = None
            summary = self._run(PartialScan(self._there(), paths, self._stability))
        except LibraryLockedError as error:
            self._put_off(_RETRY_LOCKED_S, Waiting(str(error)))
            return False
        except MMSearchError as error:
            self._put_off(_RETRY_FAILED_S, Trouble(str(error)))
            return False
        self._last_told = None
        now = time.monotonic()
        if not self._polled.isdisjoint(paths):
            # Polling must not keep a disk busy all the time.
            self._next_poll = now + max(self._poll_s, 3 * (now - start))
        did = summary.added or summary.changed or summary.moved or summary.removed > 0
        did = did or summary.refreshed
        self._texts_wait = self._enrich is not None and (self._texts_wait or bool(did))
        if did or (summary.failed and self._stability.has_news) or not self._is_up_to_date:
            self._tell(Updated(summary))
        if not self._is_up_to_date and not summary.interrupted:
            self._is_up_to_date = True
            self._tell(Watching(tuple(self._sources), tuple(sorted(self._polled))))
        return not summary.interrupted

    def _put_off(self, seconds: float, event: Waiting | Trouble) -> None:
        self._not_before = time.monotonic() + seconds
        # The reason to wait names the other process, as soon as that has left its name.
        is_same = isinstance(event, Waiting) and isinstance(self._last_told, Waiting)
        if not is_same and event != self._last_told:
            self._tell(event)
        self._last_told = event


def _is_unicode(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_empty_folder(path: str) -> bool:
    try:
        with os.scandir(path) as entries:
            return next(entries, None) is None
    except OSError:
        return False


def _why_no_notifications(error: OSError | RuntimeError) -> str:
    reason = str(error).rstrip(".")
    if "watch limit" in reason or "No space left" in reason:
        return (
            f"{reason}. The system allows too few watched folders: raise the limit with "
            "`sudo sysctl fs.inotify.max_user_watches=1048576`"
        )
    if "Too many open files" in reason:
        return (
            f"{reason}. The system allows too few watching programs: raise the limit with "
            "`sudo sysctl fs.inotify.max_user_instances=1024`"
        )
    return reason
