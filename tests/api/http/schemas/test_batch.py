"""Bodies of several searches."""

import pytest
from pydantic import ValidationError

from api.http.schemas.batch import MAX_QUERIES, BatchAnswer, BatchRequest


def test_queries_are_bodies_of_searches():
    body = '{"queries": [{"text": "a dog", "k": 3}, {"item": 1, "where": {"path": "*.jpg"}}]}'
    batch = BatchRequest.model_validate_json(body, strict=True)
    assert [query.k for query in batch.queries] == [3, 10]
    assert batch.queries[1].where.path == "*.jpg"


@pytest.mark.parametrize("count", [0, MAX_QUERIES + 1])
def test_the_number_of_queries_is_limited(count):
    with pytest.raises(ValidationError, match="queries"):
        BatchRequest.model_validate({"queries": [{"text": "x"}] * count})


def test_an_entry_has_a_problem_or_an_answer():
    told = {"answers": [{"problem": {"title": "Not Found", "status": 404, "detail": "no item"}}]}
    [entry] = BatchAnswer.model_validate(told).answers
    assert entry.answer is None
    assert entry.problem.status == 404
