import io
import shutil
import socket
import time
import zipfile
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from api.http.app import create_app
from api.http.files import ItemFiles
from api.http.settings import ServiceSettings
from indexer.pipeline import index_sources
from retrieval.library import create_library

KEYS = "reader:read:a-secret-of-a-reader"
READER = {"Authorization": "Bearer a-secret-of-a-reader"}

pytestmark = pytest.mark.slow


@pytest.fixture
def library(tmp_path, tiny_encoder, photos):
    folder = tmp_path / "source"
    folder.mkdir()
    for name in ("cat", "coffee"):
        shutil.copy(photos[name], folder)
    library = create_library(tmp_path / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [folder])
    return library


@pytest.fixture
def client(library):
    app = create_app(library.path, ServiceSettings(api_keys=KEYS), device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def items_of(client):
    return client.get("/v1/items", headers=READER).json()["items"]


def ask(client, **asked):
    return client.post("/v1/archives", json=asked, headers=READER)


def test_a_browser_downloads_what_a_key_asked_for(client, library):
    items = items_of(client)
    paths = [Path(item["path"]) for item in items]
    told = ask(client, items=[item["item_id"] for item in items]).json()
    assert told["files"] == len(paths)
    assert told["bytes"] == sum(path.stat().st_size for path in paths)
    answer = client.get(told["url"])  # a plain download sends no key
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-disposition"].startswith("attachment; ")
    assert answer.headers["cache-control"] == "private, no-store"
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    assert {name: archive.read(name) for name in archive.namelist()} == {
        path.name: path.read_bytes() for path in paths
    }


def test_a_collection_without_hidden_items(client, library):
    first, second = (item["item_id"] for item in items_of(client))
    library.collections.create("Summer: 2019")
    library.collections.add("Summer: 2019", [second, first])
    library.hide([first])
    told = ask(client, collection="summer: 2019").json()
    assert (told["name"], told["files"]) == ("summer_ 2019.zip", 1)


def test_what_cannot_be_asked_for(client):
    assert ask(client, items=[999]).status_code == 404
    assert ask(client, collection="unknown").status_code == 404
    for wrong in ({}, {"items": []}, {"items": [1], "collection": "x"}, {"items": [1] * 10_001}):
        assert ask(client, **wrong).status_code == 422
    assert client.post("/v1/archives", json={"items": [1]}).status_code == 401
    assert client.get("/v1/archives/guess").status_code == 404


class Watched:
    """An open file that tells when it is closed, and how much was read of it."""

    def __init__(self, file):
        self.file, self.read_bytes, self.is_closed = file, 0, False

    def read(self, size):
        self.read_bytes += size
        return self.file.read(size)

    def close(self):
        self.file.close()
        self.is_closed = True


def test_a_client_that_leaves_ends_the_reading(library, served, monkeypatch):
    monkeypatch.setattr("api.http.archives._CHUNK", 1)  # so that it cannot be sent at once
    opened = []
    real = ItemFiles.open

    def watched(self, item):
        opened.append(Watched(real(self, item)))
        return opened[-1]

    monkeypatch.setattr(ItemFiles, "open", watched)
    app = create_app(library.path, device="cpu")
    with served(app) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        base = f"http://127.0.0.1:{port}"
        items = httpx.get(f"{base}/v1/items").json()["items"]
        largest = max(items, key=lambda item: item["bytes"])
        url = httpx.post(f"{base}/v1/archives", json={"items": [largest["item_id"]]}).json()["url"]
        connection.sendall(f"GET {url} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        assert connection.recv(4096)
        connection.close()
        deadline = time.monotonic() + 30
        while not (opened and opened[0].is_closed) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert opened[0].is_closed
    assert opened[0].read_bytes < largest["bytes"]
