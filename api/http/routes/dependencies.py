"""State shared by the routes: the open library and the inference thread."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar, cast

from cachetools import LRUCache
from fastapi import Depends, Request

from api.http.archives import Tickets
from api.http.batching import Inference, NoLibraryError
from api.http.decode_pool import DecodePool
from api.http.files import ItemFiles
from api.http.jobs import Job, JobRunner
from api.http.metrics import ServiceMetrics
from api.http.middleware.access import require
from api.http.settings import ServiceSettings
from api.http.token_maker import TokenMaker
from api.http.uploads import UploadFolder
from retrieval.catalog import Item
from retrieval.library import Library
from retrieval.search.joint import JointEngine

if TYPE_CHECKING:
    from api.http.captioning import Captioning

__all__ = ["CurrentService", "NoLibrary", "PossibleService", "Service", "require"]

_T = TypeVar("_T")

_NO_LIBRARY_RETRY_S = 3
_MOST_KEYS = 10_000
_SHARE_TO_STOP = 0.85
"""Share of the grace period after which what still runs is ended."""


class Service:
    """State of a running application, created at its start.

    `stopping` is set when shutdown begins; long-running answers end then.
    """

    def __init__(
        self,
        library: Library,
        joint: JointEngine,
        inference: Inference,
        settings: ServiceSettings,
        metrics: ServiceMetrics,
        jobs: JobRunner,
        uploads: UploadFolder | None,
        stopping: asyncio.Event,
        captioning: "Captioning | None" = None,
    ) -> None:
        self.library = library
        self.engine = engine = joint.main
        self.engine_for = joint.engine_for
        self.inference = inference
        self.settings = settings
        self.metrics = metrics
        self.files = ItemFiles(library)
        self.archives = Tickets()
        self.decoding = DecodePool(settings.deadline_s)
        self.jobs = jobs
        self.uploads = uploads
        self.stopping = stopping
        self.captioning = captioning
        self._tokens: TokenMaker | None = None
        if settings.background_tokens:
            self._tokens = TokenMaker(engine, inference, metrics, settings.rerank)
        self._upload_keys: LRUCache[str, str] = LRUCache(_MOST_KEYS)
        self._loop = asyncio.get_running_loop()
        self._stop_by: float | None = None

    @property
    def seconds_to_stop(self) -> float:
        """Seconds that are left of the grace period after `stop`, less some to end the process."""
        if self._stop_by is None:
            return self.settings.shutdown_s
        return max(0.0, self._stop_by - time.monotonic())

    def stop(self) -> None:
        """Refuse new requests; those in flight are still answered. Safe in a signal handler."""
        if self._stop_by is None:
            self._stop_by = time.monotonic() + _SHARE_TO_STOP * self.settings.shutdown_s
        self.inference.refuse_more()
        self._loop.call_soon_threadsafe(self.stopping.set)

    def show(self, items: Iterable[Item]) -> None:
        """Note that items are shown, so that the next search of them is reranked sooner."""
        if self._tokens is not None:
            self._tokens.show(items)

    def close_background(self) -> None:
        """End the work that nobody waits for."""
        if self._tokens is not None:
            self._tokens.close(self.seconds_to_stop)

    def upload_of_key(self, key: str) -> Job | None:
        """Return the job of an upload with an idempotency key, if it is still known."""
        return self.jobs.find(self._upload_keys.get(key, ""))

    def remember_key(self, key: str, job: Job) -> None:
        """Remember the idempotency key of an upload."""
        self._upload_keys[key] = job.id

    async def on_inference_thread(
        self, call: Callable[[], _T], *, deadline_s: float | None = None
    ) -> _T:
        """Run a call on the thread that owns the encoder, without blocking the event loop.

        It waits in the queue of the searches. deadline_s: time limit with the wait; None: that of
        the settings. Raises the exception of the call, and RefusedError.
        """
        return await self.inference.call(call, deadline_s=deadline_s)


@dataclass(frozen=True)
class NoLibrary:
    """State of an application that waits for a library.

    command: what creates one in a terminal. directory: where it is expected. may_create: whether
    the service may create it, since it can fill it. device: of the encoder of its space.
    """

    command: str
    directory: Path
    may_create: bool = False
    device: str = "auto"

    @property
    def detail(self) -> str:
        """Say what is missing, and what to do."""
        return (
            f"There is no library yet. Create it on the machine of the service: `{self.command}`. "
            "The service then opens it by itself."
        )


async def _service_if_any(request: Request) -> Service | NoLibrary:
    return cast("Service | NoLibrary", request.app.state.service)


PossibleService = Annotated[Service | NoLibrary, Depends(_service_if_any)]
"""The service, whether its library is there or not, or what waits for a first one."""


async def _service(service: PossibleService) -> Service:
    if isinstance(service, NoLibrary):
        raise NoLibraryError(service.detail, _NO_LIBRARY_RETRY_S)
    if gone := service.library.missing():
        # What is open still answers, from the files of a directory that is elsewhere.
        raise gone
    return service


CurrentService = Annotated[Service, Depends(_service)]
"""The service; raises NoLibraryError before there is a library, LibraryGoneError after it."""
