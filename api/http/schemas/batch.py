"""Several searches in one request."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from api.http.schemas.problems import Problem
from api.http.schemas.search import SearchRequest, ServedAnswer

MAX_QUERIES = 100


class BatchRequest(BaseModel):
    """Queries, each as the body of a search."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"queries": [{"text": "a dog"}, {"text": "a cat"}]}]},
    )

    queries: Annotated[
        list[SearchRequest],
        Field(min_length=1, max_length=MAX_QUERIES, description="Bodies of searches."),
    ]


class BatchEntry(BaseModel):
    """The answer to one query, or why there is none."""

    answer: Annotated[ServedAnswer | None, Field(description="null: it failed.")] = None
    problem: Annotated[Problem | None, Field(description="null: it was answered.")] = None


class BatchAnswer(BaseModel):
    """One entry a query, in the order of the queries."""

    answers: list[BatchEntry]
