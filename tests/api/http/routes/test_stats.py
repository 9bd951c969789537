"""`GET /v1/stats`."""

from starlette.testclient import TestClient

from api.http.app import create_app
from api.http.settings import ServiceSettings


def test_a_library_and_its_exact_search_are_described(coloured_library, tiny_encoder):
    app = create_app(coloured_library.path, device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        before = client.get("/v1/stats").json()["vector_cache"]
        for text in ("a dog", "a cat", "a dog"):
            client.post("/v1/search", json={"text": text})
        stats = client.get("/v1/stats").json()
    with coloured_library.catalog.snapshot() as snapshot:
        assert stats["sources"] == snapshot.sources()
    assert stats["missing_sources"] == []
    assert (stats["images"], stats["texts"], stats["kinds"]) == (4, 0, {"image": 4})
    assert (stats["files_indexed"], stats["files_failed"], stats["files_removed"]) == (4, 0, 0)
    assert (stats["space"], stats["dimension"]) == (tiny_encoder.space.id, 32)
    assert stats["spaces"] == [tiny_encoder.space.id]
    counted = {name: count - before[name] for name, count in stats["vector_cache"].items()}
    assert counted == {"hits": 1, "misses": 2}
    assert (stats["uploads"], stats["jobs_waiting"], stats["reranker"]) == (False, 0, None)
    assert stats["scopes"] == ["read", "write"]
    image, text = stats["indices"]
    assert (image["modality"], image["kind"], image["rows"]) == ("image", "exact", 4)
    assert (text["modality"], text["rows"], text["rows_covered"]) == ("text", 0, 0)
    assert image["generation"] is image["created"] is None


def test_a_reader_is_told_its_scopes(coloured_library):
    settings = ServiceSettings(api_keys="eve:read:reader-secret-0123456789")
    app = create_app(coloured_library.path, settings, device="cpu")
    headers = {"Authorization": "Bearer reader-secret-0123456789"}
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/v1/stats", headers=headers).json()["scopes"] == ["read"]
