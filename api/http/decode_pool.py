"""Pictures are decoded by a few threads: beside the event loop, beside the encoder, not too many.

Decoding can take as much memory as a picture has pixels, so that its threads bound the memory.
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


class Decoding:
    """Runs calls on a few threads. deadline_s: what one may take, waiting included."""

    def __init__(self, deadline_s: float) -> None:
        self._deadline_s = deadline_s
        self._limiter = CapacityLimiter(_THREADS)
        self._calls = 0

    async def run(self, call: Callable[[], _T]) -> _T:
        """Run a call on one of the threads.

        Raises what it raises, OverloadedError where too many wait, PastDeadlineError where it takes
        too long; even then its thread is free for others only when it has ended.
        """
        if self._calls >= _THREADS + _WAITING:
            raise OverloadedError("Too many pictures wait to be decoded.", retry_after_s=1)
        self._calls += 1
        try:
            async with asyncio.timeout(self._deadline_s):
                return await to_thread.run_sync(call, limiter=self._limiter)
        except TimeoutError:
            raise PastDeadlineError("The picture was not decoded in time.") from None
        finally:
            self._calls -= 1
