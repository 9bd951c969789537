"""Liveness, readiness and metrics."""

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from api.http.batching import State
from api.http.metrics import CONTENT_TYPE
from api.http.problems import problem
from api.http.routes.dependencies import NoLibrary, PossibleService, require
from api.http.schemas import Health, Problem

router = APIRouter(tags=["health"])


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz")
async def healthz(service: PossibleService) -> Health:
    """Answer as long as the service runs."""
    encoder = None if isinstance(service, NoLibrary) else service.engine.space.encoder
    return Health(status="ok", encoder=encoder)


@router.head("/readyz", response_model=Health, include_in_schema=False)
@router.get("/readyz", responses={503: {"model": Problem}}, response_model=Health)
async def readyz(service: PossibleService) -> Health | Response:
    """Answer 200 if the service can search, 503 while it starts, stops or misses its library.

    Also 200, with the status `no library`, before there is one: the page says how to begin.
    """
    if isinstance(service, NoLibrary):
        return Health(
            status="no library",
            detail=service.detail,
            first_command=service.command,
            may_create=service.may_create,
        )
    if gone := await run_in_threadpool(service.library.missing):
        return problem(503, str(gone), retry_after_s=5)
    if service.inference.state is State.READY:
        return Health(status="ready", encoder=service.engine.space.encoder)
    return problem(503, service.inference.reason, retry_after_s=1)


@router.head("/metrics", include_in_schema=False, dependencies=[Depends(require("read"))])
@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
    dependencies=[Depends(require("read"))],
)
def metrics(request: Request) -> Response:
    """Return metrics for Prometheus."""
    return Response(request.app.state.metrics.text(), media_type=CONTENT_TYPE)
