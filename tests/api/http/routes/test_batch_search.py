"""Several searches in a request: the answers of single ones, in order, whatever fails."""

import pytest

from api.http.schemas.batch import MAX_QUERIES


def without_times(answer: dict) -> dict:
    return {key: value for key, value in answer.items() if key not in {"timings_ms", "expected"}}


def test_each_answer_is_that_of_a_single_search(client):
    queries = [{"text": word, "k": k} for word in ("blue", "red", "green") for k in (1, 2, 3)]
    queries.append({"item": 1})
    answer = client.post("/v1/search/batch", json={"queries": queries})
    assert answer.status_code == 200
    entries = answer.json()["answers"]
    assert [entry["problem"] for entry in entries] == [None] * len(queries)
    for query, entry in zip(queries, entries, strict=True):
        single = client.post("/v1/search", json=query).json()
        found, expected = without_times(entry["answer"]), without_times(single)
        for hit in (*found["hits"], *expected["hits"]):
            for score in ("similarity", "relevance"):
                hit[score] = round(hit[score] or 0, 4)
        assert found == expected


def test_a_query_that_fails_loses_no_other(client):
    queries = [{"text": "blue"}, {"item": 99_999}, {"text": "x", "cursor": "no"}, {}, {"text": "y"}]
    entries = client.post("/v1/search/batch", json={"queries": queries}).json()["answers"]
    told = [entry["problem"] and entry["problem"]["status"] for entry in entries]
    assert told == [None, 404, 422, 422, None]
    assert [entry["answer"] is None for entry in entries] == [False, True, True, True, False]
    assert "empty" in entries[3]["problem"]["detail"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"queries": []}, "queries"),
        ({"queries": [{"text": "x"}] * (MAX_QUERIES + 1)}, "queries"),
        ({"queries": [{"text": "x"}, {"text": "y", "kk": 3}]}, "queries.1.kk"),
        ({"queries": [{"text": "x", "k": "3"}]}, "queries.0.k"),
        ({}, "queries"),
    ],
)
def test_a_body_that_is_wrong_is_refused_with_the_place(client, body, said):
    answer = client.post("/v1/search/batch", json=body)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]


def test_as_many_queries_as_are_allowed_are_answered(client):
    queries = [{"text": f"word {number}", "k": 1} for number in range(MAX_QUERIES)]
    entries = client.post("/v1/search/batch", json={"queries": queries}).json()["answers"]
    assert all(entry["answer"]["hits"] for entry in entries)
