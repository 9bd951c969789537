"""State shared by the routes: the open library and the inference thread."""

import asyncio
from collections.abc import Callable
from typing import Annotated, TypeVar, cast

from fastapi import Depends, Request

from api.http.batching import Inference
from api.http.decode_pool import DecodePool
from api.http.files import ItemFiles
from api.http.jobs import JobRunner
from api.http.metrics import ServiceMetrics
from api.http.middleware.access import require
from api.http.settings import ServiceSettings
from api.http.uploads import UploadFolder
from retrieval.library import Library
from retrieval.search.engine import Engine

__all__ = ["CurrentService", "Service", "require"]

_T = TypeVar("_T")


class Service:
    """State of a running application, created at its start.

    `stopping` is set when shutdown begins; long-running answers end then.
    """

    def __init__(
        self,
        library: Library,
        engine: Engine,
        inference: Inference,
        settings: ServiceSettings,
        metrics: ServiceMetrics,
        jobs: JobRunner,
        uploads: UploadFolder | None,
        stopping: asyncio.Event,
    ) -> None:
        self.library = library
        self.engine = engine
        self.inference = inference
        self.settings = settings
        self.metrics = metrics
        self.files = ItemFiles(library)
        self.decoding = DecodePool(settings.deadline_s)
        self.jobs = jobs
        self.uploads = uploads
        self.stopping = stopping
        self._loop = asyncio.get_running_loop()

    def stop(self) -> None:
        """Refuse new requests; those in flight are still answered. Safe in a signal handler."""
        self.inference.refuse_more()
        self._loop.call_soon_threadsafe(self.stopping.set)

    async def on_inference_thread(
        self, call: Callable[[], _T], *, deadline_s: float | None = None
    ) -> _T:
        """Run a call on the thread that owns the encoder, without blocking the event loop.

        It waits in the queue of the searches. deadline_s: time limit with the wait; None: that of
        the settings. Raises the exception of the call, and RefusedError.
        """
        return await self.inference.call(call, deadline_s=deadline_s)


async def _service(request: Request) -> Service:
    return cast("Service", request.app.state.service)


CurrentService = Annotated[Service, Depends(_service)]
