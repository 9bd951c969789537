"""Searching."""

from fastapi import APIRouter, Depends

from api.routes.dependencies import CurrentService, require
from api.schemas import SearchAnswer, SearchRequest, valid_text
from retrieval.engine import Reranking
from retrieval.fusion.registry import NONE
from retrieval.query import Query, TextPart

router = APIRouter(prefix="/v1", tags=["search"], dependencies=[Depends(require("read"))])


@router.post("/search")
async def search(request: SearchRequest, service: CurrentService) -> SearchAnswer:
    """Find the images or passages that are nearest to a text."""
    query = Query((TextPart(request.text),), k=request.k, modality=request.modality)
    reranking = Reranking(
        service.rerank if request.rerank == "auto" else NONE,
        request.rerank_depth,
        request.rerank_budget_ms,
    )
    answer = await service.search(query, reranking)
    body = SearchAnswer.of(answer, request.text)
    for hit in body.hits:
        hit.path = valid_text(hit.path)
    return body
