"""Read -> batch -> encode -> commit: brings a library up to date with its sources."""

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import chain

from indexer.commit import Batch, commit
from indexer.decode import has_pages, read_metadata
from indexer.decoder_pool import DecoderPool
from indexer.encode import FileStep, read_options, read_step, ready, with_place
from indexer.left_out import advice_on_left_out, kinds_heard
from indexer.moved_sources import MoveOptions, Moves, advice_on_missing, follow_moves
from indexer.partial_scan import PartialScan
from indexer.progress import Progress, Summary
from indexer.scan import Comparison, Entry, FoundFile, PassedOver, compare, walk, why_kept
from indexer.sources import (
    Changes,
    SourceOptions,
    absolute,
    choose_sources,
    parse_changes,
    remember_sources,
    source_above,
)
from retrieval.catalog import Seen
from retrieval.catalog.paths import is_there
from retrieval.encoders.base import Encoder
from retrieval.encoders.modalities import kinds_of, modalities_of
from retrieval.errors import NotFoundError, UnreadableFileError
from retrieval.integrity.checksums import add_missing_checksums
from retrieval.lance.copies import require_own, writer_of_own
from retrieval.lance.library import as_table
from retrieval.library import Library
from retrieval.media import MediaKind, Metadata, Modality, metadata_notes
from retrieval.media.registry import TIFF, format_of_indexed
from retrieval.objects.paths import is_uri
from retrieval.recognition.base import Task

DEFAULT_BATCH_SIZE = 64
DEFAULT_LIMIT_S = 60.0
_LOOKED_UP_AT_ONCE = 256
_MOST_SEALED_BYTES = 128 << 20
"""Size of a catalog whose checksum is computed after each run, in a tenth of a second or so."""
_UNREACHED_NAMED = 3
_FILES_A_STEP = 8
"""How many files are read between two events of progress."""
_WEIGHT_OF_MANY_PIECES = 32
"""How many images a file of another kind counts as, in what is read ahead."""


def index_sources(
    library: Library,
    encoder: Encoder,
    paths: Sequence[str | os.PathLike[str]] = (),
    *,
    changes: Changes | None = None,
    partial: PartialScan | None = None,
    moves: MoveOptions | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    workers: int | None = None,
    readers: DecoderPool | None = None,
    limit_s: float = DEFAULT_LIMIT_S,
    max_pixels: int | None = None,
    retry_failed: bool = False,
    refresh_metadata: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Summary:
    """Make a library hold what is at some paths now, or at all its sources if none are given.

    Rows are written and flushed before the catalog names them, batch by batch: whatever ends the
    process, at most the batch in flight is lost, and the next call completes it. Files are read in
    worker processes; one that makes its process crash is recorded as failed.

    Args:
        library: the library to write to.
        encoder: the encoder of the space whose vectors are computed.
        paths: files and directories, which become sources; empty: all sources.
        changes: to the options of the paths' sources; options that they omit stay.
        partial: instead of paths and changes: the part of known sources to scan.
        moves: how to decide about sources that are not there any more, and whose files are now at
            the paths; None: by the files alone.
        batch_size: number of inputs that are encoded together.
        workers: number of decoder processes; None: by the number of cores.
        readers: a decoder pool to use instead and to leave open, with its number and time limit.
        limit_s: time limit of one read, in seconds; a file that takes longer has failed.
        max_pixels: limit of an image's pixels, which the sources remember; None: theirs, or
            `default_max_pixels`.
        retry_failed: also read files again that failed and have not changed.
        refresh_metadata: also read the metadata of unchanged files again, without embedding them:
            of those that an earlier version, or a run that was stopped, left; else of all.
        on_progress: called as files are done.
        should_stop: asked after each file; if true, the run commits what is in flight and ends.

    Returns:
        Counts of what was added, removed and failed.

    Raises:
        NotFoundError: a path does not exist.
        UsageError: the encoder's space was removed from the library; the options of moves
            contradict each other, or what is there.
        LibraryLockedError: another process is writing.
        LibraryError: the disk is full.
    """
    start = time.perf_counter()
    with writer_of_own(library):
        library.space(encoder.space.id)  # raises if it was removed meanwhile
        changes = {**(changes or {}), **parse_changes({"max_pixels": max_pixels})}
        add_missing_checksums(library, encoder.space)
        followed = Moves()
        if partial is None:
            followed = follow_moves(library, paths, changes, moves or MoveOptions())
        sources = dict(partial.sources) if partial else choose_sources(library, paths, changes)
        if partial is None:
            remember_sources(library, sources)
        on_progress(Progress(0, None))
        limit = readers.limit_s if readers else limit_s
        run = _Run(library, encoder, sources, batch_size, max_pixels, limit)
        run.summary.relocated, run.summary.notes = followed.files, [*followed.notes]
        if partial is None:
            run.summary.notes += [
                advice_on_missing(root)
                for root in sources
                if not is_there(root) and not any(root in note for note in followed.notes)
            ]
        comparison = run.compare(retry_failed, partial, refresh_metadata=refresh_metadata)
        total = len(comparison.to_read)
        done, is_stopping = 0, False
        report = _Report(on_progress, total, run.summary)
        count = workers or default_workers()
        with nullcontext(readers) if readers else DecoderPool(count, limit_s=limit_s) as pool:
            report.committed(done)
            files = comparison.to_read
            while files and not is_stopping:
                batch = Batch()
                with closing(run.read_ahead(pool, 2 * count, files)) as steps:
                    for step in steps:
                        batch.add(step)
                        done += step.next is None
                        report.read(done)
                        is_stopping = should_stop()
                        if is_stopping or batch.is_full(batch_size):
                            run.commit(batch)
                            batch = Batch()
                            report.committed(done)
                            is_stopping = is_stopping or should_stop()
                        if is_stopping:
                            break
                if batch.steps:
                    run.commit(batch)
                    report.committed(done)
                files = run.take_files_to_read_again()
                done -= len(files)
            run.summary.interrupted = done < total or not run.refresh(
                pool, on_progress, should_stop
            )
        _settle(library, is_complete=not run.summary.interrupted)
    if partial is None and not refresh_metadata:
        run.advise()
    run.summary.seconds = time.perf_counter() - start
    return run.summary


def _settle(library: Library, *, is_complete: bool) -> None:
    """End a run. is_complete: it found all that were moved, so that others are gone."""
    if is_complete:
        with library.catalog.transaction() as transaction:
            transaction.hand_over_to_copies()
    library.catalog.dialect.seal(most_bytes=_MOST_SEALED_BYTES)


def default_workers() -> int:
    """Processes that read files: one a core, since decoding fills what the encoder leaves."""
    return min(16, os.cpu_count() or 1)


def remove_paths(library: Library, paths: Sequence[str | os.PathLike[str]]) -> int:
    """Forget everything at or below some paths: sources, files, items. Files stay on the disk.

    Returns how many files were hidden. Raises NotFoundError, and removes nothing, when the library
    knows nothing at one of the paths.
    """
    if library.is_table:
        return as_table(library).remove([absolute(path) for path in paths])
    removed = 0
    with writer_of_own(library):
        with library.catalog.transaction() as transaction:
            for path in paths:
                root = absolute(path)
                known = [file.path for file in transaction.files_below([root], space_id="")]
                sources = transaction.remove_sources_below(root)
                if not known and not sources:
                    raise NotFoundError(
                        f"The library knows nothing at {root}; nothing was removed."
                    )
                removed += transaction.mark_removed(known)
            transaction.hand_over_to_copies()
        library.catalog.dialect.seal(most_bytes=_MOST_SEALED_BYTES)
    return removed


def hide_files(library: Library, paths: Sequence[str]) -> int:
    """Hide files from every search at once, also while another process indexes.

    Sources stay: the next run that finds the files shows them again, without reading them again.
    Returns how many were not hidden before. From a table they are deleted.
    Raises UsageError for a copy of a table, which takes what it holds from there.
    """
    if library.is_table:
        return as_table(library).remove(paths)
    require_own(library)
    with library.catalog.transaction() as transaction:
        return transaction.mark_removed(paths)


def _unreached(comparison: Comparison) -> list[str]:
    """Say which sources, or parts of them, could not be reached; a few are named."""
    of_servers = [failed for failed in comparison.unlisted if is_uri(failed.path)]
    of_servers += comparison.unreached
    notes = [
        f"{failed.path}: {failed.failure}; what was indexed from it stays."
        for failed in of_servers[:_UNREACHED_NAMED]
    ]
    if more := len(of_servers) - len(notes):
        notes.append(f"{more:,} more files or folders on servers could not be reached.")
    return notes


def _tallied(entries: Iterable[Entry], seen: Seen, *, takes_subtitles: bool) -> Iterator[Entry]:
    """Count in passing what a walk did not take in."""
    for entry in entries:
        if isinstance(entry, PassedOver):
            seen.endings.update(entry.endings)
            if not takes_subtitles:
                seen.endings.update(entry.subtitles)
            seen.system_folders.update(entry.folders)
        yield entry


@dataclass
class _Report:
    """Tells of progress: of files that are in the library, and of those read since."""

    _on_progress: Callable[[Progress], None]
    _total: int
    _summary: Summary
    _done: int = 0
    _told: int = 0

    def committed(self, done: int) -> None:
        self._done = done
        self._tell(done)

    def read(self, done: int) -> None:
        if done >= self._told + _FILES_A_STEP:
            self._tell(done)

    def _tell(self, read: int) -> None:
        self._told = read
        self._on_progress(Progress(min(self._done, read), self._total, self._summary.failed, read))


@dataclass
class _Run:
    """One run over some sources: what the steps of the pipeline share."""

    _library: Library
    _encoder: Encoder
    _sources: dict[str, SourceOptions]
    _batch_size: int
    _max_pixels: int | None
    _limit_s: float
    summary: Summary = field(default_factory=Summary)
    _comparison: Comparison = field(default_factory=Comparison)
    _to_read_again: list[FoundFile] = field(default_factory=list)

    def compare(
        self,
        retry_failed: bool,
        partial: PartialScan | None = None,
        *,
        refresh_metadata: bool = False,
    ) -> Comparison:
        """Walk the sources, or a part of them, and hide what is gone."""
        find = partial.walk if partial else walk
        takes_subtitles = Task.SPEECH in self._library.enrichment
        with self._library.catalog.snapshot() as snapshot:
            places = partial.paths if partial else list(self._sources)
            known = snapshot.files_below(places, self._encoder.space.id)
            seen = {root: Seen() for root in self._sources}
            found = chain.from_iterable(
                _tallied(find(root, options), seen[root], takes_subtitles=takes_subtitles)
                for root, options in self._sources.items()
            )
            comparison = compare(
                found,
                known,
                retry_failed=retry_failed,
                former_mounts=snapshot.seen().mounts,
                refresh_metadata=refresh_metadata,
                kinds=kinds_of(self._encoder.modalities) | kinds_heard(self._library),
            )
        if partial:
            comparison.to_read = [file for file in comparison.to_read if partial.is_ready(file)]
        with self._library.catalog.transaction() as transaction:
            self.summary.removed = transaction.mark_removed(comparison.gone)
            transaction.record_failures(comparison.unlisted)
            if partial is None:
                for path in comparison.mounts:
                    mounts = seen[source_above(path, list(seen))].mounts
                    mounts += [] if path in mounts else [path]
                transaction.record_seen(seen)
            if refresh_metadata:
                # A run that is stopped is continued by the next one.
                transaction.mark_old_metadata([file.path for file in comparison.to_refresh])
        self._comparison = comparison
        if partial is None:
            told = "\n".join(self.summary.notes)
            emptied = (path for path in comparison.emptied if path not in told)
            self.summary.notes += [f"{path} {why_kept(path)}" for path in emptied]
            self.summary.notes += advice_on_left_out(comparison.left_out, self._modalities())
        self.summary.notes += _unreached(comparison)
        joined = Seen.joined(one.to_json() for one in seen.values())
        self.summary.endings = dict(joined.endings)
        self.summary.system_folders = dict(joined.system_folders)
        self.summary.found = (
            len(comparison.to_read) + comparison.unchanged + comparison.still_failed
        )
        self.summary.unchanged = comparison.unchanged
        self.summary.failed = comparison.still_failed + len(comparison.unlisted)
        return comparison

    def _modalities(self) -> frozenset[Modality]:
        """Return what any encoder of the library takes."""
        spaces = map(self._library.space, self._library.space_ids())
        of_others = [modalities_of(space.encoder) for space in spaces if not space.is_given]
        return self._encoder.modalities.union(*of_others)

    def refresh(
        self,
        processes: DecoderPool,
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
    ) -> bool:
        """Read the metadata of files again that need not be embedded; False if it was stopped.

        Files that are out of reach are left for a later run.
        """
        files = list({file.path: file for file in self._comparison.to_refresh}.values())
        for start in range(0, len(files), _LOOKED_UP_AT_ONCE):
            if should_stop():
                return False
            on_progress(Progress(start, len(files), self.summary.failed))
            some = files[start : start + _LOOKED_UP_AT_ONCE]
            futures = [processes.submit(read_metadata, file.path, file.sidecars) for file in some]
            read: dict[str, tuple[Metadata, int | None] | None] = {}
            notes: dict[str, tuple[str, ...]] = {}
            for file, future in zip(some, futures, strict=True):
                try:
                    metadata, notes[file.path] = future.result()
                    read[file.path] = with_place(metadata), file.sidecars_state
                except UnreadableFileError as error:
                    read[file.path] = None
                    notes[file.path] = metadata_notes([f"could not be read again: {error}"])
                except OSError:
                    continue
            with self._library.catalog.transaction() as transaction:
                transaction.record_metadata(read, notes)
            self.summary.refreshed += len(read)
            self._find_pages(processes, some)
        return True

    def _find_pages(self, processes: DecoderPool, files: Sequence[FoundFile]) -> None:
        """Have TIFF files read again of which an earlier version took the first page alone."""
        with self._library.catalog.snapshot() as snapshot:
            whole = snapshot.images_without_parts(
                [file.path for file in files if format_of_indexed(file.path) is TIFF]
            )
        futures = {path: processes.submit(has_pages, path) for path in whole}
        paged = []
        for path, future in futures.items():
            with suppress(OSError, UnreadableFileError):
                paged += [path] if future.result() else []
        if paged:
            with self._library.catalog.transaction() as transaction:
                transaction.forget_embedded(paged)
            self.summary.notes.append(
                f"Of {len(paged):,} TIFF {'file' if len(paged) == 1 else 'files'} the first page "
                "alone was indexed: the next `mmsearch index` reads the others."
            )

    def advise(self) -> None:
        """Say once that this version reads more of files that an earlier one indexed."""
        with self._library.catalog.snapshot() as snapshot:
            count = snapshot.count_old_metadata()
            failed = len(snapshot.failures()) if count else 0
        if count:
            self.summary.notes.append(
                "This version reads more of what files say of themselves: dates, places, people, "
                f"keywords, ratings, and pages of TIFF files. `mmsearch index --refresh-metadata` "
                f"reads it of {count:,} indexed files, without embedding them again."
            )
            if failed:
                self.summary.notes.append(
                    f"It reads more damaged files, too: `mmsearch index --retry-failed` tries the "
                    f"{failed:,} that failed again."
                )
            with self._library.catalog.transaction() as transaction:
                transaction.mark_old_metadata()

    def read_ahead(
        self, processes: DecoderPool, threads_count: int, files: Sequence[FoundFile]
    ) -> Generator[FileStep, None, None]:
        """Read files in processes, a little ahead of the encoder, and give them in order.

        Threads wait for the processes, and make pictures ready for the encoder where the processes
        cannot.
        """
        window: deque[tuple[int, Future[FileStep]]] = deque()
        weight = 0
        limit = max(2 * self._batch_size, _WEIGHT_OF_MANY_PIECES)
        with ThreadPoolExecutor(threads_count, thread_name_prefix="read") as threads:
            try:
                for found, known in self._with_known_contents(files):
                    own = 1 if found.kind is MediaKind.IMAGE else _WEIGHT_OF_MANY_PIECES
                    window.append((own, threads.submit(self._read, processes, found, known)))
                    weight += own
                    while weight >= limit:
                        first, future = window.popleft()
                        weight -= first
                        yield from self._read_to_the_end(processes, threads, future.result())
                while window:
                    _, future = window.popleft()
                    yield from self._read_to_the_end(processes, threads, future.result())
            finally:
                threads.shutdown(wait=False, cancel_futures=True)

    def commit(self, batch: Batch) -> None:
        """Bring a batch into the library."""
        self._to_read_again += commit(
            self._library, self._encoder, batch, self._comparison, self.summary
        )

    def take_files_to_read_again(self) -> list[FoundFile]:
        """Files that a commit could not record; they are forgotten here."""
        files, self._to_read_again = self._to_read_again, []
        return files

    def _with_known_contents(
        self, files: Sequence[FoundFile]
    ) -> Iterator[tuple[FoundFile, frozenset[str]]]:
        """Give each file with the hashes that spare its reading: contents of its kind and size."""
        space_id = self._encoder.space.id
        for start in range(0, len(files), _LOOKED_UP_AT_ONCE):
            some = files[start : start + _LOOKED_UP_AT_ONCE]
            with self._library.catalog.snapshot() as snapshot:
                contents = snapshot.contents_of_size(space_id, [file.size for file in some])
            for file in some:
                hashes = {
                    content_hash
                    for kind, content_hash in contents.get(file.size, ())
                    # What a table says of images depends on where it lies.
                    if kind is file.kind and kind is not MediaKind.TABLE
                }
                before = self._comparison.known.get(file.path)
                if before and before.embedded and before.content_hash:
                    hashes.add(before.content_hash)
                yield file, frozenset(hashes)

    def _read(
        self,
        processes: DecoderPool,
        found: FoundFile,
        known: frozenset[str] = frozenset(),
        before: FileStep | None = None,
    ) -> FileStep:
        """Take the first step through a file, or the one after another step.

        known: content hashes that spare the reading.
        """
        source = self._sources[source_above(found.path, list(self._sources))]
        options = read_options(self._encoder, source, self._limit_s, self._max_pixels)
        return ready(read_step(processes, found, options, known, before), self._encoder)

    def _read_to_the_end(
        self, processes: DecoderPool, threads: ThreadPoolExecutor, step: FileStep
    ) -> Iterator[FileStep]:
        """Give a first step and the others through its file, of which one is read ahead."""
        while step.next is not None:
            future = threads.submit(self._read, processes, step.found, before=step)
            yield step
            step = future.result()
        yield step
