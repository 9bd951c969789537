"""Errors become problem details that tell a client nothing of the inside."""

import sqlite3

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from api.http.app import create_app
from api.http.batching import Inference
from api.http.middleware.headers import POLICY
from retrieval.errors import LibraryError


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
        ("/v1/search", {"GET", "POST"}),
        ("/v1/search/batch", {"POST"}),
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


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(2, "No such file or directory"),
        OSError(5, "Input/output error"),
        sqlite3.OperationalError("disk I/O error"),
        sa.exc.OperationalError("SELECT 1", {}, sqlite3.OperationalError("disk I/O error")),
        LibraryError("cut or replaced"),
        ValueError("mmap length is greater than file size"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_a_library_that_vanishes_during_a_request_is_told_as_that(
    client, monkeypatch, caplog, error
):
    """It was there when the request began, and is not when the request fails."""

    async def vanishing(*_):
        monkeypatch.setattr("retrieval.library._identity", lambda _: None)
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(Inference, "search", vanishing)
        answer = client.post("/v1/search", json={"text": "a dog"})
        assert answer.status_code == answer.json()["status"] == 503
        assert "not there any more" in answer.json()["detail"]
        assert answer.headers["content-type"] == "application/problem+json"
        assert int(answer.headers["retry-after"]) > 0
        assert "Traceback" not in caplog.text
    monkeypatch.undo()
    assert client.get("/readyz").status_code == 200


def test_an_error_of_a_library_that_is_there_stays_an_error_of_the_service(client, monkeypatch):
    async def broken(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Inference, "search", broken)
    assert client.post("/v1/search", json={"text": "a dog"}).status_code == 500
