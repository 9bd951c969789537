"""`GET /v1/search`: the same hits as for a body, filters as parameters."""

import json

import pytest


def hits(answer) -> list[dict]:
    assert answer.status_code == 200, answer.text
    return answer.json()["hits"]


@pytest.mark.parametrize(
    ("parameters", "body"),
    [
        ({"q": "blue"}, {"text": "blue"}),
        ({"item": 1, "k": 2}, {"item": 1, "k": 2}),
        ({"q": "blue", "rerank": "none", "sort": "date-asc", "min_relevance": 0},
         {"text": "blue", "rerank": "none", "sort": "date-asc", "min_relevance": 0}),
        ({"q": "blue", "kind": ["image", "video"]},
         {"text": "blue", "where": {"kind": ["image", "video"]}}),
        ({"q": "blue", "path": ["*green*", "*red*"]},
         {"text": "blue", "where": {"or": [{"path": "*green*"}, {"path": "*red*"}]}}),
        ({"q": "blue", "since": "2000", "before": "2100-01-01", "where": '{"width": {"min": 1}}'},
         {"text": "blue", "where": {"taken_at": {"since": "2000-01-01"}, "width": {"min": 1}}}),
        ({"q": "blue", "keyword": ["nobody", "has"]},
         {"text": "blue", "where": {"keyword": "nobody"}}),
    ],
)  # fmt: skip
def test_parameters_find_what_a_body_does(client, parameters, body):
    found = hits(client.get("/v1/search", params=parameters))
    assert found == hits(client.post("/v1/search", json=body))


def test_a_filter_leaves_some_out_and_pages_go_on(client):
    everything = hits(client.get("/v1/search", params={"q": "blue", "k": 100}))
    green = hits(client.get("/v1/search", params={"q": "blue", "path": "*green*"}))
    assert 0 < len(green) < len(everything)
    first = client.get("/v1/search", params={"q": "blue", "k": 1}).json()
    second = client.get(
        "/v1/search", params={"q": "blue", "k": 1, "cursor": first["next_cursor"]}
    ).json()
    assert second["hits"][0]["item_id"] == everything[1]["item_id"]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({}, "query is empty"),
        ({"q": ""}, "q"),
        ({"q": "x", "k": 0}, "k"),
        ({"q": "x", "nonsense": 1}, "nonsense"),
        ({"q": "x", "kind": "photo"}, "kind"),
        ({"q": "x", "since": "soon"}, "since"),
        ({"q": "x", "since": "2020", "before": "2019"}, "earlier date first"),
        ({"q": "x", "where": "{"}, "where"),
        ({"q": "x", "where": json.dumps({"kind": []})}, "where"),
    ],
)
def test_what_is_wrong_is_said(client, parameters, said):
    answer = client.get("/v1/search", params=parameters)
    assert answer.status_code == 422
    assert said in answer.json()["detail"]
