"""Errors become problem details that tell a client nothing of the inside."""

from starlette.testclient import TestClient

from api.http.app import create_app
from api.http.batching import Inference
from api.http.middleware.headers import POLICY


def test_a_bug_tells_a_client_nothing(coloured_library, monkeypatch, caplog):
    async def broken(*_):
        raise ZeroDivisionError("the secret inside")

    with TestClient(
        create_app(coloured_library.path, device="cpu"), base_url="http://localhost"
    ) as client:
        monkeypatch.setattr(Inference, "search", broken)
        answer = client.post("/v1/search", json={"text": "a dog"})
        assert "mmsearch_rejected_requests_total{" not in client.get("/metrics").text
    assert answer.status_code == answer.json()["status"] == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["content-security-policy"] == POLICY
    assert "secret" not in answer.text
    assert "the secret inside" in caplog.text


def test_a_wrong_method_is_told_all_right_ones(client):
    for path, allowed in [
        ("/v1/items", {"GET", "POST"}),
        ("/v1/items/1", {"GET", "DELETE"}),
        ("/v1/jobs/1", {"GET", "DELETE"}),
        ("/v1/search", {"POST"}),
    ]:
        answer = client.put(path)
        assert answer.status_code == 405
        assert set(answer.headers["allow"].split(", ")) - {"HEAD"} == allowed


def test_a_library_that_goes_away_is_told_and_found_again(indexed_library):
    folder = indexed_library.path
    away = folder.with_name("elsewhere")
    app = create_app(folder, device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        asked = [
            lambda: client.get("/readyz"),
            lambda: client.get("/v1/items"),
            lambda: client.get("/v1/stats"),
            lambda: client.get("/v1/items/1"),
            lambda: client.delete("/v1/items/1"),
            lambda: client.post("/v1/search", json={"text": "a dog"}),
        ]
        folder.rename(away)
        for ask in asked:
            answer = ask()
            assert answer.status_code == 503
            assert answer.headers["content-type"] == "application/problem+json"
            assert "not there any more" in answer.json()["detail"]
            assert int(answer.headers["retry-after"]) > 0
        assert client.get("/healthz").status_code == 200
        folder.mkdir()
        (folder / "catalog.sqlite").touch()
        assert "replaced" in client.get("/readyz").json()["detail"]
        (folder / "catalog.sqlite").unlink()
        folder.rmdir()
        away.rename(folder)
        assert client.get("/v1/items/1").status_code == 200
        assert client.get("/readyz").status_code == 200
