"""Answers of the engine as responses."""

from collections.abc import Mapping

from fastapi import Response
from starlette.concurrency import run_in_threadpool

from api.http.schemas import ServedAnswer
from retrieval.search.answer import Answer

_MANY_HITS = 100
"""More take long enough to write down that other requests would notice."""


async def answer_response(
    answer: Answer, query: str | None, timings_ms: Mapping[str, float] = {}
) -> Response:
    """Write an answer down; `timings_ms` are of stages before the engine's."""

    def written() -> str:
        return ServedAnswer.of(answer, query, timings_ms).model_dump_json()

    many = len(answer.hits) > _MANY_HITS
    body = await run_in_threadpool(written) if many else written()
    return Response(body, media_type="application/json")
