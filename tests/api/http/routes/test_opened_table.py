"""The service of a library in Lance."""

import io

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from api.http.app import create_app
from api.http.settings import ServiceSettings
from tests.opened_tables import rich_twins

pytest.importorskip("lance", reason="needs Lance: pip install 'mmsearch[cluster]'")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def twins(tmp_path_factory, tiny_encoder):
    return rich_twins(tmp_path_factory.mktemp("twins"), tiny_encoder)


@pytest.fixture(scope="module")
def clients(twins, tmp_path_factory):
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        applications = [
            create_app(library, ServiceSettings(), device="cpu") for library in twins.both
        ]
        with (
            TestClient(applications[0], base_url="http://localhost") as one,
            TestClient(applications[1], base_url="http://localhost") as other,
        ):
            yield one, other


def test_the_page_opens(clients):
    answer = clients[1].get("/")
    assert answer.status_code == 200
    assert "mmsearch" in answer.text


def test_stats_describe_the_table(clients):
    one, other = (client.get("/v1/stats").json() for client in clients)
    for name in ("images", "texts", "files_indexed", "files_failed", "kinds", "cameras", "sources"):
        assert other[name] == one[name]
    assert [index["rows"] for index in other["indices"]] == [one["images"], one["texts"]]
    storage = clients[1].get("/v1/storage").json()
    assert storage["library"].startswith("lance:")
    assert storage["bytes"]["total"] > 0
    assert clients[1].get("/v1/changes").json()["revision"] >= 2
    assert clients[1].get("/metrics").status_code == 200


def test_searches_and_facets_are_those_of_the_library(clients):
    asked = {"text": "a red boat", "k": 20, "rerank": "none"}
    for more in ({}, {"where": {"path": "**/dogs/*"}}, {"modality": "any"}, {"mode": "text"}):
        answers = [client.post("/v1/search", json={**asked, **more}).json() for client in clients]
        hits = [[(h["path"], h["similarity"]) for h in answer["hits"]] for answer in answers]
        assert hits[1] == [(path, pytest.approx(score, abs=1e-3)) for path, score in hits[0]]
    one, other = (client.post("/v1/facets", json={}).json() for client in clients)
    assert other == one
    one, other = (client.get("/v1/facets/values", params={"facet": "years"}) for client in clients)
    assert other.json() == one.json()


def test_items_come_with_thumbnails_and_files(clients):
    client = clients[1]
    listed = client.get("/v1/items", params={"limit": 5, "modality": "image"}).json()["items"]
    assert len(listed) == 5
    item = listed[0]["item_id"]
    described = client.get(f"/v1/items/{item}").json()
    assert described["path"] == listed[0]["path"]
    for _ in range(2):  # made, then cached
        thumbnail = client.get(f"/v1/items/{item}/thumbnail")
        assert Image.open(io.BytesIO(thumbnail.content)).format == "JPEG"
    assert client.get(f"/v1/items/{item}/file").status_code == 200
    assert client.get(f"/v1/items/{item}/similar", params={"k": 2}).json()["hits"]
    assert client.get("/v1/items/999999").status_code == 404
    skipped = client.get("/v1/items", params={"limit": 2, "order": "date", "offset": 3}).json()
    dated = client.get("/v1/items", params={"limit": 5, "order": "date"}).json()
    assert skipped["items"] == dated["items"][3:]


def test_what_the_page_lists_is_there(clients):
    for path in ("collections", "searches", "notes", "folders", "jobs"):
        one, other = (client.get(f"/v1/{path}") for client in clients)
        assert other.status_code == one.status_code == 200
    names = [
        [one["name"] for one in client.get("/v1/collections").json()["collections"]]
        for client in clients
    ]
    assert names[1] == names[0] == ["Holidays"]


def test_what_a_table_does_not_have_is_told(clients):
    client = clients[1]
    for answer in (
        client.post("/v1/index", json={}),
        client.post("/v1/collections", json={"name": "x"}),
    ):
        assert answer.status_code == 422
        assert "table" in answer.json()["detail"] or "Lance" in answer.json()["detail"]
