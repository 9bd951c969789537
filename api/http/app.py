"""Build the FastAPI application of the HTTP service."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI
from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from api.http.batching import Inference
from api.http.indexing_process import IndexingProcess
from api.http.jobs import JobRunner
from api.http.metrics import ServiceMetrics
from api.http.middleware.access import Authentication
from api.http.middleware.access_log import AccessLog
from api.http.middleware.bodies import BodyLimit
from api.http.middleware.disconnect import DisconnectDetection
from api.http.middleware.headers import SecurityHeaders
from api.http.middleware.hosts import HostGuard
from api.http.middleware.keys import KeyRing, read_keys
from api.http.middleware.origins import CrossSiteGuard
from api.http.middleware.rates import Rate, RateLimit
from api.http.openapi import install_description
from api.http.problems import install_problem_handlers
from api.http.routes import (
    embed,
    explain,
    facets,
    health,
    item_media,
    items,
    jobs,
    notes,
    page,
    search,
    stats,
    uploads,
)
from api.http.routes.dependencies import Service
from api.http.settings import ServiceSettings
from api.http.uploads import UploadFolder, open_upload_folder
from retrieval.errors import UsageError
from retrieval.library import Library, open_library
from retrieval.rerankers.registry import AUTO
from retrieval.search.joint import JointEngine
from retrieval.search.query import Query, Reranking, TextPart


def create_app(
    library: Library | Path,
    settings: ServiceSettings | None = None,
    *,
    device: str = "auto",
    load_in_background: bool = False,
    on_failed: Callable[[Exception], None] = lambda _: None,
) -> FastAPI:
    """Build the application of one library.

    Encoder and reranker are loaded and warmed up when the application starts, so that its first
    answer is as fast as the others. All encoding and searching runs on one thread, because PyTorch
    uses all cores by itself.

    Args:
        library: The library, or its directory.
        settings: Settings of the service. (default: from the environment)
        device: Device of the encoder.
        load_in_background: Start at once and answer searches with 503 until the models are
            loaded; otherwise start when they are loaded, or raise the error of loading.
        on_failed: Called with the error of loading in the background.

    Raises:
        UsageError: Invalid API keys, an invalid rate limit, or CORS for every origin without keys.
    """
    chosen = settings or ServiceSettings()
    keys = read_keys(chosen.api_keys, chosen.api_keys_file)
    if "*" in chosen.cors_origins and not keys:
        raise UsageError("`--cors-origin *` allows every web site, so it needs an API key.")
    Rate(chosen.rate_limit)  # raises UsageError if it is invalid
    metrics = ServiceMetrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        opened = library if isinstance(library, Library) else open_library(library)
        searched = chosen.spaces or (opened.space().id,)
        joint = JointEngine(opened, searched, device=device)
        engine = joint.main
        metrics.watch_engine(engine)
        inference = Inference(
            joint.search_many,
            metrics,
            max_batch=chosen.batch,
            max_wait_s=chosen.batch_wait_ms / 1000,
            max_waiting=chosen.queue,
            deadline_s=chosen.deadline_s,
        )
        stopping = asyncio.Event()
        runner = JobRunner(IndexingProcess(opened.path, engine.space.id, device), stopping)
        folder = _open_uploads(chosen, opened)
        app.state.service = Service(
            opened, engine, inference, chosen, metrics, runner, folder, stopping
        )
        loaded = await inference.start(
            lambda: _warm(joint, chosen.rerank),
            lambda: on_failed(inference.failure) if inference.failure else None,
        )
        if not load_in_background:
            await loaded
        try:
            if inference.failure and not load_in_background:
                raise inference.failure
            yield
        finally:
            app.state.service.stop()
            await runner.close()
            if folder:
                await run_in_threadpool(folder.close)
            inference.close(chosen.shutdown_s)
            opened.close()

    app = FastAPI(
        title="mmsearch",
        version=version("mmsearch"),
        description="Search images and texts by meaning.",
        lifespan=lifespan,
        docs_url=None,  # its scripts come from another server
        redoc_url=None,
        middleware=_middleware(chosen, keys, metrics),
    )
    install_problem_handlers(app)
    install_description(app)
    for module in (
        search,
        facets,
        explain,
        items,
        item_media,
        uploads,
        embed,
        jobs,
        notes,
        stats,
        health,
        page,
    ):
        app.include_router(module.router)
    return app


def _middleware(
    settings: ServiceSettings, keys: KeyRing, metrics: ServiceMetrics
) -> list[Middleware]:
    """List the middleware in the order in which requests pass it.

    Security headers and metrics come first, since they apply to all answers, also to refusals. Then
    cross-site requests are refused, then requests without a valid key, then those beyond the rate
    limit; only after that the body is read.
    """
    origins = settings.cors_origins
    guards = [
        Middleware(SecurityHeaders),
        Middleware(AccessLog, metrics, log=settings.access_log),
    ]
    if settings.allowed_hosts or not keys:
        # DNS rebinding gives a page no key, so with keys any host name is safe.
        guards.append(Middleware(HostGuard, settings.allowed_hosts, metrics))
    if origins:
        guards.append(
            Middleware(
                CORSMiddleware,
                allow_origins=origins,
                allow_methods=["GET", "POST", "DELETE"],
                allow_headers=["Authorization", "Content-Type"],
                expose_headers=["Retry-After"],
            )
        )
    return [
        *guards,
        Middleware(CrossSiteGuard, origins, metrics),
        Middleware(Authentication, keys, metrics),
        Middleware(RateLimit, settings.rate_limit, metrics),
        Middleware(BodyLimit, int(settings.max_body_mb * 1e6), metrics),
        Middleware(DisconnectDetection),
    ]


def _open_uploads(settings: ServiceSettings, library: Library) -> UploadFolder | None:
    if settings.uploads is None:
        return None
    return open_upload_folder(settings.uploads, library.path, int(settings.max_pixels * 1e6))


def _warm(joint: JointEngine, rerank: str) -> None:
    for engine in joint.engines:
        reranking = Reranking(rerank if engine is joint.main else AUTO)
        engine.search(Query((TextPart("a first query"),), k=1), reranking)
        engine.encode_images([Image.new("RGB", (64, 64))])
