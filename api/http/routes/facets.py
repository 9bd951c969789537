"""Facets: counts of items by year, folder, camera and so on."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from api.http.routes.dependencies import CurrentService, Service, require
from api.http.routes.search import read_question
from api.http.schemas.facets import (
    CountedItems,
    FacetsLimit,
    FacetsRequest,
    FacetsSchema,
    FacetValuesOfText,
    FacetValuesRequest,
    FacetValuesSchema,
)
from api.http.search_body import BODY, parse_where, read_search_body
from retrieval.search.query import Query as Question
from retrieval.search.query import TextPart, parse_modalities

router = APIRouter(prefix="/v1/facets", tags=["search"], dependencies=[Depends(require("read"))])


@router.get("")
async def facets(asked: Annotated[FacetsRequest, Query()], service: CurrentService) -> FacetsSchema:
    """Count all items, those that pass a filter, or the hits of a text."""
    counted = _counted(asked)
    engine = service.engine_for(counted["modality"])
    count = partial(engine.facets, limit=asked.limit, **counted)
    return FacetsSchema.of(await service.on_inference_thread(count))


@router.post("", openapi_extra={"requestBody": BODY})
async def search_facets(
    request: Request, asked: Annotated[FacetsLimit, Query()], service: CurrentService
) -> FacetsSchema:
    """Count the hits of a search, whose body this is; without parts, what passes its filter.

    Of `any`, pictures are counted.
    """
    counted = await _counted_by_body(request, service)
    engine = service.engine_for(counted["modality"])
    count = partial(engine.facets, limit=asked.limit, **counted)
    return FacetsSchema.of(await service.on_inference_thread(count))


@router.get("/values")
async def facet_values(
    asked: Annotated[FacetValuesOfText, Query()], service: CurrentService
) -> FacetValuesSchema:
    """List the values of one facet, level by level or by a part of their names."""
    engine = service.engine_for(asked.modality)
    count = partial(engine.facet_values, asked.question, **_counted(asked))
    return FacetValuesSchema.of(await service.on_inference_thread(count))


@router.post("/values", openapi_extra={"requestBody": BODY})
async def search_facet_values(
    request: Request, asked: Annotated[FacetValuesRequest, Query()], service: CurrentService
) -> FacetValuesSchema:
    """List the values of one facet among the hits of a search, whose body this is."""
    question = asked.question
    counted = await _counted_by_body(request, service)
    engine = service.engine_for(counted["modality"])
    count = partial(engine.facet_values, question, **counted)
    return FacetValuesSchema.of(await service.on_inference_thread(count))


def _counted(asked: CountedItems) -> dict[str, Any]:
    """What is counted, as arguments of the engine."""
    where = parse_where(asked.where)
    query = None
    if asked.text is not None:
        query = Question(
            (TextPart(asked.text),),
            modality=asked.modality,
            where=where,
            min_relevance=asked.min_relevance,
        )
    return {"query": query, "where": where, "modality": asked.modality}


async def _counted_by_body(request: Request, service: Service) -> dict[str, Any]:
    body = await read_search_body(request)
    return {
        "query": await read_question(service, body) if body.parts else None,
        "where": body.request.where,
        "modality": parse_modalities(body.request.modality)[0],
    }
