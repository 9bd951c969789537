"""A service before there is a library."""

import io
import shutil
import time

import pytest
from PIL import Image
from starlette.testclient import TestClient

from api.http import lifespan
from api.http.app import create_app
from api.http.settings import ServiceSettings
from api.http.uploads import Received, UploadFolder
from retrieval.errors import MMSearchError, UsageError


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


def picture(colour: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (60, 40), colour).save(stream, "PNG")
    return stream.getvalue()


def eventually(is_so) -> None:
    end = time.monotonic() + 300  # of a busy machine
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_uploads_begin_with_the_first_library_and_unfinished_ones_are_resumed(
    indexed_library, tmp_path, monkeypatch
):
    monkeypatch.setattr(lifespan, "_LIBRARY_CHECK_S", 0.01)
    place, up = tmp_path / "place", tmp_path / "up"
    up.mkdir()
    earlier = UploadFolder(up, 10**8)
    earlier.add([Received("earlier.png", io.BytesIO(picture("red")))], "earlier-job", "a key")
    earlier.close()
    app = create_app(place, ServiceSettings(uploads=up, rerank="none"), device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        sent = [("files", ("later.png", picture("blue")))]
        refused = client.post("/v1/items", files=sent)
        assert refused.status_code == 503
        assert "mmsearch index" in refused.json()["detail"]
        assert client.get("/v1/jobs").status_code == 503
        assert not (up / "later.png").exists()
        shutil.copytree(indexed_library.path, tmp_path / "made")
        (tmp_path / "made").rename(place)
        eventually(lambda: client.get("/readyz").json()["status"] == "ready")
        assert client.get("/v1/jobs/earlier-job").status_code == 200
        later = client.post("/v1/items", files=sent).json()["id"]
        for job in ("earlier-job", later):
            eventually(lambda job=job: client.get(f"/v1/jobs/{job}").json()["finished_at"])
            assert client.get(f"/v1/jobs/{job}").json()["error"] is None
        paths = [item["path"] for item in client.get("/v1/items?limit=1000").json()["items"]]
        for name in ("earlier.png", "later.png"):
            assert paths.count(str(up.resolve() / name)) == 1
        assert not list(up.glob(".upload-*"))


def test_a_wrong_folder_of_uploads_is_told_before_there_is_a_library(tmp_path):
    settings = ServiceSettings(uploads=tmp_path)
    app = create_app(tmp_path / "deeper" / "library", settings, device="cpu")
    with pytest.raises(UsageError, match="holds or lies in a library"), TestClient(app):
        pass


def test_a_place_that_cannot_be_looked_at_is_waited_for(coloured_library, tmp_path, monkeypatch):
    """A disk that answers with errors for a while ends neither the service nor its wait."""
    monkeypatch.setattr(lifespan, "_LIBRARY_CHECK_S", 0.01)
    asked = 0

    def away(_):
        nonlocal asked
        asked += 1
        raise PermissionError(13, "Permission denied")

    with TestClient(create_app(tmp_path, device="cpu"), base_url="http://localhost") as client:
        with monkeypatch.context() as patched:
            patched.setattr(lifespan, "library_exists", away)
            before = asked
            eventually(lambda: asked > before + 2)
            assert client.get("/readyz").json()["status"] == "no library"
        shutil.copytree(coloured_library.path, tmp_path, dirs_exist_ok=True)
        eventually(lambda: client.get("/readyz").json()["status"] == "ready")
