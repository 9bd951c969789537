"""Start and end what answers requests: the library, its engines, jobs and uploads.

A service may start before there is a library: it opens the library as soon as there is one.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Protocol

from fastapi import FastAPI
from PIL import Image
from starlette.concurrency import run_in_threadpool

from api.http.batching import Inference
from api.http.indexing_process import IndexingProcess
from api.http.jobs import JobRunner
from api.http.metrics import ServiceMetrics
from api.http.routes.dependencies import NoLibrary, Service
from api.http.routes.uploads import resume
from api.http.settings import ServiceSettings
from api.http.uploads import UploadFolder, open_upload_folder
from indexer.sources import trust_named
from retrieval.errors import EncoderUnavailableError, MMSearchError, SpaceMismatchError
from retrieval.library import Library, is_place_for_library, library_exists, open_library
from retrieval.media import Modality
from retrieval.recognition.base import Task
from retrieval.rerankers.registry import AUTO
from retrieval.search.joint import JointEngine
from retrieval.search.query import Query, Reranking, TextPart
from retrieval.search.routes import default_spaces

if TYPE_CHECKING:
    from concurrent.futures import Future

    from api.http.captioning import Captioning
    from retrieval.recognition.captions.captioner import Captioner

_LIBRARY_CHECK_S = 1.0


class MakeEngine(Protocol):
    """Makes the engine of a library."""

    def __call__(
        self, library: Library, space_ids: Sequence[str] | None, *, device: str
    ) -> JointEngine:
        """Make the engine of some spaces, the first by default."""
        ...


@dataclass(frozen=True)
class Lifespan:
    """The lifespan of an application; arguments as of `create_app`.

    names_library: whether answers that need no key may name the library's directory.
    """

    library: Library | Path
    settings: ServiceSettings
    metrics: ServiceMetrics
    device: str
    load_in_background: bool
    on_failed: Callable[[Exception], None]
    names_library: bool
    make_engine: MakeEngine = JointEngine

    @asynccontextmanager
    async def __call__(self, app: FastAPI) -> AsyncIterator[None]:
        """Serve the library, or wait for one."""
        trust_named(self.settings.index_below)
        stopping = asyncio.Event()
        waiting = None
        try:
            if isinstance(self.library, Path) and is_place_for_library(self.library):
                # A wrong directory is told now, not when the first index is made.
                uploads = _open_uploads(self.settings, self.library)
                app.state.service = self._no_library(self.library)
                waiting = asyncio.create_task(self._wait(app, self.library, uploads, stopping))
            else:
                library = self.library
                opened = library if isinstance(library, Library) else open_library(library)
                await self._begin(app, opened, _open_uploads(self.settings, opened.path), stopping)
            yield
        finally:
            stopping.set()
            if waiting is not None:
                waiting.cancel()
                with suppress(asyncio.CancelledError):
                    await waiting
            if isinstance(service := getattr(app.state, "service", None), Service):
                await self._end(service)

    def _no_library(self, directory: Path) -> NoLibrary:
        command = "mmsearch index ~/Pictures"
        if self.names_library:
            command += f" --library {quote(str(directory))}"
        may_create = bool(self.settings.index_below or self.settings.uploads)
        return NoLibrary(command, directory, may_create, self.device)

    async def _wait(
        self,
        app: FastAPI,
        directory: Path,
        uploads: UploadFolder | None,
        stopping: asyncio.Event,
    ) -> None:
        while not await run_in_threadpool(_is_there, directory):
            await asyncio.sleep(_LIBRARY_CHECK_S)
        try:
            opened = await run_in_threadpool(open_library, directory)
            await self._begin(app, opened, uploads, stopping)
        except Exception as error:  # noqa: BLE001 - reported, as an error of loading is
            self.on_failed(error)

    async def _begin(
        self,
        app: FastAPI,
        library: Library,
        uploads: UploadFolder | None,
        stopping: asyncio.Event,
    ) -> None:
        chosen = self.settings
        spaces = chosen.spaces or default_spaces(library)
        joint = self.make_engine(library, spaces, device=self.device)
        engine = joint.main
        self.metrics.watch_engine(engine)
        inference = Inference(
            joint.search_many,
            self.metrics,
            max_batch=chosen.batch,
            max_wait_s=chosen.batch_wait_ms / 1000,
            max_waiting=chosen.queue,
            deadline_s=chosen.deadline_s,
        )
        process = IndexingProcess(library.path, engine.space.id, self.device)

        async def texts_wait() -> str | None:
            return await run_in_threadpool(_texts_wait, library, engine.space.id)

        runner = JobRunner(process, stopping, texts_wait)
        captioning = self._captioning()
        service = Service(
            library, joint, inference, chosen, self.metrics, runner, uploads, stopping, captioning
        )
        app.state.service = service
        if uploads:
            resume(service, uploads)
        await runner.find_texts()
        loaded = await inference.start(
            lambda: _warm(joint, chosen.rerank, chosen.spaces),
            lambda: self.on_failed(inference.failure) if inference.failure else None,
        )
        if self.load_in_background:
            service.decoding.start()
        else:
            await loaded
            if inference.failure:
                raise inference.failure
            if captioning:
                await asyncio.wrap_future(captioning.loaded)

    def _captioning(self) -> "Captioning | None":
        """Begin to load the image-to-text model, if there is one."""
        if self.settings.captions is None:
            return None
        from api.http.captioning import Captioning

        captioning = Captioning(self.settings.captions, self.device)

        def tell(loaded: "Future[Captioner]") -> None:
            if not loaded.cancelled() and isinstance(error := loaded.exception(), Exception):
                self.on_failed(error)

        captioning.loaded.add_done_callback(tell)
        return captioning

    async def _end(self, service: Service) -> None:
        service.stop()
        if service.captioning:
            service.captioning.close()
        await service.jobs.close(service.seconds_to_stop)
        await run_in_threadpool(service.decoding.close)
        if service.uploads:
            await run_in_threadpool(service.uploads.close)
        service.inference.close(service.seconds_to_stop)
        await run_in_threadpool(service.close_background)
        service.library.close()


def _is_there(directory: Path) -> bool:
    try:
        return library_exists(directory)
    except OSError:  # a disk that is away, or may not be read yet
        return False


def _texts_wait(library: Library, space_id: str) -> str | None:
    """Name a task of a library whose model has not looked at all that is indexed, or None.

    A model that is not there, or must not be loaded, is told in the log.
    """
    if library.is_table or not (tasks := library.enrichment):
        return None
    from indexer.enrichment.run import changed_subtitles
    from retrieval.recognition.registry import require_model

    with library.catalog.snapshot() as snapshot:
        waiting = [task for task in tasks if snapshot.count_to_enrich(space_id, task)]
    if Task.SPEECH in tasks and Task.SPEECH not in waiting and changed_subtitles(library):
        waiting.append(Task.SPEECH)
    for task in waiting:
        try:
            require_model(task, tasks[task])
        except MMSearchError as error:
            logging.getLogger("mmsearch").warning("%s was left out: %s", task, error)
        else:
            return str(task)
    return None


def _open_uploads(settings: ServiceSettings, library: Path) -> UploadFolder | None:
    if settings.uploads is None:
        return None
    return open_upload_folder(settings.uploads, library, int(settings.max_pixels * 1e6))


def _warm(joint: JointEngine, rerank: str, named: Sequence[str]) -> None:
    """Load the encoders. named: ids of the spaces that must be searched, beside the default one."""
    for engine in joint.engines:
        reranking = Reranking(rerank if engine is joint.main else AUTO)
        try:
            engine.search(Query((TextPart("a first query"),), k=1), reranking)
        except (EncoderUnavailableError, SpaceMismatchError) as error:
            if engine is joint.main or engine.space.id in named:
                raise
            logging.getLogger(__name__).warning("%s is not searched: %s", engine.space.id, error)
            continue
        if Modality.IMAGE in engine.encoder.modalities:
            engine.encode_images([Image.new("RGB", (64, 64))])
