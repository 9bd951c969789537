"""Dynamic batching: one inference thread, a bounded queue, deadlines and load shedding."""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar, cast

from api.http.metrics import ServiceMetrics
from api.http.middleware.disconnect import client_left
from retrieval.errors import MMSearchError
from retrieval.search.answer import Answer
from retrieval.search.joint import Asked
from retrieval.search.query import Reranking

_T = TypeVar("_T")

_LULL_S = 0.1
"""Idle time in seconds after which no concurrent search is expected."""

_WAIT_SHARE = 0.5
"""Maximum wait for a batch, as a share of the time that the last batch took."""

_DEADLINE_SHARE = 0.8
"""Refuse requests whose expected time in the queue exceeds this share of their deadline."""

_PATIENCE_S = 0.25
"""Seconds after which a waiting request begins to watch for a disconnect of its client."""

_IDLE_S = 1.0
"""Seconds without a request after which work that nobody waits for may begin."""

_START_RETRY_S = 2
_MOST_RETRY_S = 60

_SMOOTHING = 0.2
"""Weight of the newest batch in the moving average of the time per request."""

Outcome = Answer | MMSearchError
SearchMany = Callable[[Sequence[tuple[Asked, Reranking]]], Sequence[Outcome]]


class RefusedError(MMSearchError):
    """A request that was rejected or timed out, and may be retried.

    reason: label of the metrics. retry_after_s: seconds to wait before a retry; None if waiting
    does not help.
    """

    reason = "refused"

    def __init__(self, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class OverloadedError(RefusedError):
    """The queue is full."""

    reason = "overload"


class NotReadyError(RefusedError):
    """The service is starting or shutting down."""

    reason = "not_ready"


class NoLibraryError(NotReadyError):
    """There is no library yet."""

    reason = "no_library"


class PastDeadlineError(RefusedError):
    """The request missed its deadline."""

    reason = "deadline"


class ClientGoneError(RefusedError):
    """The client closed its connection."""

    reason = "disconnected"


class State(StrEnum):
    """State of the inference thread."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"
    STOPPING = "stopping"


@dataclass(eq=False)
class _Job:
    """A job of the thread: a search, which can be batched, or a call."""

    outcome: "asyncio.Future[Any]"
    deadline: float
    since: float
    request: tuple[Asked, Reranking] | None = None
    call: Callable[[], Any] | None = None


class Inference:
    """The thread that encodes and searches, with its queue.

    Its coroutines belong to the event loop that called `start`.

    Args:
        search_many: Answers a batch of searches, each with an answer or an error.
        metrics: Metrics of the service.
        max_batch: Maximum number of searches in a batch.
        max_wait_s: Maximum time in seconds that a search waits for others to form a batch.
        max_waiting: Maximum queue length; shorter if that many requests would miss their
            deadlines at the recent throughput.
        deadline_s: Time limit per request in seconds, with the wait in the queue.
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
        self._idle_calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._changed = threading.Condition()
        self._wake_at = 1
        self._is_closed = False
        self._last_concurrency = 1
        self._batch_s = 0.0
        self._idle_since = 0.0
        self._seconds_a_request = 0.0
        metrics.watch_queue(lambda: len(self._waiting))

    async def start(
        self, load: Callable[[], None], on_failed: Callable[[], None] = lambda: None
    ) -> "asyncio.Future[None]":
        """Start the thread, which calls `load` first; the future completes when that has ended.

        on_failed: called in the event loop if `load` raised; `failure` holds the exception.
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
            except Exception as error:  # noqa: BLE001 - reported by `failure`
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

    async def search(self, query: Asked, reranking: Reranking) -> Answer:
        """Run one search; raises its error, or RefusedError."""
        answer = cast("Answer", await self._do(request=(query, reranking)))
        self._metrics.observe_stages(answer.timings_ms)
        return answer

    async def call(self, call: Callable[[], _T], *, deadline_s: float | None = None) -> _T:
        """Run a call on the thread; raises what it raises, or RefusedError."""
        return cast("_T", await self._do(call=call, deadline_s=deadline_s))

    def when_idle(self, call: Callable[[], _T]) -> "Future[_T]":
        """Run a short call on the thread after a while without a request; from any thread.

        It is cancelled if the thread ends before.
        """
        future: Future[_T] = Future()
        with self._changed:
            if self._is_closed or self.state is not State.READY:
                future.cancel()
            else:
                self._idle_calls.append((call, future))
                self._changed.notify()
        return future

    def wait_until_idle(self) -> None:
        """Wait for a while without a request; raises CancelledError if the thread ends before."""
        self.when_idle(lambda: None).result()

    @property
    def reason(self) -> str:
        """Reason why requests are refused, if `state` is not READY."""
        return _REASONS[self.state]

    def refuse_more(self) -> None:
        """Refuse new requests; waiting ones are still answered. Safe in a signal handler."""
        self.state = State.STOPPING

    def close(self, timeout_s: float) -> None:
        """End the thread after its current batch, and wait for it up to `timeout_s` seconds."""
        self.refuse_more()
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(timeout_s)

    async def _do(
        self,
        *,
        request: tuple[Asked, Reranking] | None = None,
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
            # A request that would miss its deadline would only delay the others.
            is_hopeless = expected_s > _DEADLINE_SHARE * (job.deadline - job.since)
            if waiting >= self._max_waiting or is_hopeless:
                raise OverloadedError(
                    f"The queue is full: {waiting:,} requests are waiting.",
                    max(1, min(math.ceil(expected_s), _MOST_RETRY_S)),
                )
            self._waiting.append(job)
            if waiting + 1 >= self._wake_at:
                self._changed.notify()

    async def _wait_for(self, job: _Job) -> None:
        """Wait for a job; raise if it misses its deadline or its client disconnects."""
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
            f"Not answered within {job.deadline - job.since:g} s: the service is overloaded."
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
                self._update_throughput(len(batch), ended - began)
            with self._changed:
                self._last_concurrency = len(batch) + len(self._waiting)
                self._batch_s = ended - began
                self._idle_since = ended
            # Last, so that a client that asks again at once is judged by the updated throughput.
            self._in_loop(_settle, batch, outcomes)

    def _next_batch(self) -> list[_Job]:
        """Wait for the next call or batch of searches. Empty after `close`."""
        with self._changed:
            while True:
                while not self._waiting:
                    if self._is_closed:
                        self._cancel_idle_calls()
                        return []
                    left = self._idle_since + _IDLE_S - time.monotonic()
                    if self._idle_calls and left <= 0:
                        self._run_idle_call()
                    else:
                        self._changed.wait(left if self._idle_calls else None)
                self._await_batch()
                batch = self._take()
                if batch:
                    return batch

    def _run_idle_call(self) -> None:
        """Run the next call that nobody waits for; requests may come meanwhile."""
        call, future = self._idle_calls.popleft()
        self._changed.release()
        try:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except Exception as error:  # noqa: BLE001 - handed to the caller
                    future.set_exception(error)
        finally:
            self._changed.acquire()

    def _cancel_idle_calls(self) -> None:
        while self._idle_calls:
            self._idle_calls.popleft()[1].cancel()

    def _await_batch(self) -> None:
        """Wait briefly for as many searches as the last batch had: its clients may ask again.

        A single client never waits, since its last batch had no other searches.
        """
        first = self._waiting[0]
        if first.call or time.monotonic() - self._idle_since > _LULL_S:
            return
        expected = min(self._last_concurrency, self._max_batch)
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
        """Take the first job and, if it is a search, further ones; drop those past the deadline."""
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
        except Exception as error:  # noqa: BLE001 - returned to the request that caused it
            if len(batch) == 1:
                return [error]
            return [outcome for job in batch for outcome in self._search([job])]

    def _update_throughput(self, count: int, seconds: float) -> None:
        newest = seconds / count
        before = self._seconds_a_request or newest
        self._seconds_a_request = before + _SMOOTHING * (newest - before)

    def _in_loop(self, call: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop has ended, and no request waits
            self._loop.call_soon_threadsafe(call, *arguments)


_REASONS = {
    State.READY: "The service is ready.",
    State.STARTING: "The encoder is being loaded.",
    State.FAILED: "The encoder could not be loaded; see the log of the service.",
    State.STOPPING: "The service is shutting down.",
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
