"""Pictures are decoded by a few threads: beside the event loop, beside the encoder, not too many.

Decoding can take as much memory as a picture has pixels, so that its threads bound the memory.
"""

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from api.inference import OverloadedError

_T = TypeVar("_T")


class Decoding:
    """threads: how many pictures are decoded at once; queue: how many calls wait at most."""

    def __init__(self, threads: int = 2, queue: int = 256) -> None:
        self._limiter = CapacityLimiter(threads)
        self._queue = queue

    async def run(self, call: Callable[[], _T]) -> _T:
        """Run a call on one of the threads; raises what it raises, OverloadedError if many wait."""
        if self._limiter.statistics().tasks_waiting >= self._queue:
            raise OverloadedError("Too many pictures wait to be decoded.", retry_after_s=1)
        return await to_thread.run_sync(call, limiter=self._limiter)
