"""Several named libraries in one service."""

import pytest
from PIL import Image
from starlette.testclient import TestClient

from api.http.libraries import create_libraries_app
from api.http.settings import ServiceSettings
from indexer.pipeline import index_sources
from retrieval.errors import LibraryError, UsageError
from retrieval.library import create_library

pytestmark = pytest.mark.slow

KEY = "reader:read:" + "x" * 20
AS_READER = {"Authorization": "Bearer " + "x" * 20}


@pytest.fixture(scope="module")
def libraries(tmp_path_factory, tiny_encoder):
    made = {}
    for name in ("red", "blue"):
        folder = tmp_path_factory.mktemp(name)
        Image.new("RGB", (60, 40), name).save(folder / f"{name}.png")
        made[name] = create_library(folder / "library", tiny_encoder.space)
        index_sources(made[name], tiny_encoder, [folder], workers=1)
    yield {name: library.path for name, library in made.items()}
    for library in made.values():
        library.close()


def service(libraries, **settings):
    settings = ServiceSettings(rerank="none", **settings)
    app = create_libraries_app(libraries, settings, device="cpu")
    return TestClient(app, base_url="http://localhost")


def wait_until_ready(client) -> None:
    while client.get("/readyz").status_code != 200:
        pass


@pytest.fixture(scope="module")
def client(libraries):
    broken = LibraryError("its catalog cannot be read")
    with service({**libraries, "broken": broken}) as client:
        wait_until_ready(client)
        yield client


def names(answer) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [hit["path"].rpartition("/")[2] for hit in answer.json()["hits"]]


def test_each_library_answers_at_its_address(client):
    for name in ("red", "blue"):
        found = client.post(f"/libraries/{name}/v1/search", json={"text": "x"})
        assert names(found) == [f"{name}.png"]
        [hit] = found.json()["hits"]
        assert hit["thumbnail"].startswith(f"/libraries/{name}/v1/items/")
        assert client.get(hit["thumbnail"]).status_code == 200
        assert "<html" in client.get(f"/libraries/{name}/").text
        metrics = client.get(f"/libraries/{name}/metrics").text
        assert 'mmsearch_rows{modality="image"} 1.0' in metrics
    assert client.get("/v1/stats").status_code == 404
    assert client.get("/libraries/none/v1/stats").status_code == 404


def test_the_list_tells_the_state_of_each_and_why_one_failed(client):
    told = {one["name"]: one for one in client.get("/v1/libraries").json()["libraries"]}
    assert list(told) == ["red", "blue", "broken"]
    assert told["red"] == {
        "name": "red",
        "address": "/libraries/red/",
        "state": "ready",
        "detail": None,
    }
    assert told["broken"]["state"] == "failed"
    assert told["broken"]["detail"] == "its catalog cannot be read"
    assert client.get("/libraries/broken/v1/stats").status_code == 404


def test_the_root_leads_to_the_first_page(client):
    answer = client.get("/", follow_redirects=False)
    assert answer.headers["location"] == "/libraries/red/"
    answer = client.get("/libraries/blue", follow_redirects=False)
    assert answer.headers["location"] == "/libraries/blue/"


def test_keys_and_hosts_hold_for_all(libraries):
    with service(libraries, api_keys=KEY) as client:
        wait_until_ready(client)
        for path in ("/v1/libraries", "/libraries/red/v1/stats", "/libraries/blue/v1/stats"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers=AS_READER).status_code == 200
        refused = client.post("/libraries/red/v1/index", headers=AS_READER)
        assert refused.status_code == 403
    with service(libraries) as client:
        for path in ("/v1/libraries", "/libraries/red/v1/stats"):
            assert client.get(path, headers={"Host": "evil.example"}).status_code == 421


def test_a_proxy_may_keep_or_strip_its_path(libraries):
    with service(libraries, root_path="/photos") as client:
        wait_until_ready(client)
        for before in ("", "/photos"):
            found = client.post(f"{before}/libraries/red/v1/search", json={"text": "x"})
            [hit] = found.json()["hits"]
            assert hit["thumbnail"].startswith("/photos/libraries/red/v1/items/")
        told = client.get("/photos/v1/libraries").json()["libraries"]
        assert told[0]["address"] == "/photos/libraries/red/"


def test_what_only_one_library_can_have_is_refused(libraries, tmp_path):
    with pytest.raises(UsageError, match="uploads"):
        create_libraries_app(libraries, ServiceSettings(uploads=tmp_path))
    with pytest.raises(UsageError, match="name"):
        create_libraries_app({"a/b": tmp_path}, ServiceSettings())
