"""Image tokens that are made in the background, by a real service with a real reranker."""

import time
from dataclasses import replace

import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from api.http.app import create_app
from api.http.batching import Inference
from api.http.metrics import ServiceMetrics
from api.http.settings import ServiceSettings
from api.http.token_maker import MAX_QUEUE, TokenMaker
from indexer.pipeline import index_sources
from retrieval.library import create_library
from retrieval.media import Modality
from retrieval.rerankers.token_cache import TokenCache, TokenMemory
from retrieval.search.engine import Engine


@pytest.fixture(scope="module")
def photo_library(tmp_path_factory, photos, starter):
    folder = tmp_path_factory.mktemp("photos")
    for name, path in photos.items():
        with Image.open(path) as image:
            image.convert("RGB").save(folder / f"{name}.jpg")
    library = create_library(tmp_path_factory.mktemp("tokens") / "library", starter.space)
    index_sources(library, starter, [folder])
    return library


@pytest.fixture
def eager(monkeypatch):
    """Without the pauses before work that nobody waits for."""
    monkeypatch.setattr("api.http.batching._IDLE_S", 0.0)
    monkeypatch.setattr("api.http.token_maker._PAUSE_S", 0.0)


def tokens(client) -> dict[str, float]:
    return {
        sample.labels.get("outcome", "queue"): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        if family.name.startswith("mmsearch_background_tokens")
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def serving(library, **settings) -> TestClient:
    app = create_app(library.path, ServiceSettings(**settings), device="cpu")
    return TestClient(app, base_url="http://localhost")


def eventually(holds) -> None:
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
def test_what_was_shown_is_reranked_without_reading_a_file(photo_library, eager, tmp_path):
    with serving(photo_library) as client:
        # The first query of the service has made those of this small library.
        cache = TokenCache(tmp_path)
        client.app.state.service.engine._tokens = TokenMemory(cache)
        items = client.get("/v1/items", params={"modality": "image"}).json()["items"]
        for item in items[:2]:
            client.get(item["thumbnail"])
        eventually(lambda: tokens(client).get("made") == 2)
        answer = client.post("/v1/search", json={"text": "a cat", "rerank": "none", "k": 3}).json()
        shown = {hit["item_id"] for hit in answer["hits"]} | {i["item_id"] for i in items[:2]}
        eventually(lambda: tokens(client).get("made") == len(shown))
        assert tokens(client)["queue"] == 0
        assert cache.usage().images == len(shown)


@pytest.mark.slow
def test_it_can_be_switched_off(photo_library, eager):
    with serving(photo_library, background_tokens=False) as client:
        client.post("/v1/search", json={"text": "a cat", "rerank": "none"})
        time.sleep(0.3)
        assert "made" not in tokens(client)


@pytest.fixture
def some_item(coloured_library):
    with coloured_library.catalog.snapshot() as snapshot:
        return snapshot.items(coloured_library.space().id, limit=1)[0]


def test_the_queue_is_bounded_and_ends(coloured_library, some_item):
    metrics = ServiceMetrics()
    inference = Inference(lambda _: [], metrics)
    maker = TokenMaker(Engine(coloured_library, device="cpu"), inference, metrics, "auto")
    many = [replace(some_item, content_hash=f"{n:032x}") for n in range(MAX_QUEUE + 50)]
    maker.show([replace(some_item, modality=Modality.TEXT)])
    maker.show(many)
    maker.show(many[-1:])
    assert f"mmsearch_background_tokens_queue {MAX_QUEUE}.0" in metrics.text().decode()
    maker.close(5)
    assert "mmsearch_background_tokens_queue 0.0" in metrics.text().decode()
