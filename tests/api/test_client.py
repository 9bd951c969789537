"""The Python client, over real HTTP."""

import io
import json
import subprocess
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import httpx
import numpy as np
import pytest
from PIL import Image

from api.client import (
    AccessDeniedError,
    BusyError,
    Client,
    ServiceError,
    UnreachableError,
    search_request,
)
from api.http.schemas import PartSchema
from indexer.pipeline import index_sources
from retrieval.errors import NotFoundError, UsageError
from retrieval.filters import Filter, GeoBox
from retrieval.library import create_library, open_library
from retrieval.media import Modality
from retrieval.media.audio import as_wave
from retrieval.search.query import (
    MAX_RERANK_DEPTH,
)

KEYS = "viewer:read:aaaaaaaaaaaaaaaaaaaaaaaa admin:read,write:bbbbbbbbbbbbbbbbbbbbbbbb"
VIEWER, ADMIN = "a" * 24, "b" * 24


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number, colour in enumerate(["red", "green", "blue", "yellow"]):
        Image.new("RGB", (600, 400), colour).save(folder / f"{number}-{colour}.png")
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory, tiny_encoder, photos, running_service):
    folder = tmp_path_factory.mktemp("served")
    library = create_library(folder / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [photos])
    with running_service(library, photos, uploads=folder / "uploads", api_keys=KEYS) as service:
        with Client(service.address, api_key=ADMIN) as client:
            # The start of all processes may take longer than a request waits.
            job = client.upload(photos / "0-red.png", wait=False)
            [uploaded] = list(client.follow(job.id))[-1].result.files
            client.delete(uploaded.item_ids[0])
        yield service
    library.close()


@pytest.fixture
def client(service):
    with Client(service.address, api_key=ADMIN) as client:
        yield client


def test_importing_the_client_loads_neither_torch_nor_a_server():
    program = (
        "import sys, api.client\n"
        "heavy = {'torch', 'open_clip', 'transformers', 'timm', 'fastapi', 'starlette'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert result.stdout == "[]\n"


def test_the_client_finds_what_the_library_finds(client, service):
    expected = open_library(service.library.path).search("blue", k=4, rerank="none")
    answer = client.search("blue", k=4)
    assert [hit.item_id for hit in answer.hits] == [hit.item.id for hit in expected]
    np.testing.assert_allclose(
        [hit.similarity for hit in answer.hits], [hit.similarity for hit in expected], atol=1e-6
    )


def test_images_items_and_parts_can_be_asked_for(client, photos):
    red = client.search(image=photos / "0-red.png", k=1).hits[0]
    assert red.path.endswith("0-red.png")
    assert (
        client.search(image=Image.new("RGB", (600, 400), "blue"), k=1)
        .hits[0]
        .path.endswith("2-blue.png")
    )
    parts = [PartSchema(text="x"), PartSchema(text="y", weight=-0.5)]
    assert len(client.search(parts=parts, k=3).hits) == 3


def test_many_searches_are_sent_at_once_and_one_may_fail(client):
    requests = [search_request({"text": "blue", "k": 2}), search_request({"item": 99_999})]
    answer, error = client.search_many(requests)
    assert [hit.item_id for hit in answer.hits] == [
        hit.item_id for hit in client.search("blue", k=2).hits
    ]
    assert isinstance(error, NotFoundError)


def test_facets_are_counted(client):
    everything = client.facets()
    assert {kind.value: kind.count for kind in everything.kinds} == {"image": everything.total}
    assert client.facets(where=Filter(path="*-green.*")).total == 1
    assert client.facets("a dog", min_relevance=1.0, limit=1).total == 0
    with pytest.raises(UsageError, match="sound"):  # of pictures and texts alone
        client.facets(audio=as_wave(np.zeros(48_000, np.float32), 48_000), min_relevance=0.1)
    with pytest.raises(UsageError):
        client.facets(limit=0)


def test_values_of_one_facet_are_listed(client):
    [source] = client.facet_values("folders").values
    assert source.count == client.facets().total
    assert client.facet_values("folders", below=[str(source.value)]).values == []
    assert client.facet_values("kinds", contains="vid").values == []
    none = client.facet_values("kinds", "a dog", min_relevance=1.0, limit=1)
    assert (none.total, none.values) == (0, [])
    with pytest.raises(UsageError):
        client.facet_values("colours")


def test_items_their_pictures_and_their_files(client, photos):
    listed = client.items(limit=3)
    assert len(listed.items) == 3
    assert listed.next_cursor is not None
    assert len(client.items(cursor=listed.next_cursor, where=Filter(kind=("image",))).items) == 1
    item = client.item(listed.items[0].item_id)
    assert (item.width, item.height) == (600, 400)
    with Image.open(io.BytesIO(client.thumbnail(item.item_id, size=160))) as picture:
        assert (picture.format, picture.size) == ("WEBP", (160, 107))
    assert client.file(item.item_id) == (photos / "0-red.png").read_bytes()


def test_links_neighbours_and_the_map(client, service, photos):
    listed = client.items().items
    link = client.link(listed[0].item_id)
    assert link.expires_at is not None
    answer = httpx.get(f"{service.address.rstrip('/')}{link.url}")
    assert answer.content == (photos / "0-red.png").read_bytes()
    around = client.neighbours(listed[0].item_id, before=3, after=0)
    assert (around.before, around.after) == ([], [])
    world = client.map_points()
    assert (world.total, world.points) == (0, [])
    box = GeoBox(south=0, north=1, west=0, east=1)
    assert client.map_points(box, cells=2, where=Filter(kind=("image",))).total == 0


def test_collections_hiding_and_saved_searches(client, tmp_path):
    first, second, *_ = [item.item_id for item in client.items().items]
    made = client.create_collection("Summer", [second])
    assert client.add_to_collection(made.id, [second, first]) == 1
    listed = client.items(where=Filter(collection="summer"), order="collection").items
    assert [item.item_id for item in listed] == [second, first]
    told = client.download(tmp_path / "summer.zip", collection="Summer")
    with zipfile.ZipFile(tmp_path / "summer.zip") as archive:
        assert (len(archive.namelist()), archive.testzip()) == (told.files, None)
    client.download(tmp_path / "first.zip", items=[first])
    assert client.remove_from_collection(made.id, [first]) == 1
    assert client.rename_collection(made.id, "Winter") == client.collections().collections[0]
    client.delete_collection(made.id)
    assert client.collections().collections == []
    assert (client.hide([first]), client.stats().items_hidden) == (1, 1)
    assert client.unhide([first, second]) == 1
    saved = client.save_search("Red", search_request({"text": "red", "k": 3}))
    assert client.saved_searches().searches == [saved]
    assert len(client.ask(saved.request).hits) == 3
    client.delete_saved_search(saved.id)
    with pytest.raises(NotFoundError):
        client.delete_saved_search(saved.id)


def test_embedding_gives_the_encoders_unit_vectors(client, tiny_encoder):
    blue = Image.new("RGB", (40, 40), "blue")
    answer = client.embed(["a dog", "一只狗"], [blue])
    assert (answer.space, answer.dimension) == (tiny_encoder.space.id, 32)
    np.testing.assert_allclose(
        answer.texts, tiny_encoder.encode(Modality.TEXT, ["a dog", "一只狗"]), atol=1e-6
    )
    pixels = tiny_encoder.preprocess(blue)[np.newaxis]
    np.testing.assert_allclose(
        answer.images, tiny_encoder.encode(Modality.IMAGE, pixels), atol=1e-6
    )
    np.testing.assert_allclose(np.linalg.norm(answer.texts, axis=1), 1, atol=1e-6)


def test_uploading_following_deleting_and_indexing(client, tmp_path):
    file = tmp_path / "purple.png"
    Image.new("RGB", (50, 50), "purple").save(file)
    job = client.upload(file)
    assert job.state == "succeeded"
    [uploaded] = job.result.files
    assert client.search(image=file, k=1).hits[0].item_id == uploaded.item_ids[0]
    assert client.delete(uploaded.item_ids[0]).file_deleted
    with pytest.raises(NotFoundError):
        client.item(uploaded.item_ids[0])
    seen = list(client.follow(client.index().id))
    assert seen[-1].state == "succeeded"
    assert client.job(seen[-1].id) == seen[-1] == client.jobs().jobs[0]
    with pytest.raises(UsageError, match="already"):
        client.cancel(seen[-1].id)


def test_stats_tell_the_library_and_what_the_key_allows(client, service, photos):
    stats = client.stats()
    assert stats.images >= 4
    assert str(photos) in stats.sources
    assert stats.kinds == {"image": 4}
    assert (stats.cameras, stats.columns) == ([], {})
    assert (stats.uploads, stats.scopes, stats.reranker) == (True, ["read", "write"], None)
    assert {index.kind for index in stats.indices} == {"exact"}
    with Client(service.address, api_key=VIEWER) as viewer:
        assert viewer.stats().scopes == ["read"]


def test_changes_storage_and_what_can_be_added(client, service, photos):
    newest = client.changes()
    assert (newest.images >= 4, newest.last_item > 0) == (True, True)
    later = client.changes(newest.last_item)
    assert (later.images, later.texts, later.revision) == (0, 0, newest.revision)
    stored = client.storage()
    assert stored.bytes.total > stored.bytes.catalog > 0
    assert [space.id for space in stored.spaces] == client.stats().spaces
    assert client.folders().folders == []
    with pytest.raises(UsageError, match="--index-below"):
        client.folders(str(photos))
    assert not client.create_library().created
    assert client.notes(reason="another one").failures == []
    with pytest.raises(UsageError, match="whole source"):
        client.index([str(photos / "0-red.png")], kinds=["image"])


def test_a_key_without_the_scope_changes_nothing(service, photos):
    with Client(service.address, api_key=VIEWER) as viewer:
        assert viewer.search("x").hits
        for call in (
            lambda: viewer.upload(photos / "0-red.png"),
            lambda: viewer.delete(1),
            viewer.index,
            lambda: viewer.cancel("x"),
        ):
            with pytest.raises(AccessDeniedError):
                call()


def test_the_key_comes_from_the_environment(service, monkeypatch):
    with Client(service.address) as nobody, pytest.raises(AccessDeniedError):
        nobody.search("x")
    monkeypatch.setenv("MMSEARCH_API_KEY", VIEWER)
    with Client(service.address) as client:
        assert client.search("x").hits


def test_errors_are_exceptions_with_the_services_words(client):
    with pytest.raises(NotFoundError, match="no item 999"):
        client.item(999)
    with pytest.raises(UsageError, match="empty"):
        client.search(" ")


class _Scripted(BaseHTTPRequestHandler):
    """Answers as it is told, one answer after the other."""

    answers: ClassVar[list[tuple[int, dict[str, str], bytes]]] = []
    asked = 0

    def do_GET(self):
        status, headers, body = type(self).answers[min(self.asked, len(self.answers) - 1)]
        type(self).asked += 1
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def scripted():
    """A server that gives scripted answers, which no real service can be made to give in time."""
    with HTTPServer(("127.0.0.1", 0), _Scripted) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        _Scripted.asked = 0
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


BUSY = json.dumps({"title": "x", "status": 429, "detail": "Too much."}).encode()


def test_a_busy_service_is_asked_again_when_it_says(scripted):
    _Scripted.answers = [(429, {"Retry-After": "1"}, BUSY), (200, {}, b'{"jobs": []}')]
    start = time.monotonic()
    with Client(scripted) as client:
        assert client.jobs().jobs == []
    assert time.monotonic() - start >= 1
    assert _Scripted.asked == 2


def test_patience_ends(scripted):
    _Scripted.answers = [(503, {"Retry-After": "0"}, BUSY)]
    with Client(scripted, retries=2) as client, pytest.raises(BusyError, match=r"Too much\."):
        client.jobs()
    assert _Scripted.asked == 3
    _Scripted.answers = [(429, {"Retry-After": "3600"}, BUSY)]
    with Client(scripted) as client, pytest.raises(BusyError):
        client.jobs()
    assert _Scripted.asked == 4


def test_what_is_no_service_is_told(scripted):
    _Scripted.answers = [(200, {}, b"<html>")]
    with Client(scripted) as client, pytest.raises(ServiceError, match="not an mmsearch service"):
        client.jobs()
    with Client("127.0.0.1:9") as client, pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9"):
        client.jobs()
    with pytest.raises(UsageError, match="address"):
        Client("http://a b:c")


def test_the_client_refuses_what_no_service_accepts():
    with Client("127.0.0.1:9") as client, pytest.raises(UsageError, match="rerank_depth"):
        client.search("x", rerank_depth=MAX_RERANK_DEPTH + 1)


def test_a_repeated_upload_with_its_idempotency_key_is_the_first_job(client, tmp_path):
    file = tmp_path / "purple.png"
    Image.new("RGB", (100, 80), "purple").save(file)
    first = client.upload(file, idempotency_key="an upload of purple")
    again = client.upload(file, idempotency_key="an upload of purple")
    assert again.id == first.id
    other = client.upload(file, idempotency_key="another upload")
    assert other.id != first.id
    assert other.result.files == first.result.files  # it is stored once
    client.delete(first.result.files[0].item_ids[0])
