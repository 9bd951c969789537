"""Indexing, and the jobs that do it: started, followed and cancelled over HTTP."""

import os
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from api.http.indexing_process import IndexingRequest
from api.http.jobs import Job, JobRunner
from api.http.routes.dependencies import CurrentService, Service, require
from api.http.schemas.jobs import IndexRequest, JobKind, JobList, JobSchema
from retrieval.errors import UsageError

router = APIRouter(prefix="/v1", tags=["jobs"])

EVENT_STREAM = "text/event-stream"
_HEARTBEAT_S = 15.0
_RETRY_MS = 2000

JobId = Annotated[str, Path(max_length=64)]


@router.post("/index", status_code=HTTPStatus.ACCEPTED, dependencies=[Depends(require("write"))])
async def index(
    service: CurrentService, response: Response, request: IndexRequest | None = None
) -> JobSchema:
    """Bring the library up to date with its sources, or a part of them.

    One job runs at a time, the others wait; a request like one that waits is that one.
    """
    paths = request.paths if request else None
    asked = await run_in_threadpool(_allowed, service, paths) if paths else IndexingRequest()
    job = service.jobs.submit(JobKind.INDEX, asked)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return JobSchema.of(job)


@router.get("/jobs", dependencies=[Depends(require("read"))])
async def jobs(service: CurrentService) -> JobList:
    """List the jobs of this service, the newest first; the last 100 finished ones are kept."""
    return JobList(jobs=[JobSchema.of(job) for job in service.jobs.jobs()])


@router.get(
    "/jobs/{job_id}",
    response_model=JobSchema,
    responses={
        200: {"content": {EVENT_STREAM: {"schema": {"type": "string"}}}},
        204: {"description": "The stream's last event is known: nothing more will come"},
    },
    dependencies=[Depends(require("read"))],
)
async def job(
    job_id: JobId,
    service: CurrentService,
    accept: Annotated[str, Header()] = "",
    last_event_id: Annotated[str, Header(max_length=20)] = "",
) -> JobSchema | Response:
    """Tell how far a job is; with `Accept: text/event-stream`, at each change until it is done.

    Each event holds the whole job: `progress` while it goes on, then `succeeded`, `failed` or
    `cancelled`. A client that comes back with `Last-Event-ID` is told what has changed since.
    """
    found = service.jobs.job(job_id)
    if EVENT_STREAM not in accept:
        return JobSchema.of(found)
    seen = int(last_event_id) if last_event_id.isascii() and last_event_id.isdigit() else 0
    if found.is_finished and seen == found.version:
        # What tells browsers not to come back.
        return Response(status_code=HTTPStatus.NO_CONTENT)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(
        _events(service.jobs, found, seen), media_type=EVENT_STREAM, headers=headers
    )


@router.delete("/jobs/{job_id}", dependencies=[Depends(require("write"))])
async def cancel(job_id: JobId, service: CurrentService) -> JobSchema:
    """Cancel a job: at once while it waits, after the batch in flight while it runs."""
    return JobSchema.of(service.jobs.cancel(job_id))


async def _events(runner: JobRunner, job: Job, seen: int) -> AsyncIterator[str]:
    yield f"retry: {_RETRY_MS}\n\n"
    async for has_changed in runner.follow(job, _HEARTBEAT_S, seen):
        if has_changed:
            name = job.state if job.is_finished else "progress"
            body = JobSchema.of(job).model_dump_json()
            yield f"id: {job.version}\nevent: {name}\ndata: {body}\n\n"
        else:
            yield ": the job goes on\n\n"


def _allowed(service: Service, paths: list[str]) -> IndexingRequest:
    """Say what to index; raises UsageError for what lies outside of what may be."""
    with service.library.catalog.snapshot() as snapshot:
        sources = snapshot.sources()
    within, new = [], []
    for path in paths:
        if not os.path.isabs(path):  # noqa: PTH117 - need not be valid text
            raise UsageError(f"{path} is not an absolute path.")
        place = os.path.normpath(path)
        if _lies_in(place, sources):
            within.append(place)
        elif _lies_in(place, [os.fspath(root) for root in service.settings.index_below]):
            new.append(place)
        else:
            raise UsageError(
                f"{path} lies in none of the library's sources. `mmsearch index` adds it, or the "
                "service can be started with `--index-below DIR`."
            )
    return IndexingRequest(tuple(new), tuple(within))


def _lies_in(path: str, folders: list[str]) -> bool:
    """Whether a path is at or below one of some folders, by its name and wherever links lead."""
    return any(
        _is_below(path, folder) and _is_below(os.path.realpath(path), os.path.realpath(folder))
        for folder in folders
    )


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
