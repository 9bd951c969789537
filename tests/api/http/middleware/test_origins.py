"""What another web site may make a browser do here."""

import json

import pytest
from starlette.testclient import TestClient

from api.http.app import create_app
from api.http.settings import ServiceSettings
from retrieval.errors import UsageError

READER = "reader-secret-0123456789"
WRITER = "writer-secret-0123456789"
KEYS = f"eve:read:{READER} bob:write:{WRITER}"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "http://[bad"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
    ],
)
def test_cross_site_request_forgery_is_refused(client, headers, refused):
    body = json.dumps({"text": "a dog"})
    simple = {"Content-Type": "text/plain"}  # what a page may send without asking first
    answer = client.post("/v1/search", content=body, headers=headers | simple)
    assert refused(client, answer, 403, "cross_site")


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://localhost"}, {"Origin": "http://localhost:80"}, {}]
    + [{"Sec-Fetch-Site": site} for site in ("same-origin", "none")],
)
def test_cross_site_guard_lets_our_own_page_and_programs_in(client, headers):
    answer = client.post("/v1/search", json={"text": "a dog"}, headers=headers)
    assert answer.status_code == 200


def test_cross_site_reading_of_pictures_and_data_is_refused(client):
    cross = {"Sec-Fetch-Site": "cross-site"}
    image = client.get("/v1/items/1/thumbnail", headers=cross | {"Sec-Fetch-Mode": "no-cors"})
    assert image.status_code == 403
    fetched = client.get("/v1/items/1", headers={"Origin": "https://evil.example"})
    assert fetched.status_code == 403
    link = client.get("/v1/items/1", headers=cross | {"Sec-Fetch-Mode": "navigate"})
    assert link.status_code == 200
    assert link.headers["cross-origin-resource-policy"] == "same-origin"


def test_cors_is_off_by_default_and_on_for_the_sites_that_are_named(client, coloured_library):
    asking = {"Origin": "https://good.example", "Access-Control-Request-Method": "POST"}
    assert "access-control-allow-origin" not in client.options("/v1/search", headers=asking).headers
    settings = ServiceSettings(cors_origins=("https://good.example",), api_keys=KEYS)
    app = create_app(coloured_library.path, settings, device="cpu")
    with TestClient(app, base_url="http://localhost") as open_client:
        asked = open_client.options("/v1/search", headers=asking)
        assert asked.headers["access-control-allow-origin"] == "https://good.example"
        answer = open_client.post(
            "/v1/search",
            json={"text": "a dog"},
            headers={"Origin": "https://good.example", "Authorization": f"Bearer {READER}"},
        )
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://good.example"
        for origin in ("https://evil.example", "https://good.example.evil.example"):
            other = open_client.post("/v1/search", json={}, headers={"Origin": origin})
            assert other.status_code == 403
            assert "access-control-allow-origin" not in other.headers


def test_every_web_site_may_only_be_let_in_with_keys(coloured_library):
    with pytest.raises(UsageError, match="API key"):
        create_app(coloured_library.path, ServiceSettings(cors_origins=("*",)))


@pytest.mark.parametrize(
    ("host", "headers", "status"),
    [
        ("127.0.0.1:8765", {"Origin": "https://photos.example"}, 200),
        ("photos.example", {"Origin": "https://photos.example:8443"}, 200),
        ("photos.example:8765", {"Origin": "http://photos.example"}, 200),
        ("photos.example:8765", {"Origin": "http://other.example"}, 403),
        ("127.0.0.1", {"Origin": "https://photos.example", "Sec-Fetch-Site": "cross-site"}, 403),
        ("127.0.0.1", {"Origin": "https://photos.example", "Sec-Fetch-Site": "same-site"}, 403),
        ("127.0.0.1", {"Origin": "https://photos.example.evil.example"}, 403),
        ("127.0.0.1", {"Origin": "https://ported.example:8443"}, 200),
        ("ported.example", {"Origin": "https://ported.example:9000"}, 403),
    ],
)
def test_the_page_is_known_by_an_allowed_name_behind_a_proxy(own_names, host, headers, status):
    answer = own_names.post("/v1/facets", json={}, headers=headers | {"Host": host})
    assert answer.status_code == status


@pytest.fixture(scope="module")
def own_names(coloured_library):
    settings = ServiceSettings(allowed_hosts="photos.example, ported.example:8443")
    app = create_app(coloured_library.path, settings, device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        yield client
