"""The JSON of errors, which RFC 9457 prescribes."""

import pytest

from api.http.schemas import Problem


@pytest.mark.parametrize(
    ("method", "path", "status", "title"),
    [
        ("GET", "/nowhere", 404, "Not Found"),
        ("GET", "/v1/items/999", 404, "Not Found"),
        ("PUT", "/v1/search", 405, "Method Not Allowed"),
        ("POST", "/v1/search", 422, "Unprocessable"),
    ],
)
def test_errors_have_the_members_of_the_standard(client, method, path, status, title):
    answer = client.request(method, path)
    assert set(answer.json()) == set(Problem.model_fields)
    problem = Problem.model_validate(answer.json())
    assert (problem.type, problem.status) == ("about:blank", status)
    assert answer.status_code == status
    assert problem.title.startswith(title)
    assert problem.detail
