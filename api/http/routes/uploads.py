"""Upload files to the library, and delete items."""

import os
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Header, Query, Request, Response, UploadFile
from starlette.concurrency import run_in_threadpool

from api.http.indexing_process import IndexingRequest, Outcome
from api.http.jobs import Job, new_job_id
from api.http.routes.dependencies import CurrentService, Service, require
from api.http.routes.items import ItemId, item_in
from api.http.schemas import valid_text
from api.http.schemas.jobs import JobKind, JobSchema, Removal
from api.http.uploads import Received, Upload, UploadFolder
from indexer.pipeline import hide_files
from retrieval.catalog import Item
from retrieval.catalog.paths import is_at_or_below, is_there
from retrieval.errors import LibraryError, NotFoundError
from retrieval.filters import Filter

router = APIRouter(prefix="/v1/items", tags=["items"], dependencies=[Depends(require("write"))])

MOST_FILES = 100
_WAIT_LIMIT_S = 60.0
_MOST_ITEMS = 10_000


@router.post("", status_code=HTTPStatus.ACCEPTED, responses={200: {"model": JobSchema}})
async def upload(
    files: Annotated[
        list[UploadFile],
        File(min_length=1, max_length=MOST_FILES, description="Images, videos, PDF, texts."),
    ],
    service: CurrentService,
    request: Request,
    response: Response,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=255,
            description="Any text that is new for each upload, and the same when it is repeated.",
        ),
    ] = None,
    wait: Annotated[
        bool, Query(description="Answer when the files are indexed, or after a minute.")
    ] = False,
) -> JobSchema:
    """Upload files to the library: all of them, or none if one is refused.

    They are checked by their content and stored in the uploads directory. The answer is the job
    that indexes them: 200 when it has finished, 202 while it runs. A request that is sent again, as
    after a lost answer, stores no file twice: one of the same name and content is kept as it is,
    and with the same `Idempotency-Key` the answer is the first job, as long as it is known.
    """
    folder = _upload_folder(service)
    key = idempotency_key and f"{request.state.client.name}:{idempotency_key}"
    job = service.upload_of_key(key) if key else None
    if job is None:
        service.jobs.require_room()
        received = [Received(file.filename or "", file.file) for file in files]
        job_id = new_job_id()
        stored = await run_in_threadpool(folder.add, received, job_id, key)
        job = submit(service, folder, Upload(job_id, key, tuple(map(os.fspath, stored))))
    if wait:
        await service.jobs.wait(job, _WAIT_LIMIT_S)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    if job.is_finished:
        response.status_code = HTTPStatus.OK
    return JobSchema.of(job)


@router.delete("/{item_id}")
def remove(item_id: ItemId, service: CurrentService) -> Removal:
    """Hide the file of an item from every search, with all its frames, pages and chunks.

    An uploaded file is deleted. Any other stays on disk, and the next indexing of its source finds
    it again; exclude it permanently with `.mmsearchignore`.
    """
    with service.library.catalog.snapshot() as snapshot:
        item, sources = item_in(snapshot, item_id), snapshot.sources()
    is_uploaded = service.uploads is not None and service.uploads.holds(item.path)
    if is_uploaded:
        _delete(item)
    hide_files(service.library, [item.path])
    is_in_source = any(is_at_or_below(item.path, source) for source in sources)
    return Removal(
        item_id=item_id,
        path=valid_text(item.path),
        file_deleted=is_uploaded,
        comes_back=is_in_source and is_there(item.path),
    )


def resume(service: Service, folder: UploadFolder) -> None:
    """Go on with the uploads that an earlier service did not finish."""
    for unfinished in folder.unfinished():
        submit(service, folder, unfinished)
    folder.clean()


def submit(service: Service, folder: UploadFolder, upload: Upload) -> Job:
    """Queue the job of an upload whose files are stored."""

    async def finish(_outcome: Outcome) -> dict[str, Any]:
        results = await run_in_threadpool(_upload_results, service, folder, upload.paths)
        folder.finish(upload.job)
        return {"files": results}

    request = IndexingRequest(sources=(os.fspath(folder.path),))
    job = service.jobs.submit(JobKind.UPLOAD, request, finish, job_id=upload.job, is_accepted=True)
    if upload.key:
        service.remember_key(upload.key, job)
    return job


def _upload_folder(service: Service) -> UploadFolder:
    if service.uploads is None:
        raise NotFoundError(
            "Uploads are not allowed. Start the service with `mmsearch serve --uploads DIR`."
        )
    return service.uploads


def _delete(item: Item) -> None:
    try:
        os.unlink(item.path)  # noqa: PTH108 - need not be valid text; of a link, the link
    except FileNotFoundError:
        pass
    except OSError as error:
        raise LibraryError(f"{item.path} cannot be deleted: {error.strerror}.") from error


def _upload_results(
    service: Service, folder: UploadFolder, paths: Sequence[str]
) -> list[dict[str, Any]]:
    """List the items of uploaded files; delete files that could not be indexed."""
    with service.library.catalog.snapshot() as snapshot:
        reasons = {failed.path: failed.failure for failed in snapshot.failures()}
        items = {
            path: [
                item.id
                for item in snapshot.items(
                    service.engine.space.id,
                    where=Filter(source=path),
                    modality=None,
                    after=0,
                    limit=_MOST_ITEMS,
                )
            ]
            for path in paths
        }
    reasons |= {
        path: "it was deleted before it could be indexed"
        for path in paths
        if path not in reasons and not items[path] and not os.path.lexists(path)
    }
    failed = [path for path in paths if path in reasons]
    folder.discard(failed)
    if failed:
        hide_files(service.library, failed)
    return [
        {"path": valid_text(path), "item_ids": items[path], "failure": reasons.get(path)}
        for path in paths
    ]
