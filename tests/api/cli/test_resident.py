"""Commands beside a running service: the same output, keys or not, and a way without it."""

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from api.cli import resident
from api.resident.places import connect, is_possible, library_sockets, listen
from indexer.pipeline import index_sources
from retrieval.library import create_library
from retrieval.search.query import JointQuery, Query, Reranking, TextPart

pytestmark = pytest.mark.skipif(not is_possible(), reason="there are no Unix sockets here")

VERSION = resident.version("mmsearch")
PROGRAM = [sys.executable, "-c", "from api.cli import main; main()"]


@pytest.fixture(scope="module")
def library(tiny_encoder, coloured_library):
    """A library of a short path, for its socket."""
    with coloured_library.catalog.snapshot() as snapshot:
        [source] = snapshot.sources()
    with (
        tempfile.TemporaryDirectory(prefix="mm-") as directory,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("XDG_RUNTIME_DIR", f"{directory}/run")
        made = create_library(Path(directory) / "library", tiny_encoder.space)
        index_sources(made, tiny_encoder, [Path(source)], workers=1)
        yield made


@pytest.fixture(scope="module")
def service(library):
    """A service without a port and with API keys, which commands need not know."""
    command = [*PROGRAM, "serve", "--resident", "--library", str(library.path), "--device", "cpu"]
    environment = os.environ | {"MMSEARCH_API_KEYS": f"other:read:{'x' * 20}"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True)
    [place, _] = library_sockets(str(library.path), VERSION)
    end = time.monotonic() + 240
    while status(place) != 200:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.1)
    yield process
    process.terminate()
    _, told = process.communicate(timeout=60)
    assert not Path(place).exists()
    assert "Traceback" not in told


def status(place: str) -> int | None:
    if (connected := connect(place, 5.0)) is None:
        return None
    connection = resident._Connection(connected)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


@pytest.fixture
def no_engine(monkeypatch):
    """Whoever would search here fails."""
    from retrieval.search.engine import Engine

    def fail(*_args, **_options):
        raise AssertionError("searched here")

    monkeypatch.setattr(Engine, "__init__", fail)


QUESTIONS = [
    ("blue",),
    ("blue", "--rerank", "none", "-k", "2"),
    ("--like", "1", "--kind", "image"),
    ("blue", "--minus", "red", "--where", '{"taken_at": {"since": "2001-01-01"}}'),
]


@pytest.mark.slow
@pytest.mark.parametrize("question", QUESTIONS)
def test_the_output_is_the_same_beside_a_service(
    service, library, run, monkeypatch, request, question
):
    arguments = ("search", *question, "--library", library.path)
    monkeypatch.setenv("MMSEARCH_RESIDENT", "off")
    here, here_json = run(*arguments), run(*arguments, "--json")
    monkeypatch.delenv("MMSEARCH_RESIDENT")
    request.getfixturevalue("no_engine")
    there, there_json = run(*arguments), run(*arguments, "--json")
    assert there == here
    assert here.code == 0
    answers = [json.loads(answer.out) for answer in (here_json, there_json)]
    for answer in answers:
        answer.pop("timings_ms")
        for hit in answer["hits"]:
            hit["similarity"] = round(hit["similarity"], 5)
            hit["match"] = hit["match"] and round(hit["match"], 4)
    assert answers[0] == answers[1]


@pytest.mark.slow
def test_facets_are_counted_by_the_service(service, library, run, monkeypatch, request):
    for arguments in (("facets",), ("facets", "blue", "--json")):
        monkeypatch.setenv("MMSEARCH_RESIDENT", "off")
        here = run(*arguments, "--library", library.path)
        monkeypatch.delenv("MMSEARCH_RESIDENT")
        with monkeypatch.context() as patch:
            from retrieval.search.engine import Engine

            patch.setattr(Engine, "facets", None)
            assert run(*arguments, "--library", library.path) == here
        assert here.code == 0


@pytest.mark.slow
def test_what_the_service_lacks_is_done_here(service, library, run):
    question = ("search", "blue", "--library", library.path, "--rerank", "none")
    assert run(*question, "--device", "cpu").code == 0
    assert run(*question, "--space", "no-such-space").code == 2


def asked(library) -> object:
    joint = JointQuery(Query((TextPart("blue"),)))
    return resident.search(library, joint, Reranking("none"), "auto")


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n{}"])
def test_a_service_that_says_nothing_useful_is_as_none(library, answer):
    [place, _] = library_sockets(str(library.path), VERSION + "other")
    with (
        pytest.MonkeyPatch.context() as patch,
        listen(place) as listening,
    ):
        patch.setattr(resident, "version", lambda _name: VERSION + "other")
        import threading

        def work() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1 << 16)

        thread = threading.Thread(target=work)
        thread.start()
        assert asked(library) is None
        thread.join(10)
    Path(place).unlink()


def test_without_a_service_the_search_is_made_here(library):
    joint = JointQuery(Query((TextPart("blue"),)))
    place = "other"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resident, "version", lambda _name: place)
        assert resident.search(library, joint, Reranking("none"), "auto") is None
