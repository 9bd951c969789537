"""Searching."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from api.http.middleware.access import is_own_user
from api.http.query_images import Pixels, read_query_images
from api.http.query_sounds import Samples, read_query_sounds
from api.http.routes.dependencies import CurrentService, Service, require
from api.http.routes.items import ItemId, current_item
from api.http.schemas import SearchRequest, ServedAnswer, SimilarRequest
from api.http.search_body import BODY, SearchBody, read_search_body
from retrieval.media.images import LEAST_SIDE
from retrieval.rerankers.registry import AUTO
from retrieval.search.answer import StageTimer
from retrieval.search.joint import Asked
from retrieval.search.query import ItemPart, JointQuery, Mode, Reranking, parse_modalities
from retrieval.search.query import Query as Question

_MANY_HITS = 100
"""More take long enough to write down that other requests would notice."""

_SHOWN_AT_ONCE = 60
"""Hits of an answer that are taken for shown; of others, those whose thumbnails are asked for."""

router = APIRouter(prefix="/v1", tags=["search"], dependencies=[Depends(require("read"))])


@router.post("/search", response_model=ServedAnswer, openapi_extra={"requestBody": BODY})
async def search(request: Request, service: CurrentService) -> Response:
    """Find images, chunks of text and sounds by texts, images, sounds and items with weights.

    The body is JSON, or a form with that JSON in the field `request`, image files in `image` and
    sound files in `audio`.
    """
    clock = StageTimer()
    with clock("decode"):
        body = await read_search_body(request)
        question = await read_question(service, body)
    joint, reranking = joint_query(request, service, body.request, question)
    return await answer_query(service, joint, reranking, body.query, clock.timings_ms)


@router.get("/items/{item_id}/similar", response_model=ServedAnswer)
async def similar(
    request: Request,
    item_id: ItemId,
    asked: Annotated[SimilarRequest, Query()],
    service: CurrentService,
) -> Response:
    """Find the items most similar to an item, without the item itself."""
    item = await run_in_threadpool(current_item, service, item_id)

    question = Question(
        (ItemPart(item_id),),
        k=asked.k,
        modality=asked.modality or item.modality,
        mode=Mode.VECTOR,
        group_by_file=asked.group_by_file,
        cursor=asked.cursor,
    )
    reranking = _reranking(request, service, asked)
    return await answer_query(service, question, reranking, f"item {item_id}", {})


def joint_query(
    request: Request, service: Service, asked: SearchRequest, question: Question
) -> tuple[JointQuery, Reranking]:
    """Make what the engines are asked, with the reranker."""
    joint = JointQuery(question, parse_modalities(asked.modality), tuple(asked.spaces))
    return joint, _reranking(request, service, asked)


async def read_question(service: Service, body: SearchBody) -> Question:
    """Make the query of a body, of `any` for pictures; raises UsageError without parts."""
    asked = body.request
    pixels: list[Pixels] = []
    if images := body.images:
        pixels = await service.decoding.run_apart(
            read_query_images, images, service.settings.max_pixels, LEAST_SIDE
        )
    samples: list[Samples] = []
    if sounds := body.sounds:
        samples = await service.decoding.run_apart(read_query_sounds, sounds)
    return Question(
        body.query_parts(pixels, samples),
        k=asked.k,
        modality=parse_modalities(asked.modality)[0],
        where=asked.where,
        mode=asked.mode,
        min_relevance=asked.min_relevance,
        group_by_file=asked.group_by_file,
        diversity=asked.diversity,
        cursor=asked.cursor,
        sort=asked.sort,
        parse=asked.parse,
        literal=tuple(asked.literal),
    )


def _reranking(
    request: Request, service: Service, asked: SearchRequest | SimilarRequest
) -> Reranking:
    """Choose the reranker of the service; for a terminal on this machine, its own choice."""
    name: str = asked.rerank
    if name == AUTO and not is_own_user(request.scope):
        name = service.settings.rerank
    if isinstance(asked, SimilarRequest):
        return Reranking(name)
    return Reranking(name, asked.rerank_depth, asked.rerank_budget_ms)


async def answer_query(
    service: Service,
    question: Asked,
    reranking: Reranking,
    query: str | None,
    timings_ms: dict[str, float],
) -> Response:
    """Search, and write the answer down. timings_ms: of stages before the engine's."""
    answer = await service.inference.search(question, reranking)
    service.show(hit.item for hit in answer.hits[:_SHOWN_AT_ONCE])

    def written() -> str:
        return ServedAnswer.of(answer, query, timings_ms=timings_ms).model_dump_json()

    many = len(answer.hits) > _MANY_HITS
    body = await run_in_threadpool(written) if many else written()
    return Response(body, media_type="application/json")
