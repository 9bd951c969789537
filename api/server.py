"""The HTTP service: the FastAPI application factory."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI

from api.problems import MEDIA_TYPE, install_problem_handlers
from api.routes import explain, health, items, search
from api.routes.dependencies import Service
from api.schemas import Problem
from retrieval.engine import Engine, Reranking
from retrieval.library import Library, open_library
from retrieval.query import Query, TextPart


def create_app(library: Library | Path, *, device: str = "auto", rerank: str = "auto") -> FastAPI:
    """Make an application over one library.

    `rerank` names the reranker of all searches that do not switch it off. Encoder and reranker are
    loaded and warmed when the application starts, so its first answer is as fast as
    the others. All encoding and searching happens on one thread: PyTorch uses all cores by itself.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        opened = library if isinstance(library, Library) else open_library(library)
        engine = Engine(opened, device=device)
        with ThreadPoolExecutor(1, thread_name_prefix="inference") as inference:
            service = Service(opened, engine, inference, rerank)
            await service.on_inference_thread(
                lambda: engine.search(Query((TextPart("a first query"),), k=1), Reranking(rerank))
            )
            app.state.service = service
            yield
        opened.close()

    app = FastAPI(
        title="mmsearch",
        version=version("mmsearch"),
        description="Search pictures by meaning.",
        lifespan=lifespan,
        responses={
            status: {"model": Problem, "content": {MEDIA_TYPE: {}}} for status in (404, 422, 500)
        },
    )
    install_problem_handlers(app)
    for router in (search.router, explain.router, items.router, health.router):
        app.include_router(router)
    return app
