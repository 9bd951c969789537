"""Indexing jobs: started, followed and cancelled over HTTP."""

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Path, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from api.http.indexing_process import IndexingRequest
from api.http.jobs import Job, JobRunner
from api.http.routes.dependencies import CurrentService, Service, require
from api.http.schemas.jobs import IndexRequest, JobKind, JobList, JobSchema
from retrieval.catalog.paths import is_at_or_below
from retrieval.errors import MissingExtraError, UsageError
from retrieval.objects.paths import given_uri
from retrieval.recognition.registry import can_find_text_in_pictures

router = APIRouter(prefix="/v1", tags=["jobs"])

EVENT_STREAM = "text/event-stream"
_HEARTBEAT_S = 15.0
_RETRY_MS = 2000

JobId = Annotated[str, Path(max_length=64)]


@router.post("/index", status_code=HTTPStatus.ACCEPTED, dependencies=[Depends(require("write"))])
async def index(
    service: CurrentService, response: Response, request: IndexRequest | None = None
) -> JobSchema:
    """Update the library from all its sources, or from some paths in them.

    One job runs at a time, the others wait; a request equal to a waiting job returns that job.
    `kinds` and `hidden` are options of whole sources, so they need paths of sources, old or new.
    """
    if service.library.is_table:
        raise UsageError(
            "This library is a table, which `mmsearch index SOURCE --cluster local` writes. The "
            "service takes up what is new by itself."
        )
    wanted = request or IndexRequest()
    if wanted.ocr and not can_find_text_in_pictures():
        raise UsageError(str(MissingExtraError("Texts in pictures", "ocr")))
    if wanted.has_options and not wanted.paths:
        raise UsageError("`kinds` and `hidden` need the `paths` of the sources that they are for.")
    asked = IndexingRequest()
    if wanted.paths:
        asked = await run_in_threadpool(
            _allowed, service, wanted.paths, has_options=wanted.has_options
        )
    asked = replace(
        asked,
        retry_failed=wanted.retry_failed,
        kinds=tuple(sorted(wanted.kinds or ())),
        hidden=wanted.hidden,
        ocr=wanted.ocr,
    )
    job = service.jobs.submit(JobKind.INDEX, asked)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return JobSchema.of(job)


@router.get("/jobs", dependencies=[Depends(require("read"))])
async def jobs(service: CurrentService) -> JobList:
    """List the jobs of this service, newest first, with the last 100 finished ones."""
    return JobList(jobs=[JobSchema.of(job) for job in service.jobs.jobs()])


@router.get(
    "/jobs/{job_id}",
    response_model=JobSchema,
    responses={
        200: {"content": {EVENT_STREAM: {"schema": {"type": "string"}}}},
        204: {"description": "The last event of the stream is known: no more events will follow"},
    },
    dependencies=[Depends(require("read"))],
)
async def job(
    job_id: JobId,
    service: CurrentService,
    accept: Annotated[str, Header()] = "",
    last_event_id: Annotated[str, Header(max_length=20)] = "",
) -> JobSchema | Response:
    """Return the state of a job; with `Accept: text/event-stream`, an event at each change.

    Each event holds the whole job: `progress` while it runs, then `succeeded`, `failed` or
    `cancelled`. A client that reconnects with `Last-Event-ID` gets the changes since.
    """
    found = service.jobs.job(job_id)
    if EVENT_STREAM not in accept:
        return JobSchema.of(found)
    seen = int(last_event_id) if last_event_id.isascii() and last_event_id.isdigit() else 0
    if found.is_finished and seen == found.version:
        # Browsers do not reconnect after this status.
        return Response(status_code=HTTPStatus.NO_CONTENT)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(
        _events(service.jobs, found, seen), media_type=EVENT_STREAM, headers=headers
    )


@router.delete("/jobs/{job_id}", dependencies=[Depends(require("write"))])
async def cancel(job_id: JobId, service: CurrentService) -> JobSchema:
    """Cancel a job: at once while it waits, after the current batch while it runs."""
    return JobSchema.of(service.jobs.cancel(job_id))


async def _events(runner: JobRunner, job: Job, seen: int) -> AsyncIterator[str]:
    yield f"retry: {_RETRY_MS}\n\n"
    async for has_changed in runner.follow(job, _HEARTBEAT_S, seen):
        if has_changed:
            name = job.state if job.is_finished else "progress"
            body = JobSchema.of(job).model_dump_json()
            yield f"id: {job.version}\nevent: {name}\ndata: {body}\n\n"
        else:
            yield ": the job is running\n\n"


def _allowed(service: Service, paths: list[str], *, has_options: bool = False) -> IndexingRequest:
    """Check which paths may be indexed; raises UsageError for others.

    has_options: for sources as a whole, since options are remembered by source.
    """
    with service.library.catalog.snapshot() as snapshot:
        sources = snapshot.sources()
    within, new = [], []
    for path in paths:
        uri = given_uri(path)
        if uri is None and not os.path.isabs(path):  # noqa: PTH117 - need not be valid text
            raise UsageError(f"{path} is not an absolute path.")
        normalized = uri or os.path.normpath(path)
        if has_options and normalized in sources:
            new.append(normalized)
        elif has_options and lies_in(normalized, sources):
            raise UsageError(
                f"{path} is a part of a source. Kinds of files and hidden files are chosen for a "
                "whole source: name the source, or leave these options out."
            )
        elif lies_in(normalized, sources):
            within.append(normalized)
        elif lies_in(normalized, [os.fspath(root) for root in service.settings.index_below]):
            new.append(normalized)
        else:
            raise UsageError(
                f"{path} is not in a source of the library. Add it with `mmsearch index`, or start "
                "the service with `--index-below DIR`."
            )
    return IndexingRequest(tuple(new), tuple(within))


def lies_in(path: str, folders: list[str]) -> bool:
    """Check that a path is at or below a folder, by name and after resolving symlinks.

    Of addresses by name alone; what a service may connect to is what its owner has named.
    """
    if (uri := given_uri(path)) is not None:
        return any(is_at_or_below(uri, root) for folder in folders if (root := given_uri(folder)))
    return any(
        _is_below(path, folder) and _is_below(os.path.realpath(path), os.path.realpath(folder))
        for folder in folders
    )


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
