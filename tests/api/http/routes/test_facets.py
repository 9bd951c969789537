"""`GET` and `POST /v1/facets`."""

import json
from pathlib import Path

import pytest


def values(facet):
    return {found["value"]: found["count"] for found in facet}


@pytest.fixture
def source(coloured_library):
    with coloured_library.catalog.snapshot() as snapshot:
        [source] = snapshot.sources()
        return source


def test_everything_is_counted(client, source):
    facets = client.get("/v1/facets").json()
    assert (facets["total"], facets["is_partial"]) == (4, False)
    assert values(facets["kinds"]) == {"image": 4}
    assert values(facets["folders"]) == {source: 4}
    by_year = values(facets["years"])  # files just written have no date yet
    assert sum(by_year.values()) == sum(month["count"] for month in facets["months"]) <= 4
    assert facets["cameras"] == facets["places"] == []
    assert facets["columns"] == {}


def test_a_filter_is_counted_either_way(client, source):
    where = {"path": "*green*"}
    got = client.get("/v1/facets", params={"where": json.dumps(where)}).json()
    posted = client.post("/v1/facets", json={"where": where}).json()
    assert got == posted
    assert values(got["folders"]) == {source: 1}
    assert client.get("/v1/facets", params={"modality": "text"}).json()["total"] == 0
    assert client.post("/v1/facets", json={"where": where, "modality": "any"}).json() == posted


def test_the_hits_of_a_search_are_counted(client):
    body = {"text": "red", "mode": "text"}
    hits = client.post("/v1/search", json=body).json()["hits"]
    assert [Path(hit["path"]).name for hit in hits] == ["0-red.png"]
    assert client.post("/v1/facets", json=body).json()["total"] == 1
    found = client.get("/v1/facets", params={"text": "zzz", "min_relevance": 1}).json()
    assert found["total"] == 0


@pytest.mark.parametrize(
    "asked",
    [{"where": "{"}, {"where": '{"colour": 1}'}, {"limit": 0}, {"limit": 1001}, {"unknown": 1}],
)
def test_what_is_wrong_is_refused(client, asked):
    assert client.get("/v1/facets", params=asked).status_code == 422


def test_a_limit_holds_for_posts_too(client):
    assert client.post("/v1/facets", params={"limit": 0}, json={}).status_code == 422
    assert client.post("/v1/facets", params={"limit": 1}, json={}).json()["total"] == 4


def test_values_of_one_facet(client, source):
    asked = {"facet": "folders"}
    found = client.get("/v1/facets/values", params=asked).json()
    assert found["values"] == [{"value": source, "count": 4, "within": [], "has_more": False}]
    assert (found["total"], found["left_out"], found["is_partial"]) == (4, 0, False)
    posted = client.post("/v1/facets/values", params=asked, json={"where": {"path": "*green*"}})
    assert [value["count"] for value in posted.json()["values"]] == [1]
    kinds = client.get("/v1/facets/values", params={"facet": "kinds", "contains": "IMA"}).json()
    assert [value["value"] for value in kinds["values"]] == ["image"]
    of_text = client.post("/v1/facets/values", params=asked, json={"text": "red", "mode": "text"})
    assert of_text.json()["total"] == 1


@pytest.mark.parametrize(
    "asked",
    [{}, {"facet": "colours"}, {"facet": "kinds", "below": "x"}, {"facet": "kinds", "limit": 0}],
)
def test_what_is_no_facet_is_refused(client, asked):
    assert client.get("/v1/facets/values", params=asked).status_code == 422
    assert client.post("/v1/facets/values", params=asked, json={}).status_code == 422
