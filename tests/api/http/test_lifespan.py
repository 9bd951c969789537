"""A service before there is a library."""

import shutil
import time

import pytest
from starlette.testclient import TestClient

from api.http import lifespan
from api.http.app import create_app
from api.http.settings import ServiceSettings
from retrieval.errors import MMSearchError


def test_a_service_starts_without_a_library_and_opens_it_when_it_is_there(
    coloured_library, tmp_path, monkeypatch
):
    monkeypatch.setattr(lifespan, "_LIBRARY_CHECK_S", 0.01)
    place = tmp_path / "library"
    with TestClient(create_app(place, device="cpu"), base_url="http://localhost") as client:
        assert client.get("/healthz").json()["status"] == "ok"
        ready = client.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["status"] == "no library"
        assert ready.json()["first_command"] == f"mmsearch index ~/Pictures --library {place}"
        assert client.get("/").status_code == client.get("/metrics").status_code == 200
        for refused in (
            client.post("/v1/search", json={"text": "a dog"}),
            client.get("/v1/items"),
            client.get("/v1/stats"),
            client.post("/v1/index"),
        ):
            assert refused.status_code == 503
            assert "mmsearch index" in refused.json()["detail"]
            assert refused.headers["retry-after"] == "3"
        shutil.copytree(coloured_library.path, tmp_path / "made")
        (tmp_path / "made").rename(place)
        end = time.monotonic() + 60
        while client.get("/readyz").json()["status"] != "ready":
            assert time.monotonic() < end
            time.sleep(0.02)
        hits = client.post("/v1/search", json={"text": "a dog"}).json()["hits"]
        assert len(hits) == 4


def test_a_public_answer_tells_no_path_where_keys_are_needed(tmp_path):
    settings = ServiceSettings(api_keys="eve:read:reader-secret-0123456789")
    app = create_app(tmp_path / "library", settings, device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        assert str(tmp_path) not in client.get("/readyz").text


def test_a_folder_of_other_files_is_never_waited_for(tmp_path):
    (tmp_path / "photo.jpg").touch()
    app = create_app(tmp_path, device="cpu")
    with pytest.raises(MMSearchError, match="is not a library"), TestClient(app):
        pass


def test_a_library_that_cannot_be_opened_ends_the_service(tmp_path, monkeypatch):
    monkeypatch.setattr(lifespan, "_LIBRARY_CHECK_S", 0.01)
    failures = []
    app = create_app(tmp_path, device="cpu", on_failed=failures.append)
    with TestClient(app, base_url="http://localhost"):
        (tmp_path / "library.toml").write_text("damaged")
        end = time.monotonic() + 20
        while not failures:
            assert time.monotonic() < end
            time.sleep(0.02)
    assert "cannot be read" in str(failures[0])
