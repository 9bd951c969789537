"""Searching by an address alone: for links, scripts and `curl`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import ValidationError

from api.http.routes.dependencies import CurrentService, require
from api.http.routes.search import answer_query, joint_query, read_question
from api.http.schemas import SearchRequest, ServedAnswer
from api.http.schemas.simple_search import SimpleSearch
from api.http.search_body import parse_where, search_body
from retrieval.errors import UsageError, first_problem

router = APIRouter(prefix="/v1", tags=["search"], dependencies=[Depends(require("read"))])

_SAME = ("k", "cursor", "modality", "mode", "min_relevance", "group_by_file", "rerank", "sort")


@router.get("/search", response_model=ServedAnswer)
async def simple_search(
    request: Request, asked: Annotated[SimpleSearch, Query()], service: CurrentService
) -> Response:
    """Search by a text or an item, with filters as parameters.

    `POST /v1/search` takes images, weights and all other options.
    """
    try:
        where = asked.filter_with(parse_where(asked.where))
    except ValidationError as error:
        raise UsageError(first_problem(error)) from None
    fields = {name: getattr(asked, name) for name in _SAME}
    wanted = SearchRequest(text=asked.q, item=asked.item, where=where, **fields)
    body = search_body(wanted)
    question = await read_question(service, body)
    joint, reranking = joint_query(request, service, wanted, question)
    return await answer_query(service, joint, reranking, body.query, {})
