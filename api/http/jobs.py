"""Queue of background jobs: one runs at a time, the others wait."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from api.http.batching import NotReadyError, OverloadedError
from api.http.indexing_process import IndexingProcess, IndexingRequest, Outcome, Step
from api.http.schemas.jobs import FINAL_STATES, JobKind, JobState
from retrieval.errors import LibraryLockedError, MMSearchError, NotFoundError

_MOST_FINISHED = 100
"""Maximum number of finished jobs to keep."""
_MOST_WAITING = 50
_RETRY_S = 10
_IDLE_S = 60.0
"""Seconds that the idle process waits for the next job, which then need not start one."""
_LOCKED_RETRY_S = 1.0
"""Seconds until a job is tried again that met another process that writes to the library."""

LOCKED = "waiting for another process that writes to the library"
"""Stage of a job that is tried again."""

TextsWait = Callable[[], Awaitable[str | None]]
"""Names a task of the library that has not looked for texts in all that is indexed, or None."""

Finish = Callable[[Outcome], Awaitable[dict[str, Any]]]
"""Callback after a run; returns further fields of the job's result."""


class TooManyJobsError(OverloadedError):
    """The job queue is full."""

    def __init__(self) -> None:
        super().__init__(
            f"The job queue is full: {_MOST_WAITING} jobs are waiting. Retry later.", _RETRY_S
        )


class FinishedJobError(MMSearchError):
    """A job that cannot be cancelled, because it has finished."""


async def _no_texts_wait() -> str | None:
    return None


async def _nothing_more(_outcome: Outcome) -> dict[str, Any]:
    return {}


def new_job_id() -> str:
    """Generate the id of a job."""
    return secrets.token_urlsafe(12)


@dataclass
class Job:
    """A job and its state. Times are Unix timestamps in seconds.

    version: number of changes, from 1. result: counts, also of a cancelled job. error: reason of a
    failure.
    """

    id: str
    kind: JobKind
    request: IndexingRequest
    created_at: float
    finish: Finish = _nothing_more
    state: JobState = JobState.WAITING
    started_at: float | None = None
    finished_at: float | None = None
    is_cancelling: bool = False
    step: Step = field(default_factory=Step)
    result: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    version: int = 1
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_finished(self) -> bool:
        """Return whether the job has reached a final state."""
        return self.state in FINAL_STATES

    def change(self, **values: Any) -> None:
        """Set fields and notify all followers of the job."""
        for name, value in values.items():
            setattr(self, name, value)
        self.version += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def wait_for_change(self, limit_s: float) -> bool:
        """Wait up to `limit_s` seconds; return whether the job has changed."""
        try:
            await asyncio.wait_for(self._changed.wait(), limit_s)
        except TimeoutError:
            return False
        return True


class JobRunner:
    """Runs jobs one after another in a separate process; used on one event loop.

    After what was indexed, a job looks for texts in it. It waits for others, and gives way to one
    that comes while it runs.

    stopping: set when the service shuts down; followers stop waiting then.
    """

    def __init__(
        self,
        process: IndexingProcess,
        stopping: asyncio.Event,
        texts_wait: TextsWait = _no_texts_wait,
    ) -> None:
        self.process = process
        self._texts_wait = texts_wait
        self._stopping = stopping
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._has_work = asyncio.Event()
        self._work_task = asyncio.create_task(self._work())
        self._stop_task = asyncio.create_task(self._notify_followers())

    def submit(
        self,
        kind: JobKind,
        request: IndexingRequest,
        finish: Finish = _nothing_more,
        *,
        job_id: str | None = None,
        is_accepted: bool = False,
    ) -> Job:
        """Queue a job; an `index` job equal to a waiting one returns that one.

        job_id: id of the job; None: a new one. is_accepted: it goes on from an earlier service,
        so it is queued however many wait. Raises TooManyJobsError, and NotReadyError if the service
        is shutting down.
        """
        if kind is JobKind.INDEX:
            for job in self._waiting:
                if (job.kind, job.request) == (kind, request):
                    return job
        if self._stopping.is_set():
            raise NotReadyError("The service is shutting down.")
        if not is_accepted:
            self.require_room()
        job = Job(job_id or new_job_id(), kind, request, time.time(), finish)
        self._jobs[job.id] = job
        self._enqueue(job)
        self._forget_old_ones()
        self._has_work.set()
        return job

    async def find_texts(self) -> None:
        """Queue a job that looks for texts, if there is something to look at and none waits."""
        known = [*self._waiting, *([self._running] if self._running else [])]
        if any(job.kind is JobKind.TEXTS for job in known) or self._stopping.is_set():
            return
        try:
            task = await self._texts_wait()
        except MMSearchError as error:
            logging.getLogger("mmsearch").warning("no texts are looked for: %s", error)
            return
        if task is not None and not self._stopping.is_set():
            job = self.submit(JobKind.TEXTS, IndexingRequest(texts=True), is_accepted=True)
            job.change(step=Step(task))

    def _enqueue(self, job: Job) -> None:
        """Queue a job: before one that looks for texts, which ends its batch if it runs."""
        place = len(self._waiting)
        if job.kind is not JobKind.TEXTS:
            while place and self._waiting[place - 1].kind is JobKind.TEXTS:
                place -= 1
            if self._running is not None and self._running.kind is JobKind.TEXTS:
                self.process.cancel()
        self._waiting.insert(place, job)

    def require_room(self) -> None:
        """Raise TooManyJobsError if the queue is full."""
        if len(self._waiting) >= _MOST_WAITING:
            raise TooManyJobsError

    def find(self, job_id: str) -> Job | None:
        """Return a job by its id, or None."""
        return self._jobs.get(job_id)

    def job(self, job_id: str) -> Job:
        """Return a job by its id; raises NotFoundError."""
        if job_id not in self._jobs:
            raise NotFoundError(
                f"There is no job {job_id}. The last {_MOST_FINISHED} finished jobs are kept until "
                "the service ends."
            )
        return self._jobs[job_id]

    def jobs(self) -> list[Job]:
        """List the jobs, newest first."""
        return list(reversed(self._jobs.values()))

    def cancel(self, job_id: str) -> Job:
        """Cancel a job; a running one ends after its batch.

        Raises NotFoundError, FinishedJobError.
        """
        job = self.job(job_id)
        if job.is_finished:
            raise FinishedJobError(f"Job {job_id} has finished already: {job.state}.")
        if job is self._running:
            if not job.is_cancelling:
                job.change(is_cancelling=True)
                self.process.cancel()
        else:
            self._waiting.remove(job)
            job.change(state=JobState.CANCELLED, finished_at=time.time())
        return job

    async def follow(self, job: Job, heartbeat_s: float, seen: int = 0) -> AsyncIterator[bool]:
        """Yield True at each change of a job until it has finished, False at each heartbeat.

        seen: the last known version. Ends when the service shuts down.
        """
        while not self._stopping.is_set():
            if job.version != seen:
                seen = job.version
                yield True
                if job.is_finished:
                    return
            elif not await job.wait_for_change(heartbeat_s):
                yield False

    async def wait(self, job: Job, limit_s: float) -> None:
        """Wait until a job has finished, at most `limit_s` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                async for _ in self.follow(job, limit_s):
                    pass

    async def close(self, limit_s: float = 20.0) -> None:
        """Cancel all jobs and end the process; embedded items stay in the library.

        limit_s: time limit in seconds for the batch that is in progress.
        """
        self._stopping.set()
        self._has_work.set()
        await self.process.close(limit_s if self._running else 0)
        while not self._work_task.done():
            # The task was starting the process.
            await asyncio.wait([self._work_task], timeout=0.1)
            await self.process.close()
        await self._stop_task

    async def _notify_followers(self) -> None:
        await self._stopping.wait()
        for job in tuple(self._waiting):
            self.cancel(job.id)
        if self._running:
            self.cancel(self._running.id)
        self._has_work.set()
        for job in self._jobs.values():
            job.change()

    async def _work(self) -> None:
        while not self._stopping.is_set():
            if self._waiting:
                self._running = self._waiting.popleft()
                job = self._running
                await self._run(job)
                self._running = None
                if job.kind is not JobKind.TEXTS and job.state is JobState.SUCCEEDED:
                    await self.find_texts()
                continue
            self._has_work.clear()
            try:
                await asyncio.wait_for(self._has_work.wait(), _IDLE_S)
            except TimeoutError:
                await self.process.close()
                await self._has_work.wait()

    async def _run(self, job: Job) -> None:
        job.change(state=JobState.RUNNING, started_at=time.time())
        while not await self._try(job):
            job.change(step=Step(LOCKED))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _LOCKED_RETRY_S)
            if job.is_cancelling or self._stopping.is_set():
                job.change(state=JobState.CANCELLED, finished_at=time.time())
                return

    async def _try(self, job: Job) -> bool:
        """Run a job; return False if it is to be tried again, since another process writes."""
        try:
            outcome = await self.process.run(job.request, lambda step: job.change(step=step))
            result = outcome.counts | {"indices": outcome.indices, "problems": outcome.problems}
            result |= await job.finish(outcome)
            state = JobState.CANCELLED if outcome.is_interrupted else JobState.SUCCEEDED
            gives_way = job.kind is JobKind.TEXTS and outcome.is_interrupted
            if gives_way and not job.is_cancelling and not self._stopping.is_set():
                job.change(state=JobState.WAITING)
                self._waiting.append(job)
                return True
            job.change(state=state, result=result, finished_at=time.time())
        except LibraryLockedError as error:
            if not job.is_cancelling:
                return False
            job.change(state=JobState.CANCELLED, error=str(error), finished_at=time.time())
        except MMSearchError as error:
            was_ended = job.is_cancelling and self._stopping.is_set()
            state = JobState.CANCELLED if was_ended else JobState.FAILED
            job.change(state=state, error=str(error), finished_at=time.time())
        except Exception as error:
            logging.getLogger("mmsearch").exception("job failed", exc_info=error)
            reason = "The job failed unexpectedly; see the log of the service."
            job.change(state=JobState.FAILED, error=reason, finished_at=time.time())
        return True

    def _forget_old_ones(self) -> None:
        finished = [job for job in self._jobs.values() if job.is_finished]
        for job in finished[: max(0, len(finished) - _MOST_FINISHED)]:
            del self._jobs[job.id]
