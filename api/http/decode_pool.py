"""Decode images on few threads or processes, off the event loop and the inference thread.

Decoding needs memory in proportion to the pixels, so their number bounds the memory. What clients
send is decoded in processes, which can be killed: a small file may take hours to decode.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, TypeVarTuple

from anyio import CapacityLimiter, to_thread

from api.http.batching import OverloadedError, PastDeadlineError
from indexer.decoder_pool import DecoderPool

_T = TypeVar("_T")
_Arguments = TypeVarTuple("_Arguments")

_THREADS = max(2, min(4, os.cpu_count() or 1))
_PROCESSES = 2
_WAITING = 256


class DecodePool:
    """Runs calls on a few threads or processes.

    deadline_s: time limit per call, with the wait in the queue.
    """

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._limiter = CapacityLimiter(_THREADS)
        self._calls = 0
        self._processes: DecoderPool | None = None

    async def run(self, call: Callable[[], _T]) -> _T:
        """Run a call on one of the threads.

        Raises its exception, OverloadedError if the queue is full, PastDeadlineError if it misses
        the deadline; its thread stays busy until the call has ended.
        """
        async with self._counted():
            return await to_thread.run_sync(call, limiter=self._limiter)

    async def run_apart(self, call: Callable[[*_Arguments], _T], *args: *_Arguments) -> _T:
        """Run an importable call in a process, which is killed if it takes too long.

        Raises as `run`, and UnreadableFileError if the process crashed or took longer than half
        of the deadline.
        """
        async with self._counted():
            return await asyncio.wrap_future(self._started().submit(call, *args))

    def start(self) -> None:
        """Start a process, so that the first call need not wait for it."""
        self._started().submit(os.getpid)

    def close(self) -> None:
        """End the processes."""
        if self._processes is not None:
            self._processes.close()

    def _started(self) -> DecoderPool:
        if self._processes is None:
            self._processes = DecoderPool(_PROCESSES, limit_s=self._deadline_s / 2)
        return self._processes

    @asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        if self._calls >= _THREADS + _WAITING:
            raise OverloadedError("Too many images are waiting to be decoded.", retry_after_s=1)
        self._calls += 1
        try:
            async with asyncio.timeout(self._deadline_s):
                yield
        except TimeoutError:
            raise PastDeadlineError("The image was not decoded in time.") from None
        finally:
            self._calls -= 1
