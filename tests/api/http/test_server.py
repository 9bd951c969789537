"""Connections that cannot starve the service, and an end that drops no accepted request."""

import asyncio
import contextlib
import errno
import json
import logging
import os
import random
import signal
import socket
import threading
import time
from types import SimpleNamespace

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from api.http.server import BoundedProtocol, Connections, Server
from api.http.settings import ServiceSettings

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def app_that_takes(seconds: float) -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def answer() -> PlainTextResponse:
        await asyncio.sleep(seconds)
        return PlainTextResponse("right")

    @app.get("/large")
    async def large() -> PlainTextResponse:
        return PlainTextResponse("x" * 30_000_000)

    return app


@contextlib.contextmanager
def running(monkeypatch=None, *, takes_s=0.0, head_s=0.3, **settings):
    """A server on a thread; yields it with its port."""
    chosen = ServiceSettings(port=0, log_level="warning", **settings)
    server = Server(app_that_takes(takes_s), chosen)
    server.limits.head_s = head_s
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    server.port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        server.should_exit = True
        thread.join()


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def read_all(line: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionError):
        while chunk := line.recv(1 << 16):
            received += chunk
    return received


def answered(line: socket.socket) -> bool:
    """Return whether the next answer is the right one."""
    received = b""
    while not received.endswith(b"right"):
        chunk = line.recv(1 << 16)
        if not chunk:
            return False
        received += chunk
    return received.startswith(b"HTTP/1.1 200 ")


def eventually(is_so) -> None:
    end = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_an_idle_connection_is_closed():
    with running() as server, connect(server) as line:
        assert read_all(line) == b""
        eventually(lambda: len(server.limits) == 0)


def test_a_head_that_comes_byte_by_byte_is_answered_408_and_closed():
    with running() as server, connect(server) as line:
        began = time.monotonic()
        with contextlib.suppress(OSError):
            for byte in GET[:-2] * 100:
                line.sendall(bytes([byte]))
                time.sleep(0.02)
                if time.monotonic() - began > 1:
                    break
        answer = read_all(line)
        assert time.monotonic() - began < 5
        assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")
        eventually(lambda: len(server.limits) == 0)


def test_half_a_head_gets_its_answer():
    with running() as server, connect(server) as line:
        line.sendall(GET[:-2])
        head, _, body = read_all(line).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 408 ")
        assert b"Connection: close" in head
        assert json.loads(body)["status"] == 408


def test_a_connection_that_is_used_stays():
    with running() as server, connect(server) as line:
        for _ in range(4):
            line.sendall(GET)
            assert answered(line)
            time.sleep(0.2)


def test_a_client_that_takes_nothing_is_disconnected(monkeypatch):
    monkeypatch.setattr("api.http.server._SEND_S", 0.2)
    with running() as server, connect(server) as line:
        line.sendall(GET.replace(b"/ ", b"/large "))
        eventually(lambda: len(server.limits) == 1)
        eventually(lambda: len(server.limits) == 0)
        assert len(read_all(line)) < 30_000_000


def test_idle_connections_lock_nobody_out():
    with running(head_s=30, max_connections_per_address=5) as server:
        idle = [connect(server) for _ in range(20)]
        with connect(server) as line:
            line.sendall(GET)
            assert answered(line)
            assert len(server.limits) <= 5
        for line in idle:
            line.close()


def test_where_all_are_at_work_a_new_connection_is_refused(caplog):
    with running(takes_s=0.5, max_connections=3) as server:
        lines = [connect(server) for _ in range(3)]
        for line in lines:
            line.sendall(GET)
        eventually(lambda: len(server.server_state.tasks) == 3)
        for _ in range(3):
            with connect(server) as refused:
                assert read_all(refused).startswith(b"HTTP/1.1 503 ")
        for line in lines:
            assert answered(line)
            line.close()
    assert len([one for one in caplog.records if "refused" in one.message]) == 1


def test_the_limit_of_an_address_is_not_that_of_a_proxy():
    with running(
        takes_s=0.5, max_connections_per_address=2, trusted_proxies=["127.0.0.1"]
    ) as server:
        lines = [connect(server) for _ in range(6)]
        for line in lines:
            line.sendall(GET)
        for line in lines:
            assert answered(line)
            line.close()


class Line:
    """A connection without a network."""

    def __init__(self, is_idle: bool) -> None:
        self.is_idle = is_idle
        self.is_open = True

    def abort(self) -> None:
        self.is_open = False


@pytest.mark.parametrize("seed", range(20))
def test_limits_hold_whatever_comes_and_only_idle_connections_make_room(seed):
    rng = random.Random(seed)
    limits = Connections(12, 4, proxies={"10.0.0.1"})
    opened: dict[Line, str] = {}
    for _ in range(400):
        match rng.choice(["open", "open", "close", "change"]):
            case "open":
                line, host = Line(rng.random() < 0.5), f"10.0.0.{rng.randrange(1, 5)}"
                busy = {one for one in opened if not one.is_idle}
                if limits.admit(line, host):
                    opened[line] = host
                else:
                    same = {one for one in opened if opened[one] == host}
                    assert same <= busy or set(opened) == busy
                assert all(one.is_open for one in busy)
                opened = {one: host for one, host in opened.items() if one.is_open}
            case "close" if opened:
                line = rng.choice(list(opened))
                limits.remove(line)
                del opened[line]
            case "change" if opened:
                line = rng.choice(list(opened))
                line.is_idle = not line.is_idle
                limits.touch(line)
        assert len(limits) == len(opened) <= 12
        for number in range(2, 5):
            assert list(opened.values()).count(f"10.0.0.{number}") <= 4


def test_addresses_of_one_ipv6_network_count_as_one():
    limits = Connections(100, 2)
    assert limits.admit(Line(is_idle=False), "2001:db8::1")
    assert limits.admit(Line(is_idle=False), "2001:db8::2")
    assert not limits.admit(Line(is_idle=False), "2001:db8::3")
    assert limits.admit(Line(is_idle=False), "2001:db8:0:1::1")


def test_errors_of_accept_make_room_and_do_not_fill_the_log(caplog):
    server = Server(app_that_takes(0), ServiceSettings())
    idle = [Line(is_idle=True) for _ in range(20)]
    for line in idle:
        server.limits.admit(line, "10.0.0.1")
    for _ in range(1000):
        error = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        server._handle_loop_error(SimpleNamespace(), {"exception": error, "message": "accept"})
    assert len(caplog.records) == 1
    assert not any(line.is_open for line in idle)
    told = []
    loop = SimpleNamespace(default_exception_handler=told.append)
    server._handle_loop_error(loop, {"exception": ValueError("another"), "message": "x"})
    assert len(told) == 1


def test_the_number_of_connections_leaves_descriptors(monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (128, 128))
    assert Connections(1000, 256).most == 64
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert Connections(1000, 256).most == 1000


def test_requests_that_were_accepted_are_answered_as_the_last():
    with running(takes_s=0.3) as server:
        lines = [connect(server) for _ in range(3)]
        lines[0].sendall(GET)
        eventually(lambda: len(server.server_state.tasks) == 1)
        eventually(lambda: len(server.limits) == 3)
        server.should_exit = True
        eventually(lambda: server.limits.is_ending)
        lines[1].sendall(GET)  # its client could not know
        for line in lines[:2]:
            answer = read_all(line)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" in answer.lower()
            assert answer.endswith(b"right")
        assert read_all(lines[2]) == b""
        for line in lines:
            line.close()


def test_connections_in_the_queue_are_accepted_before_it_is_closed():
    """Those that the system has accepted and the loop has not yet seen."""

    async def serve() -> bytes:
        server = Server(app_that_takes(0), ServiceSettings(port=0, log_level="warning"))
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup()
        [listener] = server.servers[0].sockets
        asyncio.get_running_loop().remove_reader(listener.fileno())
        with socket.create_connection(listener.getsockname(), timeout=10) as line:
            line.sendall(GET)
            await server.shutdown()
            return await asyncio.to_thread(read_all, line)

    assert asyncio.run(serve()).endswith(b"right")


def test_the_protocol_is_that_of_uvicorn_without_websockets():
    config = Server(app_that_takes(0), ServiceSettings()).config
    config.load()
    assert config.http_protocol_class.func is BoundedProtocol
    assert config.ws_protocol_class is None
    assert isinstance(config, uvicorn.Config)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes of POSIX")
def test_what_does_not_end_is_ended_within_the_time_that_is_set():
    pid = os.fork()
    if pid == 0:
        logging.disable()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        server = Server(app_that_takes(60), ServiceSettings(port=0, shutdown_s=0.3))
        threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
        signal.signal(signal.SIGTERM, server.handle_exit)
        while True:  # as native code that does not return
            time.sleep(0.01)
    began = time.monotonic()
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert time.monotonic() - began < 5
