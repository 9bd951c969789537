"""Searching."""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from api.http.routes.dependencies import CurrentService, Service, require
from api.http.routes.items import ItemId, current_item
from api.http.schemas import SearchRequest, ServedAnswer, SimilarRequest
from api.http.search_body import BODY, read_search_body
from retrieval.rerankers.registry import NONE
from retrieval.search.answer import Answer, StageTimer
from retrieval.search.query import ItemPart, Mode, Reranking
from retrieval.search.query import Query as Question

_MANY_HITS = 100
"""More take long enough to write down that other requests would notice."""

router = APIRouter(prefix="/v1", tags=["search"], dependencies=[Depends(require("read"))])


@router.post("/search", response_model=ServedAnswer, openapi_extra={"requestBody": BODY})
async def search(request: Request, service: CurrentService) -> Response:
    """Find images or chunks of text by texts, images and items with signed weights.

    The body is JSON, or a form with that JSON in the field `request` and image files in `image`.
    """
    clock = StageTimer()
    with clock("decode"):
        body = await read_search_body(request)
        asked = body.request
        max_pixels = service.settings.max_pixels
        if body.uploads or any(part.image for part in asked.all_parts):
            parts = await service.decoding.run(lambda: body.parts(max_pixels))
        else:
            parts = body.parts(max_pixels)
    question = Question(
        parts,
        k=asked.k,
        modality=asked.modality,
        where=asked.where,
        mode=asked.mode,
        min_relevance=asked.min_relevance,
        group_by_file=asked.group_by_file,
        diversity=asked.diversity,
        cursor=asked.cursor,
    )
    answer = await service.inference.search(
        question,
        Reranking(_reranker(service, asked), asked.rerank_depth, asked.rerank_budget_ms),
    )
    return await _answer_response(answer, body.query, clock.timings_ms)


@router.get("/items/{item_id}/similar", response_model=ServedAnswer)
async def similar(
    item_id: ItemId, asked: Annotated[SimilarRequest, Query()], service: CurrentService
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
    answer = await service.inference.search(question, Reranking(_reranker(service, asked)))
    return await _answer_response(answer, f"item {item_id}")


def _reranker(service: Service, asked: SearchRequest | SimilarRequest) -> str:
    return service.settings.rerank if asked.rerank == "auto" else NONE


async def _answer_response(
    answer: Answer, query: str | None, timings_ms: Mapping[str, float] = {}
) -> Response:
    """Write an answer down; `timings_ms` are of stages before the engine's."""

    def written() -> str:
        return ServedAnswer.of(answer, query, timings_ms).model_dump_json()

    many = len(answer.hits) > _MANY_HITS
    body = await run_in_threadpool(written) if many else written()
    return Response(body, media_type="application/json")
