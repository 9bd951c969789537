"""One thread for the encoder: what arrives together is searched together, within bounds."""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar, cast

from api.http.metrics import ServiceMetrics
from api.http.middleware.disconnect import client_left
from retrieval.errors import MMSearchError
from retrieval.search.answer import Answer
from retrieval.search.query import Query, Reranking

_T = TypeVar("_T")

_LULL_S = 0.1
"""After so long without a search, nobody else is expected."""

_WAIT_SHARE = 0.5
"""Of the time that the last batch took, a search waits for company at most so much."""

_DEADLINE_SHARE = 0.8
"""Requests are refused when those before them are expected to take so much of their time."""

_PATIENCE_S = 0.25
"""Only of requests that take longer it is watched whether their clients are still there."""

_START_RETRY_S = 2
_MOST_RETRY_S = 60

_SMOOTHING = 0.2
"""Weight of the newest batch in the running mean of the time that a request takes."""

Outcome = Answer | MMSearchError
SearchMany = Callable[[Sequence[tuple[Query, Reranking]]], Sequence[Outcome]]


class RefusedError(MMSearchError):
    """A request that the service did not take on or gave up; it may be sent again.

    reason: a word for the metrics. retry_after_s: when to try again; None where waiting does not
    help.
    """

    reason = "refused"

    def __init__(self, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OverloadedError(RefusedError):
    """Too many requests are waiting."""

    reason = "overload"


class NotReadyError(RefusedError):
    """The service cannot search yet, or not any more."""

    reason = "not_ready"


class PastDeadlineError(RefusedError):
    """The request was not answered in time."""

    reason = "deadline"


class ClientGoneError(RefusedError):
    """The client closed its connection, so nobody waits for the answer."""

    reason = "disconnected"


class State(StrEnum):
    """How far the thread is."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    STOPPING = "stopping"


@dataclass(eq=False)
class _Job:
    """Something to do on the thread: a search to be joined with others, or else a call."""

    outcome: "asyncio.Future[Any]"
    deadline: float
    since: float
    request: tuple[Query, Reranking] | None = None
    call: Callable[[], Any] | None = None


class Inference:
    """The thread that encodes and searches, and the queue before it.

    search_many: answers several searches at once, each with an answer or an error of its own.
    max_batch: searches that go together at most. max_wait_s: how long one may wait for others.
    max_waiting: how many requests may wait; fewer, where so many would not be answered before their
    deadline at the pace of late. deadline_s: what one may take, waiting included.

    Its coroutines belong to the event loop that called `start`.
    """

    def __init__(
        self,
        search_many: SearchMany,
        metrics: ServiceMetrics,
        *,
        max_batch: int = 32,
        max_wait_s: float = 0.005,
        max_waiting: int = 256,
        deadline_s: float = 10.0,
    ) -> None:
        self.state = State.STARTING
        self.failure: Exception | None = None
        self._search_many = search_many
        self._metrics = metrics
        self._max_batch = max_batch
        self._max_wait_s = max_wait_s
        self._max_waiting = max_waiting
        self._deadline_s = deadline_s
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._wake_at = 1
        self._is_closed = False
        self._company = 1
        self._batch_s = 0.0
        self._idle_since = 0.0
        self._seconds_a_request = 0.0
        metrics.watch_queue(lambda: len(self._waiting))

    async def start(
        self, load: Callable[[], None], on_failed: Callable[[], None] = lambda: None
    ) -> "asyncio.Future[None]":
        """Start the thread with a call that makes searching possible; the future ends with it.

        on_failed: called in the event loop when `load` has raised, which `failure` then holds.
        """
        self._loop = asyncio.get_running_loop()
        loaded: asyncio.Future[None] = self._loop.create_future()

        def tell() -> None:
            if self.failure is not None:
                on_failed()
            if not loaded.done():
                loaded.set_result(None)

        def run() -> None:
            try:
                load()
            except Exception as error:  # noqa: BLE001 - told by `failure`
                self.failure = error
                self.state = State.FAILED
            else:
                if self.state is State.STARTING:
                    self.state = State.READY
            self._in_loop(tell)
            if self.failure is None:
                self._work()

        # A daemon: a search that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=run, name="inference", daemon=True)
        self._thread.start()
        return loaded

    async def search(self, query: Query, reranking: Reranking) -> Answer:
        """Answer one search; raises its error, or RefusedError."""
        answer = cast("Answer", await self._do(request=(query, reranking)))
        self._metrics.observe_stages(answer.timings_ms)
        return answer

    async def call(self, call: Callable[[], _T], *, deadline_s: float | None = None) -> _T:
        """Run a call on the thread; raises what it raises, or RefusedError."""
        return cast("_T", await self._do(call=call, deadline_s=deadline_s))

    @property
    def reason(self) -> str:
        """Why nothing is taken on, where `state` is not READY."""
        return _REASONS[self.state]

    def refuse_more(self) -> None:
        """Take no new requests; what is waiting is still answered. Safe in a signal handler."""
        self.state = State.STOPPING

    def close(self, timeout_s: float) -> None:
        """End the thread after what it does now, and wait for it for so long."""
        self.refuse_more()
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(timeout_s)

    async def _do(
        self,
        *,
        request: tuple[Query, Reranking] | None = None,
        call: Callable[[], Any] | None = None,
        deadline_s: float | None = None,
    ) -> Any:
        now = time.monotonic()
        deadline = now + (self._deadline_s if deadline_s is None else deadline_s)
        job = _Job(self._loop.create_future(), deadline, now, request, call)
        try:
            self._submit(job)
            await self._wait_for(job)
        except RefusedError as refusal:
            self._metrics.reject(refusal.reason)
            raise
        finally:
            self._withdraw(job)
        return job.outcome.result()

    def _submit(self, job: _Job) -> None:
        if self.state is not State.READY:
            raise NotReadyError(self.reason, _START_RETRY_S)
        with self._changed:
            waiting = len(self._waiting)
            expected_s = waiting * self._seconds_a_request
            # What could not be answered before its deadline would only keep others waiting.
            is_hopeless = expected_s > _DEADLINE_SHARE * (job.deadline - job.since)
            if waiting >= self._max_waiting or is_hopeless:
                raise OverloadedError(
                    f"{waiting:,} requests are waiting already.",
                    max(1, min(math.ceil(expected_s), _MOST_RETRY_S)),
                )
            self._waiting.append(job)
            if waiting + 1 >= self._wake_at:
                self._changed.notify()

    async def _wait_for(self, job: _Job) -> None:
        """Wait until a job is done; raise when its time is over or its client has left."""
        left = job.deadline - time.monotonic()
        done, _ = await asyncio.wait({job.outcome}, timeout=min(left, _PATIENCE_S))
        if done:
            return
        departure = asyncio.ensure_future(client_left())
        try:
            left = job.deadline - time.monotonic()
            await asyncio.wait(
                {job.outcome, departure}, timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            departure.cancel()
        if job.outcome.done():
            return
        if departure.done() and not departure.cancelled():
            raise ClientGoneError("The client has closed the connection.")
        raise PastDeadlineError(
            f"No answer within {job.deadline - job.since:g} s: the service has too much to do."
        )

    def _withdraw(self, job: _Job) -> None:
        if job.outcome.done() and not job.outcome.cancelled():
            return
        job.outcome.cancel()
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)

    def _work(self) -> None:
        while batch := self._next_batch():
            began = time.monotonic()
            self._metrics.observe_batch(len(batch), [began - job.since for job in batch])
            outcomes = [_run(batch[0].call)] if batch[0].call else self._search(batch)
            ended = time.monotonic()
            if batch[0].request:
                self._note_pace(len(batch), ended - began)
            with self._changed:
                self._company = len(batch) + len(self._waiting)
                self._batch_s = ended - began
                self._idle_since = ended
            # Last, so that whoever asks as soon as it has its answer meets the pace of that answer.
            self._in_loop(_settle, batch, outcomes)

    def _next_batch(self) -> list[_Job]:
        """Wait for work: a call, or searches that go together. Empty when there is no more."""
        with self._changed:
            while True:
                while not self._waiting:
                    if self._is_closed:
                        return []
                    self._changed.wait()
                self._await_company()
                batch = self._take()
                if batch:
                    return batch

    def _await_company(self) -> None:
        """Wait a little for searches that are likely to come: clients answered last ask again.

        A lone client is never kept waiting, since the last batch held nobody else.
        """
        first = self._waiting[0]
        if first.call or time.monotonic() - self._idle_since > _LULL_S:
            return
        expected = min(self._company, self._max_batch)
        wait_s = min(self._max_wait_s, self._batch_s * _WAIT_SHARE)
        until = max(self._idle_since, first.since) + wait_s
        self._wake_at = expected
        while 0 < len(self._waiting) < expected and not self._is_closed:
            left = until - time.monotonic()
            if left <= 0:
                break
            self._changed.wait(left)
        self._wake_at = 1

    def _take(self) -> list[_Job]:
        """Take the first job and, if it is a search, others; those past their time are dropped."""
        now = time.monotonic()
        batch: list[_Job] = []
        passed: list[_Job] = []
        while self._waiting and len(batch) < self._max_batch:
            job = self._waiting.popleft()
            if job.outcome.cancelled() or job.deadline <= now:
                continue
            if job.call is None:
                batch.append(job)
            elif batch:
                passed.append(job)
            else:
                batch.append(job)
                break
        self._waiting.extendleft(reversed(passed))
        return batch

    def _search(self, batch: list[_Job]) -> list[Any]:
        requests = [job.request for job in batch if job.request]
        try:
            return list(self._search_many(requests))
        except Exception as error:  # noqa: BLE001 - the one that caused it gets it
            if len(batch) == 1:
                return [error]
            return [outcome for job in batch for outcome in self._search([job])]

    def _note_pace(self, count: int, seconds: float) -> None:
        newest = seconds / count
        before = self._seconds_a_request or newest
        self._seconds_a_request = before + _SMOOTHING * (newest - before)

    def _in_loop(self, call: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop has ended; nobody waits any more
            self._loop.call_soon_threadsafe(call, *arguments)


_REASONS = {
    State.READY: "The service is ready.",
    State.STARTING: "The encoder is being loaded.",
    State.FAILED: "The encoder could not be loaded; see the log of the service.",
    State.STOPPING: "The service is about to end.",
}


def _run(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - handed to the caller
        return error


def _settle(batch: list[_Job], outcomes: list[Any]) -> None:
    for job, outcome in zip(batch, outcomes, strict=True):
        if job.outcome.done():
            continue
        if isinstance(outcome, Exception):
            job.outcome.set_exception(outcome)
        else:
            job.outcome.set_result(outcome)
