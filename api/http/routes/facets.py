"""Facets: counts of items by year, folder, camera and so on."""

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from api.http.routes.dependencies import CurrentService, require
from api.http.routes.search import read_question
from api.http.schemas.facets import FacetsLimit, FacetsRequest, FacetsSchema
from api.http.search_body import BODY, parse_where, read_search_body
from retrieval.search.query import Query as Question
from retrieval.search.query import TextPart, parse_modalities

router = APIRouter(prefix="/v1/facets", tags=["search"], dependencies=[Depends(require("read"))])


@router.get("")
async def facets(asked: Annotated[FacetsRequest, Query()], service: CurrentService) -> FacetsSchema:
    """Count all items, those that pass a filter, or the hits of a text."""
    where = parse_where(asked.where)
    question = None
    if asked.text is not None:
        question = Question(
            (TextPart(asked.text),),
            modality=asked.modality,
            where=where,
            min_relevance=asked.min_relevance,
        )
    count = partial(
        service.engine.facets, question, where=where, modality=asked.modality, limit=asked.limit
    )
    return FacetsSchema.of(await service.on_inference_thread(count))


@router.post("", openapi_extra={"requestBody": BODY})
async def search_facets(
    request: Request, asked: Annotated[FacetsLimit, Query()], service: CurrentService
) -> FacetsSchema:
    """Count the hits of a search, whose body this is; without parts, what passes its filter.

    Of `any`, pictures are counted.
    """
    body = await read_search_body(request)
    has_parts = body.parts or body.uploads
    count = partial(
        service.engine.facets,
        await read_question(service, body) if has_parts else None,
        where=body.request.where,
        modality=parse_modalities(body.request.modality)[0],
        limit=asked.limit,
    )
    return FacetsSchema.of(await service.on_inference_thread(count))
