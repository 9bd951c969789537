"""Servers of objects for tests: one that speaks S3, in a process of its own, and one of the web."""

import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import httpx
import numpy as np
import pytest
from PIL import Image

from retrieval.objects import remote
from retrieval.objects.trust import SOURCES

_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret-of-the-test",
    "AWS_DEFAULT_REGION": "us-east-1",
}
_COLOUR = re.compile("\x1b\\[[0-9;]*m")


def picture(seed: int, side: int = 24) -> bytes:
    """Make a PNG file of noise."""
    noise = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "PNG")
    return stream.getvalue()


def shard(members: Mapping[str, bytes], mtime: int = 10**9) -> bytes:
    """Make a tar file."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size, header.mtime = len(content), mtime
            archive.addfile(header, io.BytesIO(content))
    return stream.getvalue()


@dataclass
class S3Server:
    """A server with the interface of S3, and what was asked of it."""

    address: str
    log: Path
    _seen: int = 0

    def client(self) -> Any:
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.address,
            aws_access_key_id="key",
            aws_secret_access_key="secret-of-the-test",
            region_name="us-east-1",
        )

    def put(self, bucket: str, objects: Mapping[str, bytes]) -> None:
        client = self.client()
        client.create_bucket(Bucket=bucket)
        for key, content in objects.items():
            client.put_object(Bucket=bucket, Key=key, Body=content)

    def asked(self) -> list[str]:
        """List method and path of what was asked since the last call."""
        lines = _COLOUR.sub("", self.log.read_text()).splitlines()
        found = [m.group(1) for line in lines if (m := re.search(r'"(\w+ \S+) HTTP', line))]
        new, self._seen = found[self._seen :], len(found)
        return new

    def read(self) -> list[str]:
        """List the objects that were read since the last call."""
        return [line[4:] for line in self.asked() if line.startswith("GET ") and "?" not in line]


@pytest.fixture(scope="module")
def s3_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Start a server of S3 for a test file."""
    pytest.importorskip("s3fs", reason="the extra `cluster` is not installed")
    pytest.importorskip("moto.server", reason="moto is not installed")
    log = tmp_path_factory.mktemp("s3") / "log"
    command = [sys.executable, "-c", _START_S3]
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output) as process,
    ):
        try:
            assert process.stdout is not None
            address = f"http://127.0.0.1:{int(process.stdout.readline())}"
            _wait_for(address)
            yield S3Server(address, log)
        finally:
            process.kill()


_START_S3 = """
import socket, sys
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
app = DomainDispatcherApplication(create_backend_app)
server = make_server("127.0.0.1", 0, app, threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
"""


def _wait_for(address: str) -> None:
    for _ in range(300):
        try:
            httpx.get(f"{address}/moto-api/", timeout=5)
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the server of S3 did not start")


@pytest.fixture
def s3(s3_process: S3Server, clean_sources: None, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Give an empty server of S3, which the environment names with its credentials."""
    httpx.post(f"{s3_process.address}/moto-api/reset", timeout=30)
    for name, value in _ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_process.address)
    remote._opened.cache_clear()
    s3_process.asked()
    return s3_process


@pytest.fixture
def clean_sources(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trust no source, know no shard, and find no credentials of this machine's user."""
    folder = tmp_path_factory.mktemp("user")
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(folder / name))
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv(SOURCES.variable, "")


@dataclass
class WebServer:
    """A web server of files with index pages, and how it behaves."""

    files: dict[str, bytes] = field(default_factory=dict)
    times: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    has_etags: bool = True
    has_times: bool = True
    has_ranges: bool = True
    statuses: dict[str, int] = field(default_factory=dict)
    unreadable: set[str] = field(default_factory=set)
    slow: set[str] = field(default_factory=set)
    redirects: dict[str, str] = field(default_factory=dict)
    redirect_header: str = "Location"
    stalls: set[str] = field(default_factory=set)
    address: str = ""
    end: threading.Event = field(default_factory=threading.Event)

    def read(self) -> list[str]:
        """List the files that were read, and forget them."""
        found = [path for method, path in self.asked if method == "GET" and path in self.files]
        self.asked.clear()
        return found

    def page(self, folder: str) -> bytes:
        """Write the index page of a folder, as servers write them."""
        names = set()
        for path in self.files:
            if path.startswith(folder):
                name, slash, _ = path.removeprefix(folder).partition("/")
                names.add(name + slash)
        links = "".join(f'<li><a href="{quote(n)}">{escape(n)}</a>' for n in sorted(names))
        return f'<html><a href="?C=N;O=D">Name</a><a href="../">..</a><ul>{links}</ul>'.encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: WebServer

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        web, path = self.web, unquote(self.path)
        web.asked.append((self.command, path))
        if path in web.stalls or (with_body and path in web.slow):
            web.end.wait(60)
        if path in web.redirects:
            leads = {web.redirect_header: web.redirects[path]}
            self._send(302, b"", leads, with_body=with_body)
        elif path in web.statuses:
            self._send(web.statuses[path], b"no", {}, with_body=with_body)
        elif with_body and path in web.unreadable:
            self._send(503, b"no", {}, with_body=True)
        elif path in web.files:
            self._send_file(path, with_body=with_body)
        elif any(name.startswith(path) for name in web.files) and path.endswith("/"):
            self._send(200, web.page(path), {"Content-Type": "text/html"}, with_body=with_body)
        else:
            self._send(404, b"not here", {}, with_body=with_body)

    def _send_file(self, path: str, *, with_body: bool) -> None:
        web, content = self.web, self.web.files[path]
        headers = {"Content-Type": "application/octet-stream"}
        if web.has_etags:
            headers["ETag"] = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
        if web.has_times:
            headers["Last-Modified"] = formatdate(web.times.get(path, 10**9), usegmt=True)
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked and web.has_ranges:
            first, last = map(int, asked.groups())
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            self._send(206, content[first : last + 1], headers, with_body=with_body)
        else:
            self._send(200, content, headers, with_body=with_body)

    def _send(
        self, status: int, body: bytes, headers: Mapping[str, str], *, with_body: bool
    ) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def web(clean_sources: None) -> Iterator[WebServer]:
    """Start a web server."""
    pytest.importorskip("aiohttp", reason="the extra `cluster` is not installed")
    pytest.importorskip("fsspec", reason="the extra `cluster` is not installed")
    yield from _serving()


@pytest.fixture
def other_web(clean_sources: None) -> Iterator[WebServer]:
    """Start another web server, such as one that nobody named."""
    yield from _serving()


def _serving() -> Iterator[WebServer]:
    state = WebServer()
    handler = type("Handler", (_Handler,), {"web": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    state.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.end.set()
        server.shutdown()
        server.server_close()
        thread.join()
