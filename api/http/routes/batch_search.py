"""Several searches in one request, encoded together."""

import asyncio
from functools import partial
from typing import Any

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from api.http.problems import problem_of, status_of
from api.http.routes.dependencies import CurrentService, Service, require
from api.http.routes.search import joint_query, read_question
from api.http.schemas import SearchRequest, ServedAnswer
from api.http.schemas.batch import BatchAnswer, BatchEntry, BatchRequest
from api.http.search_body import JSON, read_json_body, search_body
from retrieval.errors import MMSearchError

router = APIRouter(prefix="/v1", tags=["search"], dependencies=[Depends(require("read"))])


_BODY: dict[str, Any] = {
    "required": True,
    "content": {JSON: {"schema": {"$ref": "#/components/schemas/BatchRequest"}}},
}


@router.post("/search/batch", response_model=BatchAnswer, openapi_extra={"requestBody": _BODY})
async def batch_search(request: Request, service: CurrentService) -> Response:
    """Answer several searches; one that fails has a `problem` instead of an `answer`.

    A body in which something is missing, unknown or out of range is refused as a whole.
    """
    batch = await read_json_body(request, BatchRequest)
    slots = asyncio.Semaphore(service.settings.batch)

    async def one(asked: SearchRequest) -> BatchEntry:
        async with slots:
            try:
                return await _entry(request, service, asked)
            except MMSearchError as error:
                return BatchEntry(problem=problem_of(status_of(error), str(error)))

    entries = await asyncio.gather(*(one(asked) for asked in batch.queries))
    content = await run_in_threadpool(BatchAnswer(answers=list(entries)).model_dump_json)
    return Response(content, media_type="application/json")


async def _entry(request: Request, service: Service, asked: SearchRequest) -> BatchEntry:
    body = search_body(asked)
    question = await read_question(service, body)
    joint, reranking = joint_query(request, service, asked, question)
    answer = await service.inference.search(joint, reranking)
    written = partial(ServedAnswer.of, answer, body.query)
    return BatchEntry(answer=await run_in_threadpool(written))
