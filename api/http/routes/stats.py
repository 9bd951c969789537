"""Contents and indices of the library."""

from importlib.metadata import version
from pathlib import Path
from shlex import quote

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool

from api.http.routes.dependencies import CurrentService, Service, require
from api.http.schemas import valid_text
from api.http.schemas.notes import PassedOver
from api.http.schemas.stats import CacheStats, IndexStats, KnownLanguages, Stats
from retrieval.catalog.paths import is_there
from retrieval.encoders.modalities import modalities_of
from retrieval.indices import generations
from retrieval.indices.build import reasons_for
from retrieval.indices.maintenance import committed_rows
from retrieval.lance.library import table_of
from retrieval.lance.vector_index import facts_of
from retrieval.library import Library
from retrieval.media import Modality
from retrieval.objects.paths import given_uri
from retrieval.recognition.base import Task
from retrieval.recognition.registry import can_find_text_in_pictures
from retrieval.search.cut import AUTO

router = APIRouter(prefix="/v1", tags=["library"], dependencies=[Depends(require("read"))])


@router.get("/stats")
async def stats(request: Request, service: CurrentService) -> Stats:
    """Describe the library, its indices, and the scopes of the caller."""
    reranker = await service.on_inference_thread(
        lambda: service.engine.reranker(service.settings.rerank)
    )
    return await run_in_threadpool(
        _stats, service, reranker.name if reranker else None, sorted(request.state.client.scopes)
    )


def _stats(service: Service, reranker: str | None, scopes: list[str]) -> Stats:
    space, cache = service.engine.space, service.engine.vector_cache
    with service.library.catalog.snapshot() as snapshot:
        counts = snapshot.counts(space.id)
        of_sound = service.engine_for(Modality.AUDIO).space
        sounds = counts.items[Modality.AUDIO]
        if of_sound != space:
            sounds = snapshot.counts(of_sound.id).items[Modality.AUDIO]
        sources, seen = snapshot.sources(), snapshot.seen()
        kinds, taken_between = snapshot.kinds(), snapshot.taken_between()
        cameras, columns = snapshot.cameras(), snapshot.columns()
    return Stats(
        version=version("mmsearch"),
        images=counts.items[Modality.IMAGE],
        texts=counts.items[Modality.TEXT],
        sounds=sounds,
        files_indexed=counts.indexed,
        files_failed=counts.failed,
        files_noted=counts.noted,
        files_removed=counts.removed,
        items_hidden=counts.hidden,
        files_dated_by_mtime=counts.dated_by_mtime,
        passed_over=PassedOver(endings=seen.endings, system_folders=seen.system_folders),
        sources=[valid_text(source) for source in sources],
        missing_sources=[valid_text(source) for source in sources if not is_there(source)],
        kinds=kinds,
        taken_between=taken_between,
        cameras=cameras,
        columns=columns,
        space=space.id,
        spaces=service.library.space_ids(),
        searched_spaces=list(service.settings.spaces) or [space.id],
        encoder=space.encoder,
        dimension=space.dimension,
        languages=(
            KnownLanguages(known=sorted(languages.known), are_all=languages.are_all)
            if (languages := service.engine.languages)
            else None
        ),
        reranker=reranker,
        default_min_relevance=AUTO,
        indices=[
            _index(service, modality)
            for modality in Modality
            if modality in modalities_of(space.encoder)
        ],
        vector_cache=CacheStats(hits=cache.hits, misses=cache.misses),
        texts_by=_models(service.library),
        can_find_text_in_pictures=can_find_text_in_pictures(),
        can_describe_images=service.captioning is not None,
        uploads=service.uploads is not None,
        max_upload_bytes=int(service.settings.max_body_mb * 1e6),
        index_below=[
            valid_text(given_uri(folder) or str(folder))
            for folder in service.settings.index_below
            if "write" in scopes
        ],
        first_command=valid_text(
            f"mmsearch index ~/Pictures --library {quote(service.library.location)}"
        ),
        warnings=[valid_text(warning) for warning in service.library.warnings],
        scopes=scopes,
        jobs_waiting=sum(not job.is_finished for job in service.jobs.jobs()),
    )


def _models(library: Library) -> dict[Task, str]:
    """Return the models that look for texts; of one in a folder only the folder's name."""
    if library.is_table:
        return {}
    shown = {}
    for task, name in library.enrichment.items():
        folder = Path(name)
        shown[task] = valid_text(folder.name if folder.is_absolute() else name)
    return shown


def _index(service: Service, modality: Modality) -> IndexStats:
    space = service.engine.space
    if service.library.is_table:
        facts = facts_of(table_of(service.library), modality)
        return IndexStats(
            modality=modality,
            kind=facts["kind"],
            rows=facts["rows"],
            rows_covered=facts["rows_covered"],
            generation=None,
            created=None,
            reasons=facts["reasons"],
        )
    rows = committed_rows(service.library, space, modality)
    present = generations.latest(service.library.space_directory(space), modality, rows)
    return IndexStats(
        modality=modality,
        kind=present.kind if present else "exact",
        rows=len(rows),
        rows_covered=present.rows if present else 0,
        generation=present.number if present else None,
        created=present.created if present else None,
        reasons=reasons_for(len(rows), present),
    )
