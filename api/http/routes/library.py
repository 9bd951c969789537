"""The library as a whole: create it, ask whether it has changed, and what it takes on disk."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from starlette.concurrency import run_in_threadpool

from api.http.routes.dependencies import CurrentService, NoLibrary, PossibleService, require
from api.http.schemas import valid_text
from api.http.schemas.library import (
    Changes,
    Creation,
    LibraryRequest,
    SpaceSchema,
    StorageBytes,
    StorageSchema,
)
from retrieval.encoders.registry import AUTO, choose_encoder, load_encoder
from retrieval.errors import UsageError
from retrieval.integrity.storage import measure_storage
from retrieval.library import create_library
from retrieval.media import Modality
from retrieval.search.routes import default_spaces
from retrieval.spaces import list_spaces

router = APIRouter(prefix="/v1", tags=["library"])

_MOST_ADDED = 10_000


@router.post(
    "/library",
    status_code=HTTPStatus.CREATED,
    responses={200: {"model": Creation}},
    dependencies=[Depends(require("write"))],
)
async def create(
    service: PossibleService, response: Response, request: LibraryRequest | None = None
) -> Creation:
    """Create an empty library where the service waits for one, which it then opens by itself.

    Only where the service may fill it: with `--index-below` or `--uploads`. A library that is there
    already stays as it is.
    """
    if not isinstance(service, NoLibrary):
        response.status_code = HTTPStatus.OK
        return Creation(created=False, encoder=service.engine.space.encoder)
    if not service.may_create:
        raise UsageError(
            "This service can fill no library: start it with `--index-below DIR` or "
            f"`--uploads DIR`, or run `{service.command}` on its machine."
        )
    encoder = await run_in_threadpool(_create, service, request.language if request else None)
    return Creation(created=True, encoder=encoder)


def _create(service: NoLibrary, language: str | None) -> str:
    encoder = load_encoder(choose_encoder(AUTO, language).name, service.device)
    return create_library(service.directory, encoder.space).space().encoder


After = Annotated[int, Query(ge=0, description="Id of the newest item that is known already.")]


@router.get("/changes", dependencies=[Depends(require("read"))])
def changes(service: CurrentService, after: After = 0) -> Changes:
    """Tell whether the library has changed, and how much was added: cheap enough to ask often."""
    # Asked for before the snapshot: it may be of a later version, and then is told once more.
    revision = service.library.catalog.dialect.version()
    with service.library.catalog.snapshot() as snapshot:
        last, added = snapshot.added_after(service.engine.space.id, after, _MOST_ADDED)
        of_sound = service.engine_for(Modality.AUDIO)
        if of_sound is not service.engine:
            last_sound, added_there = snapshot.added_after(of_sound.space.id, after, _MOST_ADDED)
            last, added[Modality.AUDIO] = max(last, last_sound), added_there[Modality.AUDIO]
    return Changes(
        revision=revision,
        last_item=last,
        images=added[Modality.IMAGE],
        texts=added[Modality.TEXT],
        sounds=added[Modality.AUDIO],
        jobs=sum(not job.is_finished for job in service.jobs.jobs()),
    )


@router.get("/storage", dependencies=[Depends(require("read"))])
def storage(service: CurrentService) -> StorageSchema:
    """Measure what the library takes on disk, and describe its spaces."""
    library = service.library
    measured = measure_storage(library)
    searched = service.settings.spaces or default_spaces(library)
    return StorageSchema(
        library=valid_text(library.location),
        bytes=StorageBytes(**vars(measured), total=measured.total),
        token_cache_limit=library.tokens.settings.limit_bytes,
        spaces=[
            SpaceSchema(
                id=space.id,
                encoder=space.encoder,
                dimension=space.dimension,
                is_default=space.is_default,
                is_searched=space.id in searched,
                images=space.items[Modality.IMAGE],
                texts=space.items[Modality.TEXT],
                sounds=space.items[Modality.AUDIO],
                files_behind=space.files_behind,
            )
            for space in list_spaces(library)
        ],
        warnings=[valid_text(warning) for warning in library.warnings],
    )
