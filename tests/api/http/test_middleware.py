"""Each defence of the service, by the attack that it stops."""

import base64
import hashlib
import hmac
import io
import json
import re
import socket
import time

import httpx
import pytest
from PIL import Image
from starlette.testclient import TestClient

from api.http import app as server
from api.http.app import create_app
from api.http.batching import Inference
from api.http.middleware import bodies
from api.http.middleware.headers import POLICY
from api.http.middleware.keys import Client, KeyRing, new_key, read_keys
from api.http.middleware.rates import Rate, address_of
from api.http.settings import ServiceSettings
from retrieval.errors import UsageError

READER = "reader-secret-0123456789"
WRITER = "writer-secret-0123456789"
KEYS = f"eve:read:{READER} bob:write:{WRITER}"


@pytest.fixture(scope="module")
def client(coloured_library):
    app = create_app(coloured_library.path, ServiceSettings(max_body_mb=0.1), device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        yield client


@pytest.fixture(scope="module")
def locked(coloured_library):
    """A service with keys."""
    app = create_app(coloured_library.path, ServiceSettings(api_keys=KEYS), device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        yield client


@pytest.fixture(scope="module")
def port(coloured_library, served):
    app = create_app(coloured_library.path, ServiceSettings(max_body_mb=0.1), device="cpu")
    with served(app) as port:
        yield port


def refused(client, answer, status, reason):
    """Check a refusal: a problem, with all headers, and counted."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert answer.headers["content-security-policy"] == POLICY
    return f'mmsearch_rejected_requests_total{{reason="{reason}"}}' in client.get("/metrics").text


# Names and sites


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8765", "", "[::2]"]
)
def test_dns_rebinding_is_refused(client, host):
    assert refused(client, client.get("/v1/items/1", headers={"Host": host}), 421, "host")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:8765", "127.9.9.9", "[::1]:8765", "localhost."]
)
def test_dns_rebinding_guard_knows_this_machines_own_names(client, host):
    assert client.get("/v1/items/1", headers={"Host": host}).status_code == 200


def test_dns_rebinding_guard_lets_a_name_in_that_is_allowed(coloured_library):
    settings = ServiceSettings(allowed_hosts="photos.example, other.example")
    app = create_app(coloured_library.path, settings, device="cpu")
    with TestClient(app, base_url="http://photos.example:8765") as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/healthz", headers={"Host": "third.example"}).status_code == 421


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
def test_cross_site_request_forgery_is_refused(client, headers):
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


@pytest.mark.parametrize("path", ["/healthz", "/nowhere", "/v1/items/1/thumbnail", "/metrics"])
def test_clickjacking_sniffing_and_scripts_are_shut_out_on_every_answer(client, path):
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert policy.startswith("default-src 'none'")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert "server" not in headers
    assert "cache-control" in headers


def test_a_bug_tells_a_client_nothing(coloured_library, monkeypatch, caplog):
    async def broken(*_):
        raise ZeroDivisionError("the secret inside")

    with TestClient(
        create_app(coloured_library.path, device="cpu"), base_url="http://localhost"
    ) as client:
        monkeypatch.setattr(Inference, "search", broken)
        answer = client.post("/v1/search", json={"text": "a dog"})
        assert refused(client, answer, 500, "") is False
    assert "secret" not in answer.text
    assert "the secret inside" in caplog.text


# Keys


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
    monkeypatch.setattr(server, "read_keys", lambda *_: ring)
    app = create_app(coloured_library.path, device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        client.headers["Authorization"] = f"Bearer {READER}"
        for path, methods in app.openapi()["paths"].items():
            for method in methods:
                target = re.sub(r"\{\w+\}", "1", path)
                answer = client.request(method, target, json={} if method == "post" else None)
                expected = 200 if path in {"/healthz", "/readyz"} else 403
                assert answer.status_code == expected, f"{method} {path}"


def test_timing_tells_nothing_of_a_key(monkeypatch):
    """Whichever key is sent, all are compared, each in constant time."""
    ring = read_keys(KEYS, None)
    compared = []

    def counting(known: bytes, sent: bytes) -> bool:
        compared.append(len(known) == len(sent) == 32)
        return hmac_compare(known, sent)

    hmac_compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", counting)
    for secret in (READER, WRITER, READER[:-1] + "x", "x", "é" * 10_000):
        compared.clear()
        ring.client_of(secret)
        assert compared == [True, True]


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


@pytest.mark.parametrize(
    "line",
    [
        "eve",
        "eve:read",
        "eve:read:",
        ":read:0123456789abcdef",
        "eve::0123456789abcdef",
        "eve:read:short",
        "eve:read:é0123456789abcdef",
        "eve:read,root:0123456789abcdef",
        f"a:read:{READER} a:write:{WRITER}",
    ],
)
def test_weak_and_wrong_keys_are_refused(line):
    with pytest.raises(UsageError):
        read_keys(line, None)


def test_keys_come_from_a_file_with_comments(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# of the house\n\n eve:read:{READER}\n{new_key('me')}\n", encoding="utf-8")
    ring = read_keys("", file)
    client = ring.client_of(READER)
    assert client is not None
    assert (client.name, client.scopes) == ("eve", {"read"})
    file.write_text("# nothing\n", encoding="utf-8")
    with pytest.raises(UsageError, match="no API key"):
        read_keys("", file)
    with pytest.raises(UsageError, match="cannot be read"):
        read_keys("", tmp_path / "gone")
    assert not KeyRing()


# Too much


def test_a_body_larger_than_allowed_is_refused_by_what_it_declares(client):
    answer = client.post("/v1/search", content=b"x" * 100_001)
    assert refused(client, answer, 413, "body_size")
    assert answer.headers["connection"] == "close"


def chunked(pieces):
    yield from pieces


def test_a_body_larger_than_declared_is_cut_off_while_it_comes(port):
    """A chunked body declares no length: it is refused once it is too long, not at its end."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.sendall(
            b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        sent = 0
        line.settimeout(0.05)
        answer = b""
        while not answer and sent < 50_000_000:
            try:
                line.sendall(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
                sent += 10_000
                answer = line.recv(1000) if sent > 100_000 else b""
            except TimeoutError:
                continue
            except OSError:
                break
        assert sent < 5_000_000
        assert not answer or answer.startswith(b"HTTP/1.1 413")


def test_chunked_body_of_many_pieces_is_counted_as_a_whole(client):
    answer = client.post("/v1/search", content=chunked([b"x" * 1000] * 101))
    assert refused(client, answer, 413, "body_size")


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 5000])
def test_lies_about_the_length_are_refused(port, length):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        head = f"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
        line.sendall(head.encode())
        assert line.recv(1000).split()[1] in {b"400", b"413"}


def test_request_smuggling_by_two_lengths_is_refused(port):
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.sendall(
            b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
            b"Content-Length: 40\r\n\r\n{}GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        assert line.recv(1000).split()[1] == b"400"


def test_a_body_that_never_ends_is_given_up(coloured_library, served, monkeypatch):
    monkeypatch.setattr(bodies, "_CHUNK_S", 0.2)
    app = create_app(coloured_library.path, device="cpu")
    with served(app) as port, socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.sendall(
            b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        assert line.recv(1000).startswith(b"HTTP/1.1 408")


def test_many_large_bodies_at_once_do_not_fill_the_memory(coloured_library, served):
    settings = ServiceSettings(max_body_mb=0.1)
    app = create_app(coloured_library.path, settings, device="cpu")
    head = (
        b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100000\r\n\r\n"
    )
    with served(app) as port:
        lines = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(6)]
        for line in lines[:5]:
            line.sendall(head + b" " * 80_000)
        time.sleep(1.0)
        lines[5].sendall(head + b" " * 99_999)
        assert lines[5].recv(1000).startswith(b"HTTP/1.1 429")
        for line in lines:
            line.close()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            answer = httpx.post(f"http://127.0.0.1:{port}/v1/search", json={"text": "x" * 9000})
            if answer.status_code == 200:
                break
        assert answer.status_code == 200


def test_a_packed_body_is_never_unpacked(client):
    answer = client.post("/v1/search", content=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    assert refused(client, answer, 415, "body_encoding")


def test_floods_from_one_client_are_limited_without_harm_to_others(coloured_library):
    settings = ServiceSettings(rate_limit="5/minute", api_keys=KEYS)
    app = create_app(coloured_library.path, settings, device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        reader = {"Authorization": f"Bearer {READER}"}
        statuses = [client.get("/v1/items/1", headers=reader).status_code for _ in range(8)]
        assert statuses == [200] * 5 + [429] * 3
        answer = client.get("/v1/items/1", headers=reader)
        assert 1 <= int(answer.headers["retry-after"]) <= 12
        other = client.get("/v1/items/1", headers={"Authorization": f"Bearer {WRITER}"})
        assert other.status_code == 403


def test_after_a_flood_a_client_may_ask_again_at_the_rate():
    rate = Rate("20/second")
    began = time.monotonic()

    def most() -> float:
        return 20 + 20 * (time.monotonic() - began)

    at_once = [rate.allows("eve") for _ in range(40)].count(True)
    assert 20 <= at_once <= most()
    time.sleep(0.12)
    later = [rate.allows("eve") for _ in range(40)].count(True)
    assert later >= 2
    assert at_once + later <= most()
    assert rate.allows("bob")


def test_a_flood_from_many_addresses_does_not_fill_the_memory():
    rate = Rate("1/hour")
    for number in range(50_000):
        rate.allows(f"address {number}")
    assert len(rate._full_at) <= 20_000


@pytest.mark.parametrize(
    ("rate", "amount", "window_s"),
    [
        ("100/second", 100, 1),
        ("5 per 2 hours", 5, 7200),
        ("10/ 3minutes", 10, 180),
        ("1 PER Day", 1, 86_400),
        ("7per5month", 7, 5 * 30 * 86_400),
        (" 3 / years ", 3, 360 * 86_400),
    ],
)
def test_a_rate_is_an_amount_in_a_time(rate, amount, window_s):
    read = Rate(rate)
    assert (read._window_s / read._interval_s, read._window_s) == (amount, window_s)


@pytest.mark.parametrize(
    "rate", ["many", "0/second", "-1/minute", "5/fortnight", "5/1 2second", "1/secondly", ""]
)
def test_a_wrong_rate_is_an_error(coloured_library, rate):
    with pytest.raises(UsageError, match="Invalid rate"):
        create_app(coloured_library.path, ServiceSettings(rate_limit=rate))


def test_addresses_of_one_ipv6_network_are_one_client():
    def who(host: str) -> str:
        return address_of({"client": (host, 1)})

    assert who("2001:db8::1") == who("2001:db8::2:3") != who("2001:db8:0:1::1")
    assert who("192.0.2.1") != who("192.0.2.2")


def test_forged_forwarding_headers_do_not_change_who_asks(coloured_library):
    settings = ServiceSettings(rate_limit="3/minute")
    app = create_app(coloured_library.path, settings, device="cpu")
    with TestClient(app, base_url="http://localhost") as client:
        statuses = [
            client.get("/v1/items/1", headers={"X-Forwarded-For": f"192.0.2.{n}"}).status_code
            for n in range(5)
        ]
    assert statuses == [200] * 3 + [429] * 2


# Pictures that clients send


def ask_with(client, picture: bytes | str):
    if isinstance(picture, bytes):
        picture = base64.b64encode(picture).decode()
    return client.post("/v1/search", json={"image": picture})


def test_decompression_bomb_as_a_query_is_refused_by_its_header(client):
    stream = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(stream, "PNG", optimize=True)
    assert len(stream.getvalue()) < 60_000
    began = time.perf_counter()
    answer = ask_with(client, stream.getvalue())
    assert answer.status_code == 422
    assert "pixels" in answer.json()["detail"]
    assert time.perf_counter() - began < 5


def test_server_side_request_forgery_finds_nobody_who_asks(client):
    """Neither addresses instead of pictures nor those within a drawing are followed."""
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.3)
        url = f"http://127.0.0.1:{trap.getsockname()[1]}/x.png"
        drawing = (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'width="9" height="9"><image width="9" height="9" href="{url}" xlink:href="{url}"/>'
            "</svg>"
        )
        assert ask_with(client, url).status_code == 422
        assert ask_with(client, drawing.encode()).status_code in {200, 422}
        with pytest.raises(TimeoutError):
            trap.accept()


@pytest.mark.parametrize("path", ["/etc/passwd", "file:///etc/passwd", "../../etc/passwd"])
def test_files_of_the_service_are_not_read_for_a_query(client, path):
    answer = ask_with(client, path)
    assert answer.status_code == 422
    assert "root:" not in answer.text
    assert "root:" not in ask_with(client, path.encode()).text
