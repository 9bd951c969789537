"""A service over sources on servers: files, thumbnails, and what it may not be led to."""

import io
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from api.http.app import create_app
from api.http.indexing_process import IndexingRequest
from api.http.routes.jobs import _allowed
from api.http.settings import ServiceSettings
from indexer.pipeline import index_sources
from indexer.sources import trust_named
from retrieval.errors import UsageError
from retrieval.library import create_library
from retrieval.media import Modality
from retrieval.objects import trust
from tests.object_servers import (  # noqa: F401 - fixtures
    clean_sources,
    picture,
    s3,
    s3_process,
    shard,
    web,
)

pytestmark = pytest.mark.slow

SOURCE = "s3://bucket/album"


@pytest.fixture
def library(tmp_path, tiny_encoder):
    library = create_library(tmp_path / "library", tiny_encoder.space)
    yield library
    library.close()


@pytest.fixture
def serve(library, tiny_encoder):
    """Index some sources, and give a client of a service and the ids of the items by path."""
    clients = []

    def run(*paths, **settings):
        trust_named(paths)
        if paths:
            index_sources(library, tiny_encoder, paths, workers=1, changes={"archives": True})
        chosen = ServiceSettings(rerank="none", **settings)
        client = TestClient(
            create_app(library.path, chosen, device="cpu"), base_url="http://localhost"
        )
        clients.append(client.__enter__())
        items = []
        for modality in Modality:
            items += client.get("/v1/items", params={"modality": modality}).json()["items"]
        return client, {item["path"]: item["item_id"] for item in items}

    yield run
    for client in clients:
        client.__exit__(None, None, None)


def test_files_and_thumbnails_come_from_the_server(s3, serve, tmp_path):  # noqa: F811
    pages = [Image.new("L", (8, 8), shade) for shade in range(3)]
    tiff = io.BytesIO()
    pages[0].save(tiff, "TIFF", save_all=True, append_images=pages[1:])
    members = {"m.png": picture(5), "m.txt": b"a member"}
    s3.put("bucket", {"album/a.png": picture(1, 300), "album/text.txt": b"some words here"})
    s3.put("bucket", {"album/s.tar": shard(members), "album/p.tif": tiff.getvalue()})
    client, ids = serve(SOURCE)
    assert set(ids) == {f"{SOURCE}/{n}" for n in ("a.png", "text.txt", "s.tar/m.png", "p.tif")}
    for path, content in {
        f"{SOURCE}/a.png": picture(1, 300),
        f"{SOURCE}/text.txt": b"some words here",
        f"{SOURCE}/s.tar/m.png": picture(5),
    }.items():
        address = f"/v1/items/{ids[path]}/file"
        answer = client.get(address)
        assert answer.content == content
        assert f'filename="{Path(path).name}"' in answer.headers["content-disposition"]
        part = client.get(address, headers={"Range": "bytes=3-7"})
        assert (part.status_code, part.content) == (206, content[3:8])
        assert client.head(address).headers["content-length"] == str(len(content))
    thumbnail = client.get(f"/v1/items/{ids[f'{SOURCE}/a.png']}/thumbnail")
    assert max(Image.open(io.BytesIO(thumbnail.content)).size) <= 300
    assert client.get(f"/v1/items/{ids[f'{SOURCE}/s.tar/m.png']}/thumbnail").status_code == 200
    stats = client.get("/v1/stats").json()
    assert (stats["sources"], stats["missing_sources"]) == ([SOURCE], [])
    s3.put("bucket", {"album/a.png": picture(2, 301)})
    changed = client.get(f"/v1/items/{ids[f'{SOURCE}/a.png']}/file")
    assert (changed.status_code, "changed" in changed.text) == (404, True)
    s3.client().delete_object(Bucket="bucket", Key="album/text.txt")
    assert client.get(f"/v1/items/{ids[f'{SOURCE}/text.txt']}/file").status_code == 404


def test_a_service_asks_no_server_that_its_user_never_named(web, serve, library):  # noqa: F811
    web.files["/p/a.png"] = picture(1)
    _, ids = serve(web.address + "/p")
    [item_id] = ids.values()
    for uri in trust.SOURCES.all():
        trust.SOURCES.remove(uri)
    web.asked.clear()
    client, _ = serve()
    [hit] = client.post("/v1/search", json={"text": "noise", "k": 1}).json()["hits"]
    assert hit["item_id"] == item_id
    for address in ("file", "thumbnail"):
        answer = client.get(f"/v1/items/{item_id}/{address}")
        assert (answer.status_code, "never named" in answer.text) == (404, True)
    assert web.asked == []


def test_a_shard_of_this_machine_is_served_as_a_file_is(serve, tmp_path):
    album = tmp_path / "album"
    album.mkdir()
    (album / "s.tar").write_bytes(shard({"a.png": picture(1)}))
    client, ids = serve(album)
    [item_id] = ids.values()
    assert client.get(f"/v1/items/{item_id}/file").content == picture(1)
    secret = tmp_path / "secret.tar"
    secret.write_bytes(shard({"a.png": picture(1)}))
    (album / "s.tar").unlink()
    (album / "s.tar").symlink_to(secret)
    answer = client.get(f"/v1/items/{item_id}/file")
    assert (answer.status_code, "below a source" in answer.text) == (404, True)


@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254/latest/meta-data",
        "s3://other-bucket/x",
        "s3://bucket/allowed-not",
        "s3://bucket/allowed/../secret",
        "S3://bucket",
        "https://user:word@host/x",
        "https://host/x?signature=1",
        "file:///etc",
        "gs://bucket/allowed",
    ],
)
def test_other_addresses_than_the_owner_allowed_are_refused(serve, address, clean_sources):  # noqa: F811
    client, _ = serve(index_below=(Path("s3://bucket/allowed"),))
    assert client.post("/v1/index", json={"paths": [address]}).status_code == 422
    assert client.get("/v1/jobs").json() == {"jobs": []}


def test_addresses_below_an_allowed_one_become_sources(serve, clean_sources):  # noqa: F811
    client, _ = serve(index_below=(Path("s3://bucket/allowed"), Path("/data")))
    service = client.app.state.service
    assert _allowed(service, ["s3://bucket/allowed/", "s3://bucket/allowed/x"]) == IndexingRequest(
        sources=("s3://bucket/allowed", "s3://bucket/allowed/x")
    )
    assert client.get("/v1/stats").json()["index_below"] == ["s3://bucket/allowed", "/data"]
    assert trust.is_trusted_uri("s3://bucket/allowed/x")
    with pytest.raises(UsageError):
        _allowed(service, ["s3://bucket/allowed2"])
