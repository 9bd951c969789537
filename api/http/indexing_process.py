"""Index in a separate process, so that indexing neither blocks nor crashes the service.

The service writes a JSON line for each run, or `cancel`; the process writes a JSON line for each
step and one at the end. It waits for further runs until the service writes `end`, which also ends
the current run after its batch. When the service has died, its input ends without that word, and it
ends at once: it holds the lock that the next service needs.
"""

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from api.printable import PrintableFormatter
from retrieval.errors import LibraryError, LibraryLockedError, MMSearchError

if TYPE_CHECKING:
    from indexer.decoder_pool import DecoderPool
    from indexer.enrichment.tasks import Recognizers
    from indexer.progress import Summary
    from retrieval.encoders.base import Encoder
    from retrieval.library import Library

_LINE_BYTES = 1 << 20
_BATCH_ON_CPU = 16
"""Inputs encoded together without a GPU, where more are no faster: progress, and new pictures on
the page, come once a batch."""
_NICENESS = 10
"""Gives priority to searches if cores are short."""
_NICENESS_OF_TEXTS = 19
_Runs = queue.SimpleQueue[tuple[dict[str, Any], threading.Event] | None]
"""Requested runs, each with the event that cancels it; None at the end."""
_PR_SET_PDEATHSIG = 1
_START = (
    "import sys; sys.path[:] = {path!r}; from api.http.indexing_process import serve; serve({pid})"
)


class IndexingFailedError(MMSearchError):
    """A run that failed; the message is the reason."""


@dataclass(frozen=True)
class IndexingRequest:
    """Absolute paths to index in one run.

    sources: indexed as by `mmsearch index PATH...`, and added to the sources. within: paths in
    known sources, where the same files are indexed as by a run over the whole source. Neither: all
    sources. retry_failed: also read files again that failed and have not changed. kinds, hidden:
    options that `sources` get; empty, None: those that they have. texts: index nothing, but let the
    library's models look for texts.
    """

    sources: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    retry_failed: bool = False
    kinds: tuple[str, ...] = ()
    hidden: bool | None = None
    texts: bool = False


@dataclass(frozen=True)
class Step:
    """Progress of a run. stage: `files`, a task that looks for texts, or one of building an index.

    total: None if unknown. failed: number of files that could not be read so far.
    """

    stage: str = "files"
    done: int = 0
    total: int | None = None
    failed: int = 0


@dataclass(frozen=True)
class Outcome:
    """Result of a run: counts of `indexer.progress.Summary`, built indices, and problems."""

    counts: dict[str, Any] = field(default_factory=dict)
    indices: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def is_interrupted(self) -> bool:
        """Return whether the run was cancelled before it had finished."""
        return bool(self.counts.get("interrupted"))


class IndexingProcess:
    """Service side: one process, one run at a time; used on one event loop."""

    def __init__(self, library: Path, space_id: str, device: str) -> None:
        self._setting = {"library": os.fspath(library), "space": space_id, "device": device}
        self._process: asyncio.subprocess.Process | None = None
        self._is_cancelled = False

    @property
    def pid(self) -> int | None:
        """Process id; None if no process runs."""
        return self._process.pid if self._process else None

    async def run(self, request: IndexingRequest, on_step: Callable[[Step], None]) -> Outcome:
        """Run a request, and start the process if it does not run yet.

        Raises LibraryLockedError while another process writes to the library, IndexingFailedError
        if the run fails or the process dies; items embedded by then stay in the library.
        """
        self._is_cancelled = False
        process = await self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(ConnectionError):  # its death is seen below
            process.stdin.write(_line({"run": asdict(request) | self._setting}))
            if self._is_cancelled:  # while the process was started
                self.cancel()
            await process.stdin.drain()
        while line := await process.stdout.readline():
            message = json.loads(line)
            if "step" in message:
                on_step(Step(**message["step"]))
            elif "locked" in message:
                raise LibraryLockedError(message["locked"])
            elif "error" in message:
                raise IndexingFailedError(message["error"])
            else:
                return Outcome(**message["outcome"])
        code = await process.wait()
        self._process = None
        cause = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        raise IndexingFailedError(
            f"The indexing process {cause}{' (out of memory?)' if code == -9 else ''}. Items "
            "embedded before are in the library; the next run continues from there."
        )

    def cancel(self) -> None:
        """End the run after its current batch."""
        self._is_cancelled = True
        if self._process and self._process.stdin:
            with contextlib.suppress(ConnectionError):
                self._process.stdin.write(_line({"cancel": True}))

    async def close(self, limit_s: float = 0.0) -> None:
        """End the process after its current batch, or kill it after `limit_s` seconds."""
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        with contextlib.suppress(ConnectionError):
            process.stdin.write(_line({"end": True}))
        process.stdin.close()
        try:
            async with asyncio.timeout(limit_s):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                f"-Xutf8={sys.flags.utf8_mode}",
                "-c",
                _START.format(path=sys.path, pid=os.getpid()),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_LINE_BYTES,
                # Ctrl-C goes to the whole process group of a terminal; the service decides instead.
                # uvloop, which servers choose where it is installed, knows no `process_group`.
                start_new_session=True,
            )
        except OSError as error:
            raise IndexingFailedError(
                f"The indexing process cannot be started: {error}."
            ) from error
        return self._process


def serve(service_pid: int) -> None:
    """Run requests from standard input: the main function of the process.

    service_pid: id of the process of the service, with which this one ends.
    """
    _end_with(service_pid)
    replies = _take_output()
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("%(levelname)s:     %(message)s"))
    logging.getLogger().addHandler(handler)
    with contextlib.suppress(OSError, AttributeError):
        os.nice(_NICENESS)
    runs: _Runs = queue.SimpleQueue()
    # On another thread, so that a run can be cancelled.
    threading.Thread(target=_listen, args=(runs,), daemon=True).start()
    indexing = _Indexing(replies)
    with contextlib.suppress(BrokenPipeError):  # the service has ended
        while (asked := runs.get()) is not None:
            indexing.answer(*asked)
    indexing.close()


class _Indexing:
    """Runs requests, with an encoder and decoder processes that are reused."""

    def __init__(self, replies: TextIO) -> None:
        self._replies = replies
        self._library: Library | None = None
        self._encoder: Encoder | None = None
        self._other_encoders: list[Encoder] = []
        self._readers: DecoderPool | None = None
        self._recognizers: Recognizers | None = None

    def answer(self, run: dict[str, Any], stop: threading.Event) -> None:
        request = IndexingRequest(
            tuple(run["sources"]),
            tuple(run["within"]),
            run["retry_failed"],
            tuple(run["kinds"]),
            run["hidden"],
            run["texts"],
        )
        try:
            if request.texts:
                outcome = _at_low_priority(lambda: self._find_texts(run, stop.is_set))
            else:
                outcome = self._run(request, run, stop.is_set)
            self._send({"outcome": asdict(outcome)})
        except LibraryLockedError as error:
            self._send({"locked": str(error)})
        except MMSearchError as error:
            self._send({"error": str(error)})
        except BrokenPipeError:
            raise
        except Exception:
            logging.getLogger("mmsearch").exception("indexing failed")
            self._send({"error": "Indexing failed unexpectedly; see the log of the service."})

    def close(self) -> None:
        if self._readers:
            self._readers.close()

    def _run(
        self, request: IndexingRequest, setting: dict[str, str], should_stop: Callable[[], bool]
    ) -> Outcome:
        from api.http.schemas import valid_text
        from indexer.decoder_pool import DecoderPool
        from indexer.partial_scan import PartialScan, narrowed
        from indexer.pipeline import DEFAULT_BATCH_SIZE, default_workers, index_sources
        from indexer.progress import Progress
        from indexer.sources import choose_sources, parse_changes
        from indexer.spaces import index_spaces
        from retrieval.encoders.registry import resolve_device

        library, encoder = self._opened(setting)
        self._readers = self._readers or DecoderPool(default_workers())

        chosen = {"kinds": request.kinds or None, "hidden": request.hidden}
        changes = parse_changes(chosen) if request.sources else None
        is_on_cpu = resolve_device(setting["device"]) == "cpu"
        batch_size = _BATCH_ON_CPU if is_on_cpu else DEFAULT_BATCH_SIZE

        def tell(progress: Progress) -> None:
            self._step(Step("files", progress.done, progress.total, progress.failed))

        def index(
            encoder: "Encoder", paths: Sequence[str] = (), partial: PartialScan | None = None
        ) -> "Summary":
            return index_sources(
                library,
                encoder,
                paths,
                changes=changes if paths else None,
                partial=partial,
                batch_size=batch_size,
                readers=self._readers,
                retry_failed=request.retry_failed,
                on_progress=tell,
                should_stop=should_stop,
            )

        def index_all(encoder: "Encoder") -> "Summary":
            summaries = []
            if request.sources or not request.within:
                summaries.append(index(encoder, request.sources))
            if request.within and not should_stop():
                known = choose_sources(library, ())
                paths = narrowed(request.within, known)
                summaries.append(index(encoder, partial=PartialScan(known, paths)))
            return _total(summaries)

        outcome = Outcome()
        for run in index_spaces([encoder, *self._others(library, setting)], index_all):
            if not outcome.counts:
                notes = [valid_text(note) for note in run.summary.notes]
                outcome.counts.update(vars(run.summary) | {"notes": notes})
            else:
                outcome.counts["embedded"] += run.summary.embedded
                outcome.counts["interrupted"] |= run.summary.interrupted
            if run.problem:
                outcome.problems.append(f"A space was left behind: {run.problem}")
            elif not should_stop():
                self._build_due_indices(library, run.encoder, should_stop, outcome)
        return outcome

    def _find_texts(self, setting: dict[str, str], should_stop: Callable[[], bool]) -> Outcome:
        """Let the library's models look for texts in what is indexed."""
        from indexer.enrichment.tasks import Recognizers, enrich_library
        from indexer.progress import Progress, Summary
        from retrieval.recognition.base import Task

        library, encoder = self._opened(setting)
        encoders = [encoder, *self._others(library, setting)]
        self._recognizers = self._recognizers or Recognizers()

        def tell(task: Task, progress: Progress) -> None:
            self._step(Step(str(task), progress.done, progress.total, progress.failed))

        done = enrich_library(
            library,
            encoders,
            self._recognizers,
            workers=1,
            on_progress=tell,
            should_stop=should_stop,
        )
        summary = Summary(
            seconds=sum(one.seconds for one in done),
            interrupted=any(one.interrupted for one in done),
        )
        outcome = Outcome(vars(summary))
        outcome.counts["texts"] = [
            {"task": str(one.task)}
            | {name: getattr(one, name) for name in ("looked_at", "with_text", "failed")}
            for one in done
        ]
        outcome.problems.extend(f"{one.task}: {one.problem}" for one in done if one.problem)
        if not summary.interrupted and any(one.passages for one in done):
            for one in encoders:
                self._build_due_indices(library, one, should_stop, outcome)
        return outcome

    def _opened(self, setting: dict[str, str]) -> "tuple[Library, Encoder]":
        from retrieval.encoders.deferred import deferred_encoder
        from retrieval.library import open_library

        if self._library is None or self._encoder is None:
            library = open_library(setting["library"], upgrade=True)
            self._library = library
            space = library.space(setting["space"])
            self._encoder = deferred_encoder(library, space, setting["device"])
        return self._library, self._encoder

    def _others(self, library: "Library", setting: dict[str, str]) -> "list[Encoder]":
        """Return the encoders of the other spaces, loaded once and when first needed."""
        from api.cli.open_library import other_encoders

        known = {encoder.space.id: encoder for encoder in self._other_encoders}
        others = other_encoders(library, setting["space"], setting["device"])
        self._other_encoders = [known.get(other.space.id, other) for other in others]
        return self._other_encoders

    def _build_due_indices(
        self,
        library: "Library",
        encoder: "Encoder",
        should_stop: Callable[[], bool],
        outcome: Outcome,
    ) -> None:
        """Build the indices that are due; failures are reported as problems."""
        from retrieval.indices.maintenance import build_index, needs_rebuild

        for modality in needs_rebuild(library, encoder.space):
            try:
                generation = build_index(
                    library,
                    modality,
                    lambda: encoder,
                    encoder.space,
                    on_progress=lambda stage, done, total: self._step(Step(stage, done, total)),
                    should_stop=should_stop,
                )
            except LibraryError as error:
                outcome.problems.append(f"The index was not built: {error}")
                continue
            if generation is not None:
                built = f"{generation.rows:,} {modality}s: {generation.kind}"
                outcome.indices.append(built)

    def _step(self, step: Step) -> None:
        self._send({"step": asdict(step)})

    def _send(self, message: dict[str, Any]) -> None:
        print(json.dumps(message), file=self._replies, flush=True)


def _at_low_priority(work: Callable[[], Outcome]) -> Outcome:
    """Run something in a thread that leaves the cores to all else, where a thread can."""

    def lower() -> None:
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS_OF_TEXTS)

    with ThreadPoolExecutor(1, thread_name_prefix="texts", initializer=lower) as thread:
        return thread.submit(work).result()


def _total(summaries: "Sequence[Summary]") -> "Summary":
    """Add up the counts of all runs, and collect their notes."""
    from indexer.progress import Summary

    totals: dict[str, Any] = {}
    for summary in summaries:
        for name, value in vars(summary).items():
            # What the walks passed over is the same for all spaces.
            adds = name in totals and not isinstance(value, dict)
            totals[name] = totals[name] + value if adds else value
    return Summary(**totals | {"interrupted": bool(totals["interrupted"])})


def _listen(runs: _Runs) -> None:
    stop = threading.Event()
    for line in sys.stdin:
        message = json.loads(line)
        if "run" in message:
            stop = threading.Event()
            runs.put((message["run"], stop))
            continue
        stop.set()
        if "end" in message:
            runs.put(None)
            return
    os._exit(1)  # the service has died; what is committed is kept


def _end_with(service_pid: int) -> None:
    """Let Linux end this process with that of the service, also while native code runs."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != service_pid:
            os._exit(1)  # it had died before


def _take_output() -> TextIO:
    """Take over the pipe of standard output, so that nothing else can print to it."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return replies


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"
