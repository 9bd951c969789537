"""Bring a library in a Lance table up to date with its sources, on the machines of a cluster."""

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain

from indexer.cluster.connection import Resources
from indexer.cluster.pipeline import Plan, measure_first, plan_job, run
from indexer.cluster.recording import KnownFiles, Recorder, Steps
from indexer.cluster.stages import FileToRead, NumberedStep, Task
from indexer.encode import EncodedStep, read_options
from indexer.left_out import advice_on_left_out
from indexer.moved_sources import advice_on_missing
from indexer.progress import Progress, Summary
from indexer.scan import Comparison, Entry, FoundFile, PassedOver, compare, walk, why_kept
from indexer.sources import Changes, SourceOptions, choose_among, parse_changes, source_above
from retrieval.catalog import Seen
from retrieval.catalog.paths import is_at_or_below, is_there
from retrieval.encoders.base import Encoder
from retrieval.encoders.modalities import kinds_of
from retrieval.lance.table import LanceTable
from retrieval.objects.paths import is_uri
from retrieval.objects.trust import is_trusted_uri

DEFAULT_LIMIT_S = 60.0
ROWS_A_COMMIT = 50_000
SECONDS_A_COMMIT = 20.0


@dataclass(frozen=True)
class JobOptions:
    """How a job works.

    batch_size, readers, encoders: None: by measurement. device: of encoders; auto: GPUs if the
    cluster has any. limit_s: time limit of one read. max_pixels: limit of an image's pixels; None:
    that of its source. retry_failed: also read files again that failed and have not changed.
    """

    batch_size: int | None = None
    readers: int | None = None
    encoders: int | None = None
    device: str = "auto"
    limit_s: float = DEFAULT_LIMIT_S
    max_pixels: int | None = None
    retry_failed: bool = False


def index_on_cluster(
    table: LanceTable,
    encoder: Encoder,
    paths: Sequence[str | os.PathLike[str]],
    resources: Resources,
    *,
    changes: Changes | None = None,
    options: JobOptions | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_note: Callable[[str], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Summary:
    """Make a table hold what is at some paths now, or at all its sources if none are given.

    This process lists the sources and writes the table; all else happens on the cluster, which it
    is connected to. What is recorded is committed every 20 seconds: whatever ends the process loses
    at most what came since, and the next call completes it. Two jobs at once do the work twice,
    but leave each item once.

    Args:
        table: the table to write to.
        encoder: the encoder of its space; only its way of reading is used here.
        paths: files and directories, which all nodes see at the same place, and which become
            sources; empty: all sources.
        resources: of the cluster.
        changes: to the options of the paths' sources; options that they omit stay.
        options: how the job works.
        on_progress: called as files are done.
        on_note: called with what the user should know of the run.
        should_stop: asked between batches; if true, what is done is committed and the job ended.

    Returns:
        Counts of what was added, removed and failed.

    Raises:
        NotFoundError: a path does not exist.
        ClusterError: the cluster is too small, or fails.
        LibraryError: the table cannot be written.
    """
    began = time.perf_counter()
    table.require_space(encoder.space)
    options = options or JobOptions()
    changes = {**(changes or {}), **parse_changes({"max_pixels": options.max_pixels})}
    sources = choose_among(table.sources, paths, changes)
    table.set_sources({**table.sources, **{root: one.to_json() for root, one in sources.items()}})
    on_progress(Progress(0, None))
    job = _Job(table, encoder, sources, resources, options, on_progress, on_note, should_stop)
    job.run()
    job.summary.seconds = time.perf_counter() - began
    return job.summary


@dataclass
class _Job:
    _table: LanceTable
    _encoder: Encoder
    _sources: dict[str, SourceOptions]
    _resources: Resources
    _options: JobOptions
    _on_progress: Callable[[Progress], None]
    _on_note: Callable[[str], None]
    _should_stop: Callable[[], bool]
    summary: Summary = field(default_factory=Summary)
    _plan: Plan | None = None
    _read: int = 0
    _recorded: int = 0
    _total: int = 0

    def run(self) -> None:
        self.summary.notes += [
            advice_on_missing(root) for root in self._sources if not is_there(root)
        ]
        known = KnownFiles.of(self._table)
        comparison = self._compare(known)
        recorder = Recorder(self._table, list(self._table.sources), comparison, self.summary)
        recorder.record_unlisted()
        refreshed = {file.path for file in comparison.to_refresh}
        found = [*comparison.to_read, *comparison.to_refresh]
        files = [
            self._to_read(one, frozenset() if one.path in refreshed else known.hashes_for(one))
            for one in found
        ]
        self._total = len(files)
        self._on_progress(Progress(0, self._total, self.summary.failed))
        while files and not self.summary.interrupted:
            self._resources.require_enough()
            again = self._record_all(files, recorder)
            files = [self._to_read(one) for one in again]
        if not self.summary.interrupted:
            recorder.finish()
        if recorder.has_written:
            self._table.create_indices()

    def _compare(self, known: KnownFiles) -> Comparison:
        seen = Seen()
        roots = list(self._sources)
        found = chain.from_iterable(
            _tallied(walk(root, options), seen) for root, options in self._sources.items()
        )
        below = [
            file
            for path, file in known.by_path.items()
            if any(is_at_or_below(path, root) for root in roots)
        ]
        modalities = self._encoder.modalities
        comparison = compare(
            found, below, retry_failed=self._options.retry_failed, kinds=kinds_of(modalities)
        )
        summary = self.summary
        summary.notes += advice_on_left_out(comparison.left_out, modalities)
        comparison.known.update(
            (file.path, known.by_path[file.path]) for file in comparison.to_refresh
        )
        summary.notes += [f"{path} {why_kept(path)}" for path in comparison.emptied]
        summary.endings, summary.system_folders = dict(seen.endings), dict(seen.system_folders)
        summary.unchanged = comparison.unchanged - len(comparison.to_refresh)
        summary.found = len(comparison.to_read) + comparison.unchanged + comparison.still_failed
        summary.failed = comparison.still_failed + len(comparison.unlisted)
        return comparison

    def _to_read(self, found: FoundFile, known: frozenset[str] = frozenset()) -> FileToRead:
        return FileToRead(found, source_above(found.path, list(self._sources)), known)

    def _record_all(self, files: Sequence[FileToRead], recorder: Recorder) -> list[FoundFile]:
        """Read, encode and record files; returns those to be read again."""
        steps = Steps()
        waiting: list[list[EncodedStep]] = []
        again: list[FoundFile] = []
        pending: Future[list[FoundFile]] | None = None
        committed_at = time.monotonic()

        # The table is written while the cluster goes on.
        with ThreadPoolExecutor(1, thread_name_prefix="recording") as writer:

            def commit() -> Future[list[FoundFile]]:
                nonlocal waiting, committed_at
                if pending is not None:
                    self._finish_commit(pending, again)
                batch, waiting, committed_at = waiting, [], time.monotonic()
                return writer.submit(self._commit, recorder, batch)

            with closing(self._steps(files)) as batches:
                for batch in batches:
                    whole = steps.add(batch)
                    waiting += whole
                    self._read += len(whole)
                    self._tell()
                    rows = sum(len(step.pieces) for of_file in waiting for step in of_file)
                    is_due = time.monotonic() - committed_at > SECONDS_A_COMMIT
                    if waiting and (is_due or rows >= ROWS_A_COMMIT):
                        pending = commit()
                    if self._should_stop():
                        self.summary.interrupted = True
                        break
            if waiting:
                pending = commit()
            if pending is not None:
                self._finish_commit(pending, again)
        self._read -= len(again)
        self._recorded -= len(again)
        return again

    def _commit(self, recorder: Recorder, files: list[list[EncodedStep]]) -> list[FoundFile]:
        again = recorder.record(files)
        self._recorded += len(files)
        return again

    def _finish_commit(self, pending: Future[list[FoundFile]], again: list[FoundFile]) -> None:
        again += pending.result()
        self._tell()

    def _tell(self) -> None:
        self._on_progress(
            Progress(self._recorded, self._total, self.summary.failed, max(self._read, 0))
        )

    def _steps(self, files: Sequence[FileToRead]) -> Generator[list[NumberedStep]]:
        """Give the steps through files: those of the first as they are measured."""
        uses_gpu = self._resources.gpus > 0 and self._options.device != "cpu"
        device = self._options.device if self._options.device != "auto" else "cpu"
        task = Task(
            self._encoder.space,
            {
                root: read_options(
                    self._encoder, source, self._options.limit_s, self._options.max_pixels
                )
                for root, source in self._sources.items()
            },
            self._options.limit_s,
            "cuda" if uses_gpu else device,
            trusted=tuple(root for root in self._sources if is_uri(root) and is_trusted_uri(root)),
        )
        if self._plan is None:
            measured = measure_first(
                files,
                task,
                uses_gpu=uses_gpu,
                batch_size=self._options.batch_size,
                on_note=self._on_note,
                should_stop=self._should_stop,
            )
            if measured is None:
                self.summary.interrupted = True
                return
            yield list(measured.steps)
            done = set(measured.paths)
            files = [file for file in files if file.found.path not in done]
            self._plan = plan_job(
                self._resources,
                measured,
                uses_gpu=uses_gpu,
                left=len(files),
                encoders=self._options.encoders,
                readers=self._options.readers,
            )
            if files:
                self._on_note(f"Cluster: {self._resources}. {' '.join(self._plan.reasons)}")
        if files:
            yield from run(files, task, self._plan)


def _tallied(entries: Iterator[Entry], seen: Seen) -> Iterator[Entry]:
    """Count in passing what a walk did not take in."""
    for entry in entries:
        if isinstance(entry, PassedOver):
            seen.endings.update(entry.endings)
            seen.system_folders.update(entry.folders)
        yield entry
