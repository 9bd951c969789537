"""Addresses of files that need no key: each attack tries to get more with one than it is for."""

import re
import time

import pytest
from starlette.testclient import TestClient

from api.http.app import create_app
from api.http.middleware import tickets
from api.http.settings import ServiceSettings

READER = "reader-secret-0123456789"
WRITER = "writer-secret-0123456789"
KEYS = f"eve:read:{READER} bob:write:{WRITER}"

BEARER = {"Authorization": f"Bearer {READER}"}


@pytest.fixture
def link(locked):
    """The address of the file of item 1 with a ticket."""
    answer = locked.post("/v1/items/1/link", headers=BEARER)
    assert answer.status_code == 200
    return answer.json()["url"]


def test_a_ticket_opens_its_file_without_a_key(locked, link):
    assert READER not in link
    assert link.startswith("/v1/items/1/file?ticket=")
    assert locked.get(link).headers["content-type"] == "image/png"
    assert locked.get(f"{link}&download=true").headers["content-disposition"].startswith("attach")
    part = locked.get(link, headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, b"\x89PNG")
    assert locked.head(link).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/items/2/file"),
        ("GET", "/v1/items/1"),
        ("GET", "/v1/items/1/thumbnail"),
        ("GET", "/v1/items/1/file/"),
        ("GET", "/v1/items/01/file"),
        ("GET", "/v1/items"),
        ("DELETE", "/v1/items/1"),
        ("POST", "/v1/items/1/link"),
        ("POST", "/v1/search"),
    ],
)
def test_a_ticket_is_for_one_file(locked, link, method, path):
    query = link.partition("?")[2]
    assert locked.request(method, f"{path}?{query}").status_code == 401


def test_a_changed_ticket_is_none(locked, link):
    path, ends, signature = re.fullmatch(r"(.*=)(\d+)\.(\w+\.\w+)", link).groups()
    later = int(ends) + 1
    flipped = ("1" if signature[0] == "0" else "0") + signature[1:]
    for other in (
        f"{path}{later}.{signature}",
        f"{path}{ends}.{flipped}",
        f"{path}{ends}.",
        f"{path}{ends}.{signature.upper()}",
        f"{path}.{signature}",
        f"{path}",
        f"{path}%00{ends}.{signature}",
    ):
        assert locked.get(other).status_code == 401, other


def test_a_ticket_expires(locked, link, monkeypatch):
    ends = time.time() + tickets.VALID_S
    monkeypatch.setattr(tickets.time, "time", lambda: ends - 5)
    assert locked.get(link).status_code == 200
    monkeypatch.setattr(tickets.time, "time", lambda: ends + 5)
    assert locked.get(link).status_code == 401


def test_a_ticket_is_not_given_to_a_key_that_may_not_read(locked):
    writer = {"Authorization": f"Bearer {WRITER}"}
    assert locked.post("/v1/items/1/link", headers=writer).status_code == 403
    assert locked.post("/v1/items/999/link", headers=BEARER).status_code == 404


def test_a_ticket_of_another_service_is_none(coloured_library, link):
    app = create_app(coloured_library.path, ServiceSettings(api_keys=KEYS), device="cpu")
    with TestClient(app, base_url="http://localhost") as other:
        assert other.get(link).status_code == 401


def test_a_ticket_ends_with_its_key(coloured_library, tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"eve:read:{READER}\n")
    app = create_app(coloured_library.path, ServiceSettings(api_keys_file=file), device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        url = client.post("/v1/items/1/link", headers=BEARER).json()["url"]
        assert client.get(url).status_code == 200
        file.write_text(f"eve:read:{READER}-another\n")
        app.state.keys.reload()
        assert client.get(url).status_code == 401


def test_a_service_without_keys_needs_no_ticket(coloured_library):
    app = create_app(coloured_library.path, ServiceSettings(root_path="/photos"), device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        answer = client.post("/photos/v1/items/1/link").json()
        assert answer == {"url": "/photos/v1/items/1/file", "expires_at": None}
        assert client.get(answer["url"]).status_code == 200
