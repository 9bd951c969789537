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
