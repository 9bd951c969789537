"""The thin client, over real HTTP and, in an environment of its own, without mmsearch."""

import ast
import asyncio
import json
import subprocess
import sys
import sysconfig
import threading
import venv
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

import api.client
import mmsearch_client
from indexer.pipeline import index_sources
from mmsearch_client import (
    AccessDeniedError,
    AsyncClient,
    BusyError,
    Client,
    Filter,
    NotFoundError,
    Part,
    UnreachableError,
    UsageError,
)
from retrieval.library import create_library

REPOSITORY = Path(__file__).resolve().parents[3]
KEYS = "viewer:read:aaaaaaaaaaaaaaaaaaaaaaaa admin:read,write:bbbbbbbbbbbbbbbbbbbbbbbb"
VIEWER, ADMIN = "a" * 24, "b" * 24


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number, colour in enumerate(["red", "green", "blue", "yellow"]):
        Image.new("RGB", (60, 40), colour).save(folder / f"{number}-{colour}.png")
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory, tiny_encoder, photos, running_service):
    folder = tmp_path_factory.mktemp("served")
    library = create_library(folder / "library", tiny_encoder.space)
    index_sources(library, tiny_encoder, [photos])
    with running_service(library, photos, uploads=folder / "uploads", api_keys=KEYS) as service:
        yield service
    library.close()


@pytest.fixture
def client(service):
    with Client(service.address, api_key=ADMIN) as client:
        yield client


def test_it_imports_httpx_and_pydantic_alone():
    allowed = {*sys.stdlib_module_names, "httpx", "pydantic", "mmsearch_client"}
    for file in (REPOSITORY / "clients" / "python" / "mmsearch_client").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in getattr(node, "names", ())]
            if isinstance(node, ast.ImportFrom):
                names = [node.module]
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert {name.partition(".")[0] for name in names} <= allowed


def test_it_answers_as_the_services_own_client(client, service, photos):
    with api.client.Client(service.address, api_key=ADMIN) as own:
        pairs = [
            (client.search("blue", k=3), own.search("blue", k=3)),
            (client.facets(), own.facets()),
            (client.items(limit=2), own.items(limit=2)),
            (client.item(1), own.item(1)),
            (client.similar(1), own.similar(1)),
            (client.embed(["a dog"]), own.embed(["a dog"])),
            (client.notes(), own.notes()),
            (client.jobs(), own.jobs()),
        ]
    for found, expected in pairs:
        told, wanted = (one.model_dump(mode="json", by_alias=True) for one in (found, expected))
        for answer in (told, wanted):
            answer.pop("timings_ms", None)
        assert told == wanted


def test_images_parts_and_filters_can_be_asked_for(client, photos):
    red = photos / "0-red.png"
    for image in (red, red.read_bytes(), Image.open(red)):
        assert client.search(image=image, k=1).hits[0].path == str(red)
    with pytest.raises(TypeError, match="not ndarray"):
        client.search(image=np.zeros((2, 2, 3), np.uint8))
    parts = [Part(text="x"), Part(text="y", weight=-0.5)]
    assert len(client.search(parts=parts, k=3).hits) == 3
    both = Filter(any_of=[Filter(path="*red*"), Filter.model_validate({"path": "*blue*"})])
    assert len(client.search("x", where=both).hits) == 2
    assert len(client.search("x", where={"not": {"path": "*red*"}}).hits) == 3
    assert len(client.items(where=both).items) == 2


def test_files_thumbnails_stats_and_keys(client, service, photos):
    assert client.file(1) == (photos / "0-red.png").read_bytes()
    assert client.thumbnail(1, form="jpeg")[:2] == b"\xff\xd8"
    assert client.stats().images == 4
    with Client(service.address, api_key=VIEWER) as viewer, pytest.raises(AccessDeniedError):
        viewer.index()
    with pytest.raises(NotFoundError, match="no item 999"):
        client.item(999)
    with pytest.raises(UsageError, match="colour"):
        client.search("x", colour="red")
    with pytest.raises(UsageError, match="k"):
        client.search("x", k=0)


@pytest.mark.slow
def test_uploads_are_followed(client, tmp_path):
    file = tmp_path / "purple.png"
    Image.new("RGB", (50, 50), "purple").save(file)
    states = [job.state for job in client.follow(client.upload(file, wait=False).id)]
    assert states[-1] == "succeeded"
    [found] = client.search(image=file, k=1).hits
    assert client.delete(found.item_id).file_deleted

    async def again():
        async with AsyncClient(client._server, api_key=ADMIN) as asynchronous:
            job = await asynchronous.upload(file, wait=False)
            seen = [job.state async for job in asynchronous.follow(job.id)]
            [hit] = (await asynchronous.search(image=file, k=1)).hits
            return seen, await asynchronous.delete(hit.item_id)

    seen, removed = asyncio.run(again())
    assert seen[-1] == "succeeded"
    assert removed.file_deleted


def test_the_asynchronous_client_answers_together_what_the_other_does(client, service):
    async def ask():
        async with AsyncClient(service.address, api_key=VIEWER) as asynchronous:
            return await asyncio.gather(
                *(asynchronous.search(text, k=3) for text in ("red", "blue", "green")),
                asynchronous.stats(),
                asynchronous.item(1),
                asynchronous.thumbnail(1),
            )

    *answers, stats, item, picture = asyncio.run(ask())
    for answer, text in zip(answers, ("red", "blue", "green"), strict=True):
        expected = client.search(text, k=3)
        assert [hit.item_id for hit in answer.hits] == [hit.item_id for hit in expected.hits]
    assert (stats.images, item.item_id, picture[:4]) == (4, 1, b"RIFF")


def test_both_clients_have_the_same_methods():
    def public(cls):
        return {name for name in vars(cls) if not name.startswith("_")}

    assert public(AsyncClient) - {"aclose"} == public(Client) - {"close"}
    assert public(Client) == public(api.client.Client)


class _Scripted(BaseHTTPRequestHandler):
    answers: ClassVar[list[tuple[int, dict[str, str], bytes]]] = []
    asked = 0

    def do_GET(self):
        status, headers, body = type(self).answers[min(self.asked, len(self.answers) - 1)]
        type(self).asked += 1
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def scripted():
    """A server that gives scripted answers, which no real service can be made to give in time."""
    with HTTPServer(("127.0.0.1", 0), _Scripted) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        _Scripted.asked = 0
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


BUSY = json.dumps({"title": "x", "status": 429, "detail": "Too much."}).encode()


def test_busy_services_are_asked_again_by_both(scripted):
    _Scripted.answers = [(429, {"Retry-After": "0"}, BUSY), (200, {}, b'{"jobs": []}')]
    with Client(scripted) as client:
        assert client.jobs().jobs == []
    assert _Scripted.asked == 2

    async def ask(**options):
        async with AsyncClient(scripted, **options) as client:
            return await client.jobs()

    _Scripted.asked = 0
    assert asyncio.run(ask()).jobs == []
    assert _Scripted.asked == 2
    _Scripted.answers = [(503, {"Retry-After": "0"}, BUSY)]
    _Scripted.asked = 0
    with pytest.raises(BusyError, match=r"Too much\."):
        asyncio.run(ask(retries=2))
    assert _Scripted.asked == 3
    with Client("127.0.0.1:9") as client, pytest.raises(UnreachableError):
        client.jobs()


PROGRAM = """
import asyncio, sys
from mmsearch_client import AsyncClient, Client

server, key = sys.argv[1:]
with Client(server, api_key=key) as client:
    print(len(client.search("red", k=3).hits))

async def main():
    async with AsyncClient(server, api_key=key) as client:
        print((await client.stats()).images)

asyncio.run(main())
print(sorted({"numpy", "torch", "PIL", "retrieval", "fastapi"} & set(sys.modules)))
"""


@pytest.mark.slow
def test_it_works_alone_in_a_fresh_environment(tmp_path, service):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", REPOSITORY / "clients" / "python"]
    installed = subprocess.run(install, capture_output=True, text=True, check=False)
    if installed.returncode and "No matching distribution" in installed.stderr:
        pytest.skip("no package index answers here")
    assert installed.returncode == 0, installed.stderr
    ran = subprocess.run(
        [python, "-c", PROGRAM, service.address, VIEWER],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"PATH": ""},
    )
    assert ran.stdout.split("\n")[:3] == ["3", "4", "[]"]
    folder = sysconfig.get_path("purelib", vars={"base": str(tmp_path / "venv")})
    own = {"pip", "setuptools", "wheel", "_distutils_hack"}
    size = sum(
        file.stat().st_size
        for file in Path(folder).rglob("*")
        if file.is_file() and not own & set(file.relative_to(folder).parts[:1])
    )
    assert size < 25e6
    print(f"the client and what it needs: {size / 1e6:.1f} MB")


def test_its_public_names_are_there():
    for name in mmsearch_client.__all__:
        assert getattr(mmsearch_client, name)
