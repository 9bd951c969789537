"""Liveness, readiness and metrics."""

from fastapi import APIRouter, Depends, Response
from starlette.concurrency import run_in_threadpool

from api.http.batching import State
from api.http.metrics import CONTENT_TYPE
from api.http.problems import problem
from api.http.routes.dependencies import RunningService, require
from api.http.schemas import Health, Problem

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz(service: RunningService) -> Health:
    """Answer as long as the service runs."""
    return Health(status="ok", encoder=service.engine.space.encoder)


@router.get("/readyz", responses={503: {"model": Problem}}, response_model=Health)
async def readyz(service: RunningService) -> Health | Response:
    """Answer 200 if the service can search; 503 while it starts, stops or misses its library."""
    if gone := await run_in_threadpool(service.library.missing):
        return problem(503, str(gone), retry_after_s=5)
    if service.inference.state is State.READY:
        return Health(status="ready", encoder=service.engine.space.encoder)
    return problem(503, service.inference.reason, retry_after_s=1)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
    dependencies=[Depends(require("read"))],
)
def metrics(service: RunningService) -> Response:
    """Return metrics for Prometheus."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)
