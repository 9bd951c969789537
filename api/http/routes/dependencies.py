"""What the routes share: the open library, and the one thread that runs the engine."""

import asyncio
from collections.abc import Callable
from typing import Annotated, TypeVar, cast

from fastapi import Depends, Request

from api.http.batching import Inference
from api.http.decode_pool import Decoding
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
    """The state of a running application; made at its start.

    `stopping` is set as soon as the service is told to end: what would go on for long ends then.
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
        self.decoding = Decoding(settings.deadline_s)
        self.jobs = jobs
        self.uploads = uploads
        self.stopping = stopping
        self._loop = asyncio.get_running_loop()

    @property
    def rerank(self) -> str:
        """The reranker of all searches that do not switch it off."""
        return self.settings.rerank

    def stop(self) -> None:
        """Take no new requests; what is in flight is still answered. Safe in a signal handler."""
        self.inference.refuse_more()
        self._loop.call_soon_threadsafe(self.stopping.set)

    async def on_inference_thread(
        self, call: Callable[[], _T], *, deadline_s: float | None = None
    ) -> _T:
        """Run a call on the thread that owns the encoder, without blocking the event loop.

        It waits in the queue of the searches. deadline_s: what it may take, waiting included;
        None: as the settings say. Raises what the call raises, and RefusedError.
        """
        return await self.inference.call(call, deadline_s=deadline_s)


async def _service(request: Request) -> Service:
    return cast("Service", request.app.state.service)


CurrentService = Annotated[Service, Depends(_service)]
