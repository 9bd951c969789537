"""Sub-paths, and what only trusted proxies may say."""

import asyncio

import pytest
from starlette.responses import JSONResponse, RedirectResponse
from starlette.testclient import TestClient

from api.http.app import create_app
from api.http.middleware.proxies import ForwardedHeaders
from api.http.root_path import at_root_path
from api.http.settings import ServiceSettings

FORWARDED = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "photos.example.org:8443, inner",
    "X-Forwarded-Prefix": "/photos/",
}


async def tell(scope, receive, send):
    """Answer what a request looks like to the service."""
    headers = dict(scope["headers"])
    answer = {
        "path": scope["path"],
        "client": scope["client"][0],
        "scheme": scope["scheme"],
        "host": headers[b"host"].decode(),
        "link": at_root_path("/v1/items"),
    }
    if scope["path"] == "/redirect":
        response = RedirectResponse(f"{scope['scheme']}://{answer['host']}/redirected/?a=1")
    else:
        response = JSONResponse(answer)
    await response(scope, receive, send)


def client_of(root_path="", trusted=(), address="10.0.0.7"):
    app = ForwardedHeaders(tell, root_path, trusted)
    return TestClient(app, base_url="http://localhost", client=(address, 50_000))


def test_a_trusted_proxy_says_who_asks_for_what():
    answer = client_of(trusted=["10.0.0.0/8"]).get("/photos/v1", headers=FORWARDED).json()
    assert answer == {
        "path": "/v1",
        "client": "203.0.113.9",
        "scheme": "https",
        "host": "photos.example.org:8443",
        "link": "/photos/v1/items",
    }


@pytest.mark.parametrize("trusted", [[], ["192.168.0.0/16", "::1/128"]])
def test_any_other_client_says_nothing(trusted):
    answer = client_of(trusted=trusted).get("/v1", headers=FORWARDED).json()
    assert (answer["client"], answer["scheme"]) == ("10.0.0.7", "http")
    assert (answer["host"], answer["link"]) == ("localhost", "/v1/items")


def test_an_ipv4_address_in_ipv6_is_the_same_proxy():
    trusting = client_of(trusted=["10.0.0.0/8"], address="::ffff:10.0.0.7")
    assert trusting.get("/photos/a", headers=FORWARDED).json()["path"] == "/a"


@pytest.mark.parametrize("prefix", ["//evil.example", "https://evil.example", "/a/../b", "/a b"])
def test_a_prefix_that_is_no_path_is_ignored(prefix):
    answer = client_of("/own", ["10.0.0.0/8"]).get("/", headers={"X-Forwarded-Prefix": prefix})
    assert answer.json()["link"] in {"/own/v1/items", "/evil.example/v1/items"}


@pytest.mark.parametrize("host", ["evil.example/path", "a b", "user@evil.example"])
def test_a_forwarded_host_that_is_no_name_is_ignored(host):
    answer = client_of(trusted=["10.0.0.0/8"]).get("/", headers={"X-Forwarded-Host": host})
    assert answer.json()["host"] == "localhost"


@pytest.mark.parametrize(
    ("asked", "seen"), [("/photos/v1", "/v1"), ("/v1", "/v1"), ("/photosv1", "/photosv1")]
)
def test_a_proxy_may_strip_the_sub_path_or_keep_it(asked, seen):
    answer = client_of("/photos").get(asked).json()
    assert (answer["path"], answer["link"]) == (seen, "/photos/v1/items")


def test_the_sub_path_without_a_slash_is_sent_to_the_page():
    answer = client_of("/photos").get("/photos?text=dog", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "/photos/?text=dog")


def test_redirects_are_relative_to_the_server_of_the_proxy():
    answer = client_of("/photos").get("/redirect", follow_redirects=False)
    assert answer.headers["location"] == "/photos/redirected/?a=1"


def test_requests_do_not_share_their_sub_path():
    async def both():
        app = ForwardedHeaders(tell, "/photos", [])
        seen = []

        async def ask(path):
            scope = {
                "type": "http",
                "path": path,
                "headers": [(b"host", b"h")],
                "scheme": "http",
                "client": ("10.0.0.7", 1),
                "method": "GET",
            }
            await app(scope, None, record)

        async def record(message):
            seen.append(message)

        await asyncio.gather(ask("/photos/a"), ask("/b"))
        return seen

    assert len(asyncio.run(both())) == 4
    assert at_root_path("/v1") == "/v1"


def test_addresses_in_answers_have_the_sub_path(coloured_library):
    app = create_app(coloured_library.path, ServiceSettings(root_path="photos"), device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        [hit, *_] = client.post("/photos/v1/search", json={"text": "a dog"}).json()["hits"]
        assert hit["thumbnail"].startswith("/photos/v1/items/")
        assert client.get(hit["thumbnail"]).status_code == 200
        job = client.post("/v1/index")
        assert client.get(job.headers["location"]).json()["id"] == job.json()["id"]
        assert job.headers["location"].startswith("/photos/v1/jobs/")
        for path in ("/photos/", "/photos/healthz", "/photos/openapi.json"):
            assert client.get(path).status_code == 200
        described = client.get("/photos/openapi.json").json()
        assert described["servers"] == [{"url": "/photos"}]
        assert client.get("/openapi.json").json() == described


@pytest.mark.parametrize("kept", [True, False], ids=["kept by the proxy", "stripped"])
def test_methods_and_redirects_are_right_below_a_sub_path(coloured_library, kept):
    settings = ServiceSettings(root_path="/photos")
    app = create_app(coloured_library.path, settings, device="cpu")
    base = "/photos" if kept else ""
    with TestClient(app, base_url="http://localhost", follow_redirects=False) as client:
        for path in ("/", "/healthz", "/readyz", "/v1/items/1/thumbnail", "/v1/items/1/file"):
            got, head = client.get(base + path), client.head(base + path)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers.get("content-length") == got.headers.get("content-length")
        for missing in ("/nothing", "/v1/items/999999", "/ui/nothing.js"):
            assert client.get(base + missing).status_code == 404
            assert client.head(base + missing).status_code in {404, 405}
        wrong = client.put(f"{base}/v1/items/1")
        assert wrong.status_code == 405
        assert set(wrong.headers["allow"].split(", ")) - {"HEAD"} == {"GET", "DELETE"}
        moved = client.get(f"{base}/v1/items/?limit=1")
        assert (moved.status_code, moved.headers["location"]) == (307, "/photos/v1/items?limit=1")
        if kept:
            bare = client.get("/photos?q=a")
            assert (bare.status_code, bare.headers["location"]) == (307, "/photos/?q=a")
