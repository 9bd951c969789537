"""What needs a key, and of what scope."""

import hashlib
import re

import pytest
from starlette.testclient import TestClient

from api.http.app import create_app
from api.http.middleware import keys
from api.http.middleware.keys import Client, KeyRing, read_keys
from api.http.settings import ServiceSettings
from retrieval.errors import UsageError

READER = "reader-secret-0123456789"
WRITER = "writer-secret-0123456789"
KEYS = f"eve:read:{READER} bob:write:{WRITER}"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/search"),
        ("GET", "/v1/items/1"),
        ("GET", "/v1/items/1/thumbnail"),
        ("GET", "/v1/explain"),
        ("GET", "/openapi.json"),
        ("GET", "/metrics"),
        ("GET", "/nowhere"),
        ("GET", "//healthz"),
        ("GET", "/ui/../v1/items/1"),
        ("GET", "/ui"),
        ("GET", "/HEALTHZ"),
        ("OPTIONS", "/v1/search"),
    ],
)
@pytest.mark.parametrize(
    "authorization",
    [None, "Bearer", "Bearer wrong", f"Basic {READER}", f"{READER}", f"Bearer {READER}x"],
)
def test_nothing_is_had_without_a_valid_key(locked, method, path, authorization):
    locked.app.middleware_stack = None  # forget how many wrong keys were sent
    headers = {"Authorization": authorization} if authorization else {}
    target = f"http://localhost{path}"
    answer = locked.request(method, target, headers=headers)
    assert answer.status_code in ({401, 404} if ".." in path else {401})
    assert READER not in answer.text
    assert answer.status_code == 404 or answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_need_no_key(locked, path):
    assert locked.get(path).status_code == 200


def test_a_key_can_do_only_what_its_scopes_say(locked):
    reader = {"Authorization": f"Bearer {READER}"}
    writer = {"Authorization": f"bearer {WRITER}"}
    assert locked.get("/v1/items/1", headers=reader).status_code == 200
    answer = locked.get("/v1/items/1", headers=writer)
    assert answer.status_code == 403
    assert "bob lacks the scope read" in answer.json()["detail"]


def test_every_route_asks_for_a_scope_or_is_public(coloured_library, monkeypatch):
    nobody = Client("nobody", frozenset())
    ring = KeyRing([(hashlib.sha256(READER.encode()).digest(), nobody)])
    monkeypatch.setattr(keys, "read_keys", lambda *_: ring)
    app = create_app(coloured_library.path, device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        client.headers["Authorization"] = f"Bearer {READER}"
        for path, methods in app.openapi()["paths"].items():
            for method in methods:
                target = re.sub(r"\{\w+\}", "1", path)
                answer = client.request(method, target, json={} if method == "post" else None)
                expected = 200 if path in {"/healthz", "/readyz"} else 403
                if path == "/v1/archives/{token}":  # the token is the key, and there is none
                    expected = 404
                assert answer.status_code == expected, f"{method} {path}"


def test_guessing_of_keys_is_slowed_down_and_holds_nobody_else_up(coloured_library):
    app = create_app(coloured_library.path, ServiceSettings(api_keys=KEYS), device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        statuses = [
            client.get(
                "/v1/items/1", headers={"Authorization": f"Bearer guess-{number}"}
            ).status_code
            for number in range(30)
        ]
        assert statuses == [401] * 20 + [429] * 10
        right = client.get("/v1/items/1", headers={"Authorization": f"Bearer {READER}"})
        assert right.status_code == 200


def test_secrets_are_nowhere_to_be_read(caplog, monkeypatch):
    ring = read_keys(KEYS, None)
    monkeypatch.setenv("MMSEARCH_API_KEYS", KEYS)
    shown = repr(vars(ring)) + repr(ServiceSettings()) + str(ServiceSettings())
    assert READER not in shown
    with pytest.raises(UsageError) as wrong:
        read_keys(f"eve:admin:{READER}", None)
    assert READER not in str(wrong.value)
    assert "NAME:SCOPES:SECRET" in str(wrong.value)
