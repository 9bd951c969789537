"""Bodies of requests: bounded in size, time and memory."""

import socket
import time

import httpx
import pytest

from api.http.app import create_app
from api.http.middleware import bodies
from api.http.settings import ServiceSettings


def chunked(pieces):
    yield from pieces


def test_a_body_larger_than_allowed_is_refused_by_what_it_declares(client, refused):
    answer = client.post("/v1/search", content=b"x" * 100_001)
    assert refused(client, answer, 413, "body_size")
    assert answer.headers["connection"] == "close"


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


def test_chunked_body_of_many_pieces_is_counted_as_a_whole(client, refused):
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


def test_a_packed_body_is_never_unpacked(client, refused):
    answer = client.post("/v1/search", content=b"\x1f\x8b", headers={"Content-Encoding": "gzip"})
    assert refused(client, answer, 415, "body_encoding")
