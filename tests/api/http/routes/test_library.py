"""The library as a whole: its creation, its changes, and what it takes on disk."""

import time

import pytest
from PIL import Image
from starlette.testclient import TestClient

from api.http import lifespan
from api.http.app import create_app
from api.http.routes import library as routes
from api.http.settings import ServiceSettings
from indexer.pipeline import hide_files, index_sources
from retrieval.library import create_library, open_library

READER = "reader-secret-0123456789"


def test_what_was_added_is_counted_and_every_change_is_told(tmp_path, tiny_encoder):
    photos = tmp_path / "photos"
    photos.mkdir()
    library = create_library(tmp_path / "library", tiny_encoder.space)
    app = create_app(library.path, device="cpu")
    with TestClient(app, base_url="http://localhost") as client:

        def changes(after=0):
            return client.get("/v1/changes", params={"after": after}).json()

        empty = changes()
        assert empty | {"revision": 0} == {
            "revision": 0,
            "last_item": 0,
            "images": 0,
            "texts": 0,
            "sounds": 0,
            "jobs": 0,
        }
        assert changes() == empty
        for number in range(3):
            Image.new("RGB", (60, 40), (80 * number, 0, 0)).save(photos / f"{number}.png")
        (photos / "note.txt").write_text("A recipe for bread.")
        index_sources(library, tiny_encoder, [photos])
        first = changes()
        assert (first["images"], first["texts"]) == (3, 1)
        assert first["revision"] != empty["revision"]
        again = changes(first["last_item"])
        assert (again["images"], again["texts"], again["revision"]) == (0, 0, first["revision"])
        Image.new("RGB", (60, 40), "blue").save(photos / "new.png")
        index_sources(library, tiny_encoder)
        later = changes(first["last_item"])
        assert (later["images"], later["texts"]) == (1, 0)
        hide_files(library, [str(photos / "new.png")])
        hidden = changes(first["last_item"])
        assert (hidden["images"], hidden["last_item"]) == (0, first["last_item"])
        assert hidden["revision"] != later["revision"]


def test_storage_spaces_and_damage_are_described(coloured_library, tiny_encoder):
    app = create_app(coloured_library.path, device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        told = client.get("/v1/storage").json()
    assert told["library"] == str(coloured_library.path)
    assert told["bytes"]["catalog"] > 0
    assert told["bytes"]["embeddings"] >= 4 * tiny_encoder.space.dimension * 2
    assert told["bytes"]["total"] == sum(told["bytes"].values()) - told["bytes"]["total"]
    [space] = told["spaces"]
    assert (space["id"], space["images"], space["texts"]) == (tiny_encoder.space.id, 4, 0)
    assert (space["is_default"], space["is_searched"], space["files_behind"]) == (True, True, 0)
    assert told["warnings"] == []


def test_a_service_that_may_fill_it_creates_the_library(tmp_path, tiny_encoder, monkeypatch):
    monkeypatch.setattr(lifespan, "_LIBRARY_CHECK_S", 0.01)
    asked = []
    monkeypatch.setattr(routes, "load_encoder", lambda name, device: tiny_encoder)
    choose = routes.choose_encoder
    monkeypatch.setattr(
        routes,
        "choose_encoder",
        lambda name, language: asked.append(language) or choose("starter"),
    )
    place = tmp_path / "library"
    settings = ServiceSettings(index_below=(tmp_path,))
    app = create_app(place, settings, device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/readyz").json()["may_create"] is True
        made = client.post("/v1/library", json={"language": "zh"})
        assert (made.status_code, made.json()["created"]) == (201, True)
        assert asked == ["zh"]
        end = time.monotonic() + 60
        while client.get("/v1/stats").status_code != 200:
            assert time.monotonic() < end
            time.sleep(0.02)
        again = client.post("/v1/library")
        assert (again.status_code, again.json()["created"]) == (200, False)
        stats = client.get("/v1/stats").json()
        assert stats["index_below"] == [str(tmp_path)]
        assert stats["first_command"] == f"mmsearch index ~/Pictures --library {place}"
    assert open_library(place).space() == tiny_encoder.space


def test_a_service_that_cannot_fill_it_creates_none(tmp_path):
    app = create_app(tmp_path / "library", device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/readyz").json()["may_create"] is False
        refused = client.post("/v1/library")
        assert refused.status_code == 422
        assert "--index-below" in refused.json()["detail"]
    assert not (tmp_path / "library").exists()


@pytest.mark.parametrize("path", ["/v1/library"])
def test_a_reader_creates_none(tmp_path, path):
    settings = ServiceSettings(index_below=(tmp_path,), api_keys=f"eve:read:{READER}")
    app = create_app(tmp_path / "library", settings, device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        assert client.post(path).status_code == 401
        headers = {"Authorization": f"Bearer {READER}"}
        assert client.post(path, headers=headers).status_code == 403
    assert not (tmp_path / "library").exists()
