import json
import shutil

import pytest
from starlette.testclient import TestClient

from api.http.app import create_app
from api.http.settings import ServiceSettings
from retrieval.errors import ReadOnlyLibraryError
from retrieval.library import Library, open_library

KEYS = "reader:read:a-secret-of-a-reader writer:read,write:a-secret-of-a-writer"
READER = {"Authorization": "Bearer a-secret-of-a-reader"}

pytestmark = pytest.mark.slow


@pytest.fixture
def library(coloured_library, tmp_path):
    """A copy of the library of four pictures, which a test may change."""
    shutil.copytree(coloured_library.path, tmp_path / "library")
    return open_library(tmp_path / "library")


@pytest.fixture
def client(library: Library):
    with TestClient(create_app(library.path, device="cpu"), base_url="http://localhost") as client:
        yield client


@pytest.fixture
def ids(client):
    return [item["item_id"] for item in client.get("/v1/items").json()["items"]]


def listed(client, where=None, **asked):
    if where is not None:
        asked["where"] = json.dumps(where)
    answer = client.get("/v1/items", params=asked)
    assert answer.status_code == 200, answer.text
    return [item["item_id"] for item in answer.json()["items"]]


def test_a_collection_from_its_making_to_its_end(client, ids):
    made = client.post("/v1/collections", json={"name": " Summer/2019 ", "items": ids[2:]})
    assert made.status_code == 201
    collection = made.json()
    assert (collection["name"], collection["items"]) == ("Summer/2019", 2)
    at = f"/v1/collections/{collection['id']}"
    assert client.post(f"{at}/items", json={"items": [ids[0], ids[2]]}).json() == {"changed": 1}
    assert listed(client, {"collection": "summer/2019"}) == [ids[0], *ids[2:]]
    in_order = {"where": {"collection": "summer/2019"}, "order": "collection"}
    assert listed(client, **in_order) == [*ids[2:], ids[0]]
    assert client.delete(f"{at}/items", params={"item": ids[2:]}).json() == {"changed": 2}
    assert client.patch(at, json={"name": "Winter"}).json()["name"] == "Winter"
    assert client.get("/v1/collections").json() == {"collections": [client.get(at).json()]}
    assert client.post("/v1/collections", json={"name": "WINTER"}).status_code == 422
    facets = client.get("/v1/facets").json()
    assert facets["collections"] == [{"value": "Winter", "count": 1}]
    assert client.delete(at).status_code == 204
    for answer in (client.get(at), client.delete(at), client.patch(at, json={"name": "x"})):
        assert answer.status_code == 404
    assert client.post("/v1/collections", json={"name": "x", "items": [999]}).status_code == 404
    assert client.get("/v1/collections").json() == {"collections": []}


def test_pages_of_a_collection_in_its_order(client, ids):
    client.post("/v1/collections", json={"name": "All", "items": ids[::-1]})
    asked = {"where": json.dumps({"collection": "All"}), "order": "collection", "limit": 3}
    first = client.get("/v1/items", params=asked).json()
    asked["cursor"] = first["next_cursor"]
    second = client.get("/v1/items", params=asked).json()
    found = [item["item_id"] for item in first["items"] + second["items"]]
    assert (found, second["next_cursor"]) == (ids[::-1], None)
    assert client.get("/v1/items", params={"order": "collection"}).status_code == 422


def test_hidden_items_are_found_only_by_their_filter(client, ids):
    assert client.post("/v1/hidden", json={"items": ids[:2]}).json() == {"changed": 2}
    assert listed(client) == ids[2:]
    body = {"text": "red", "rerank": "none", "k": 10}
    hits = client.post("/v1/search", json=body).json()["hits"]
    assert {hit["item_id"] for hit in hits} == set(ids[2:])
    hits = client.post("/v1/search", json=body | {"where": {"hidden": True}}).json()["hits"]
    assert {hit["item_id"] for hit in hits} == set(ids[:2])
    assert listed(client, {"hidden": "any"}) == ids
    stats = client.get("/v1/stats").json()
    assert (stats["images"], stats["items_hidden"]) == (len(ids), 2)
    assert client.get(f"/v1/items/{ids[0]}").status_code == 200
    assert client.delete("/v1/hidden", params={"item": ids}).json() == {"changed": 2}
    assert client.post("/v1/hidden", json={"items": [999]}).status_code == 404


def test_saved_searches(client):
    page = {"name": "Dogs", "address": "q=dog&kind=video"}
    request = {"name": "Cats", "request": {"text": "cat", "where": {"hidden": "any"}}}
    for one in (page, request):
        assert client.post("/v1/searches", json=one).status_code == 201
    cats, dogs = client.get("/v1/searches").json()["searches"]
    assert (dogs["address"], dogs["request"]) == ("q=dog&kind=video", None)
    assert cats["request"]["text"] == "cat"
    assert cats["request"]["where"]["hidden"] == "any"
    assert client.post("/v1/search", json=request["request"]).status_code == 200
    assert client.delete(f"/v1/searches/{dogs['id']}").status_code == 204
    assert client.delete(f"/v1/searches/{dogs['id']}").status_code == 404
    for wrong in ({"name": "x"}, {"name": "x", "address": "", "request": {"text": "a"}}):
        assert client.post("/v1/searches", json=wrong).status_code == 422


def test_a_key_that_may_only_read_changes_nothing(library):
    app = create_app(library.path, ServiceSettings(api_keys=KEYS), device="cpu")
    with TestClient(app, base_url="http://localhost", headers=READER) as client:
        [first, *_] = listed(client)
        writes = [
            client.post("/v1/collections", json={"name": "x"}),
            client.patch("/v1/collections/1", json={"name": "x"}),
            client.delete("/v1/collections/1"),
            client.post("/v1/collections/1/items", json={"items": [first]}),
            client.delete("/v1/collections/1/items", params={"item": first}),
            client.post("/v1/hidden", json={"items": [first]}),
            client.delete("/v1/hidden", params={"item": first}),
            client.post("/v1/searches", json={"name": "x", "address": "q=x"}),
            client.delete("/v1/searches/1"),
        ]
        assert {answer.status_code for answer in writes} == {403}
        assert client.get("/v1/collections").json() == {"collections": []}
        del client.headers["Authorization"]
        assert client.get("/v1/collections").status_code == 401


def test_a_library_that_may_only_be_read_says_so(client, library, monkeypatch):
    def refuse(*_args, **_options):
        raise ReadOnlyLibraryError("catalog.sqlite may only be read here: nothing was changed.")

    monkeypatch.setattr("retrieval.catalog.database.Catalog.transaction", refuse)
    answer = client.post("/v1/collections", json={"name": "x"})
    assert answer.status_code == 409
    assert "may only be read" in answer.json()["detail"]
