"""Searching."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from api.http.routes.answers import answer_response
from api.http.routes.dependencies import CurrentService, Service, require
from api.http.routes.items import ItemId, current_item
from api.http.schemas import SearchRequest, ServedAnswer, SimilarRequest
from api.http.search_body import BODY, read_search_body
from retrieval.rerankers.registry import NONE
from retrieval.search.answer import StageTimer
from retrieval.search.query import ItemPart, Mode, Reranking
from retrieval.search.query import Query as Question

router = APIRouter(prefix="/v1", tags=["search"], dependencies=[Depends(require("read"))])


@router.post("/search", response_model=ServedAnswer, openapi_extra={"requestBody": BODY})
async def search(request: Request, service: CurrentService) -> Response:
    """Find images or passages by texts, images and items, each to be near to or far from.

    The body is JSON, or a form with that JSON in the field `request` and image files in `image`.
    """
    clock = StageTimer()
    with clock("decode"):
        body = await read_search_body(request)
        asked = body.request
        max_pixels = service.settings.max_pixels
        if body.has_images:
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
    answer = await service.search(question, _reranking(service, asked))
    return await answer_response(answer, body.query, clock.timings_ms)


@router.get("/items/{item_id}/similar", response_model=ServedAnswer)
async def similar(
    item_id: ItemId, asked: Annotated[SimilarRequest, Query()], service: CurrentService
) -> Response:
    """Find what is most like an item, without the item itself."""
    item = await run_in_threadpool(current_item, service, item_id)

    question = Question(
        (ItemPart(item_id),),
        k=asked.k,
        modality=asked.modality or item.modality,
        mode=Mode.VECTOR,
        group_by_file=asked.group_by_file,
        cursor=asked.cursor,
    )
    answer = await service.search(question, Reranking(_reranker(service, asked)))
    return await answer_response(answer, f"item {item_id}")


def _reranking(service: Service, asked: SearchRequest) -> Reranking:
    return Reranking(_reranker(service, asked), asked.rerank_depth, asked.rerank_budget_ms)


def _reranker(service: Service, asked: SearchRequest | SimilarRequest) -> str:
    return service.settings.rerank if asked.rerank == "auto" else NONE
