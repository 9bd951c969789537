"""Describe images and answer questions for clients: on one thread, behind a short queue."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from api.http.batching import OverloadedError, PastDeadlineError
from retrieval.recognition.captions.captioner import Captioner

MOST_WAITING = 8
"""Maximum number of requests, with the one that is answered."""
DEADLINE_S = 60.0
"""Time limit of a request, with the wait; a model of billions of weights writes slowly on a CPU."""

_RETRY_S = 5

_T = TypeVar("_T")


class Captioning:
    """The image-to-text model of a service, on a thread of its own, where it is loaded first.

    Searches go on meanwhile. What has begun is not stopped: the number of tokens bounds it.
    """

    def __init__(self, name: str, device: str) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="captions")
        self._places = threading.BoundedSemaphore(MOST_WAITING)
        self.loaded: Future[Captioner] = self._thread.submit(Captioner, name, device=device)

    async def run(self, call: Callable[[Captioner], _T], *, deadline_s: float = DEADLINE_S) -> _T:
        """Run a call with the model.

        Raises its exception and that of loading, OverloadedError if the queue is full,
        PastDeadlineError if the call misses the deadline.
        """
        if not self._places.acquire(blocking=False):
            raise OverloadedError("Too many images wait to be described.", retry_after_s=_RETRY_S)
        future = self._thread.submit(lambda: call(self.loaded.result()))
        future.add_done_callback(lambda _: self._places.release())
        try:
            async with asyncio.timeout(deadline_s):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise PastDeadlineError("The model did not write in time.") from None

    def close(self) -> None:
        """Drop the calls that wait."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def shown_name(captioner: Captioner) -> str:
    """Return the name of a model for clients: of a folder, its last part."""
    folder = Path(captioner.name)
    return folder.name if folder.is_absolute() else captioner.name
