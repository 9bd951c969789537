"""Real HTTP: uvicorn on a free port of the loopback interface, asked by httpx."""

import io
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from api.http.app import create_app
from api.http.settings import ServiceSettings
from indexer.pipeline import index_sources, remove_paths
from retrieval.library import create_library, open_library


@pytest.fixture(scope="module")
def library(tmp_path_factory, tiny_encoder):
    folder = tmp_path_factory.mktemp("photos")
    for number, colour in enumerate(["red", "green", "blue", "yellow"]):
        Image.new("RGB", (600, 400), colour).save(folder / f"{number}-{colour}.png")
    library = create_library(tmp_path_factory.mktemp("served") / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder])
    return library


@pytest.fixture(scope="module")
def client(library):
    config = uvicorn.Config(
        create_app(library.path, device="cpu"), host="127.0.0.1", port=0, log_level="warning"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        yield client
    server.should_exit = True
    thread.join()


def test_searching(client):
    answer = client.post("/v1/search", json={"text": "a dog", "k": 3})
    assert answer.status_code == 200
    body = answer.json()
    assert body["query"] == "a dog"
    assert [hit["rank"] for hit in body["hits"]] == [1, 2, 3]
    similarities = [hit["similarity"] for hit in body["hits"]]
    assert similarities == sorted(similarities, reverse=True)
    assert body["timings_ms"]["encode"] > 0


def test_the_service_and_the_library_agree(client, library):
    body = client.post("/v1/search", json={"text": "blue", "k": 4}).json()
    expected = open_library(library.path).search("blue", k=4)
    assert [hit["item_id"] for hit in body["hits"]] == [hit.item.id for hit in expected]


def test_an_item_and_its_thumbnail(client):
    [hit] = client.post("/v1/search", json={"text": "red", "k": 1}).json()["hits"]
    item = client.get(f"/v1/items/{hit['item_id']}").json()
    assert item["path"] == hit["path"]
    assert (item["width"], item["height"]) == (600, 400)
    thumbnail = client.get(f"/v1/items/{hit['item_id']}/thumbnail")
    assert thumbnail.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(thumbnail.content)) as image:
        assert image.size == (320, 213)
    again = client.get(
        f"/v1/items/{hit['item_id']}/thumbnail",
        headers={"If-None-Match": thumbnail.headers["etag"]},
    )
    assert again.status_code == 304
    assert again.content == b""


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "detail"),
    [
        ("POST", "/v1/search", {"text": ""}, 422, "text"),
        ("POST", "/v1/search", {"text": "  "}, 422, "query text is empty"),
        ("POST", "/v1/search", {"text": "x", "k": 0}, 422, "k"),
        ("POST", "/v1/search", {"text": "x", "k": 10_001}, 422, "k"),
        ("POST", "/v1/search", {"text": "x", "frobnicate": 1}, 422, "frobnicate"),
        ("POST", "/v1/search", {}, 422, "text"),
        ("POST", "/v1/search", None, 422, "body"),
        ("GET", "/v1/search", None, 422, "query is empty"),
        ("DELETE", "/v1/search", None, 405, "Method Not Allowed"),
        ("GET", "/v1/items/999999", None, 404, "no item 999999"),
        ("GET", "/v1/items/999999/thumbnail", None, 404, "no item 999999"),
        ("GET", "/v1/items/0", None, 422, "item_id"),
        ("GET", "/v1/items/99999999999999999999", None, 422, "item_id"),
        ("GET", "/v1/items/..%2f..%2fetc%2fpasswd", None, 404, "Not Found"),
        ("GET", "/nowhere", None, 404, "Not Found"),
    ],
)
def test_errors_are_problem_details(client, method, path, body, status, detail):
    answer = client.request(method, path, json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert detail in problem["detail"]


def test_malformed_json_is_a_problem(client):
    answer = client.post("/v1/search", content=b"{", headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


def test_new_and_removed_items_without_a_restart(client, library, tiny_encoder, tmp_path):
    name = os.fsdecode(b"caf\xe9-\xe9\x9b\xaa.png")
    try:
        Image.new("RGB", (50, 50), "purple").save(tmp_path / name)
    except OSError:
        name = "雪.png"
        Image.new("RGB", (50, 50), "purple").save(tmp_path / name)
    index_sources(library, tiny_encoder, [tmp_path])
    hits = client.post("/v1/search", json={"text": "x", "k": 100}).json()["hits"]
    assert len(hits) == 5
    [new] = [hit for hit in hits if hit["path"].startswith(str(tmp_path))]
    assert client.get(f"/v1/items/{new['item_id']}").status_code == 200
    (tmp_path / name).unlink()
    gone = client.get(f"/v1/items/{new['item_id']}/thumbnail")
    assert gone.status_code == 404
    assert "cannot be opened any more" in gone.json()["detail"]
    remove_paths(library, [tmp_path])
    hits = client.post("/v1/search", json={"text": "x", "k": 100}).json()["hits"]
    assert len(hits) == 4
    assert client.get(f"/v1/items/{new['item_id']}").status_code == 404


def test_many_clients_at_once_get_the_same_answer(client):
    def ask(_):
        return client.post("/v1/search", json={"text": "a green field"}).json()["hits"]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(40)))
    for answer in answers:
        for hit, first in zip(answer, answers[0], strict=True):
            assert hit["item_id"] == first["item_id"]
            # Matrix products of other sizes round otherwise.
            assert hit["similarity"] == pytest.approx(first["similarity"], abs=1e-6)


def test_the_description_names_every_route(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) >= {
        "/v1/search",
        "/v1/explain",
        "/v1/items",
        "/v1/items/{item_id}",
        "/v1/items/{item_id}/thumbnail",
        "/v1/items/{item_id}/file",
        "/v1/items/{item_id}/similar",
        "/healthz",
        "/readyz",
        "/metrics",
    }


@pytest.fixture(scope="module")
def reranking_client(library, tiny_fusion):
    app = create_app(library.path, ServiceSettings(rerank=f"fusion:{tiny_fusion}"), device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def test_the_service_reranks_with_its_reranker(reranking_client, tiny_fusion):
    body = reranking_client.post("/v1/search", json={"text": "a dog", "k": 3}).json()
    assert body["reranker"] == f"fusion:{tiny_fusion}"
    assert body["reranked"] == 4
    assert all(isinstance(hit["match"], float) for hit in body["hits"])
    assert body["timings_ms"]["rerank"] > 0


def test_a_request_can_bound_the_reranking_or_switch_it_off(reranking_client):
    request = {"text": "a dog", "k": 4, "rerank_depth": 2}
    hits = reranking_client.post("/v1/search", json=request).json()["hits"]
    assert [hit["match"] is None for hit in hits] == [False, False, True, True]
    body = reranking_client.post("/v1/search", json={"text": "a dog", "rerank": "none"}).json()
    assert body["reranker"] is None
    assert all(hit["match"] is None for hit in body["hits"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"rerank": "fusion:/etc/passwd"},
        {"rerank_depth": 0},
        {"rerank_depth": 10_001},
        {"rerank_budget_ms": -1},
    ],
)
def test_a_request_cannot_load_files_or_ask_for_endless_work(reranking_client, wrong):
    answer = reranking_client.post("/v1/search", json={"text": "a dog"} | wrong)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
