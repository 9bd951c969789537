"""Upload files to the library, and delete items."""

import os
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Query, Response, UploadFile
from starlette.concurrency import run_in_threadpool

from api.http.indexing_process import IndexingRequest, Outcome
from api.http.jobs import TooManyJobsError
from api.http.routes.dependencies import CurrentService, Service, require
from api.http.routes.items import ItemId, item_in
from api.http.schemas import valid_text
from api.http.schemas.jobs import JobKind, JobSchema, Removal
from api.http.uploads import Received, UploadFolder
from indexer.pipeline import hide_files
from retrieval.catalog import Item
from retrieval.catalog.paths import is_at_or_below
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
    response: Response,
    wait: Annotated[
        bool, Query(description="Answer when the files are indexed, or after a minute.")
    ] = False,
) -> JobSchema:
    """Upload files to the library: all of them, or none if one is refused.

    They are checked by their content and stored in the uploads directory. The answer is the job
    that indexes them: 200 when it has finished, 202 while it runs.
    """
    folder = _upload_folder(service)
    received = [Received(file.filename or "", file.file) for file in files]
    paths = [os.fspath(path) for path in await run_in_threadpool(folder.add, received)]

    async def finish(_outcome: Outcome) -> dict[str, Any]:
        return {"files": await run_in_threadpool(_upload_results, service, folder, paths)}

    try:
        job = service.jobs.submit(
            JobKind.UPLOAD, IndexingRequest(sources=(os.fspath(folder.path),)), finish
        )
    except TooManyJobsError:
        await run_in_threadpool(folder.discard, paths)
        raise
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
        comes_back=is_in_source and os.path.lexists(item.path),
    )


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
    service: Service, folder: UploadFolder, paths: list[str]
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
    failed = [path for path in paths if path in reasons]
    folder.discard(failed)
    hide_files(service.library, failed)
    return [
        {"path": valid_text(path), "item_ids": items[path], "failure": reasons.get(path)}
        for path in paths
    ]
