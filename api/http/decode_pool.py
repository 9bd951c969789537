"""Decode images on a small thread pool, off the event loop and the inference thread.

Decoding needs memory in proportion to the pixels, so the number of threads bounds the memory.
"""

import asyncio
import os
from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from api.http.batching import OverloadedError, PastDeadlineError

_T = TypeVar("_T")

_THREADS = max(2, min(4, os.cpu_count() or 1))
_WAITING = 256


class DecodePool:
    """Runs calls on a few threads. deadline_s: time limit per call, with the wait in the queue."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._limiter = CapacityLimiter(_THREADS)
        self._calls = 0

    async def run(self, call: Callable[[], _T]) -> _T:
        """Run a call on one of the threads.

        Raises its exception, OverloadedError if the queue is full, PastDeadlineError if it misses
        the deadline; its thread stays busy until the call has ended.
        """
        if self._calls >= _THREADS + _WAITING:
            raise OverloadedError("Too many images are waiting to be decoded.", retry_after_s=1)
        self._calls += 1
        try:
            async with asyncio.timeout(self._deadline_s):
                return await to_thread.run_sync(call, limiter=self._limiter)
        except TimeoutError:
            raise PastDeadlineError("The image was not decoded in time.") from None
        finally:
            self._calls -= 1
