"""`mmsearch serve` as a process of its own: how it starts, serves and ends."""

import argparse
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from api.cli import app as cli
from api.cli.serve import parse_libraries, serve
from indexer.pipeline import index_sources
from retrieval.encoders.open_clip import OpenClipEncoder
from retrieval.encoders.trust import trust
from retrieval.errors import UsageError
from retrieval.library import create_library

DEADLINE_S = 240.0
PROGRAM = [sys.executable, "-c", "from api.cli import main; main()"]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def service(library, *options: str):
    """A running service, listening but maybe not ready, and a client of it."""
    port = free_port()
    command = [*PROGRAM, "serve", "--library", str(library.path), "--port", str(port), *options]
    process = subprocess.Popen(
        [*command, "--device", "cpu"], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield process, client
    finally:
        process.kill()
        process.communicate()


def eventually(is_so, process) -> None:
    end = time.monotonic() + DEADLINE_S
    while not is_so():
        assert process.poll() is None, f"it ended: {process.stderr.read()}"
        assert time.monotonic() < end
        time.sleep(0.02)


def status(client, path) -> int | None:
    try:
        return client.get(path).status_code
    except httpx.TransportError:
        return None


@pytest.mark.slow
def test_it_listens_at_once_and_says_when_it_is_ready(starter, tmp_path, photos):
    library = create_library(tmp_path / "library", starter.space)
    index_sources(library, starter, [photos["cat"]])
    with service(library) as (process, client):
        seen = set()
        early = None

        def is_ready() -> bool:
            nonlocal early
            alive, ready = status(client, "/healthz"), status(client, "/readyz")
            seen.add((alive, ready))
            if early is None and ready == 503:
                answer = client.post("/v1/search", json={"text": "a cat"})
                early = answer if answer.status_code == 503 else None
            return ready == 200

        eventually(is_ready, process)
        assert (200, 503) in seen
        assert early is not None
        assert int(early.headers["retry-after"]) >= 1
        assert early.headers["content-type"] == "application/problem+json"
        assert client.post("/v1/search", json={"text": "a cat"}).json()["hits"]


@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_the_end_finishes_what_is_in_flight(indexed_library, signal_number):
    """Whatever has come in before the signal is answered, and nothing that comes after it."""
    with service(indexed_library, "--batch", "1") as (process, client), ExitStack() as lines:
        eventually(lambda: status(client, "/readyz") == 200, process)
        address = (client.base_url.host, client.base_url.port)
        asking = [
            lines.enter_context(socket.create_connection(address, timeout=60)) for _ in range(40)
        ]

        def taken_on() -> float:
            values = dict(
                line.rsplit(" ", 1)
                for line in client.get("/metrics").text.splitlines()
                if not line.startswith("#")
            )
            names = ("mmsearch_queue_seconds_count", "mmsearch_queue_depth")
            return sum(float(values[name]) for name in names)

        before = taken_on()
        for number, line in enumerate(asking):
            body = json.dumps({"text": f"question {number} " + "word " * 50}).encode()
            head = f"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}"
            line.sendall(f"{head}\r\nContent-Type: application/json\r\n\r\n".encode() + body)
        eventually(lambda: taken_on() == before + len(asking), process)
        process.send_signal(signal_number)
        answers = [line.makefile("rb").readline().split()[1] for line in asking]
        _, err = process.communicate(timeout=60)
        assert status(client, "/healthz") is None
    assert process.returncode in {-signal_number, 130}  # 130: as for any command and Ctrl-C
    assert answers == [b"200"] * len(asking)
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_request_that_hangs_does_not_keep_it_from_ending(indexed_library, monkeypatch):
    monkeypatch.setenv("MMSEARCH_SHUTDOWN_S", "1")
    with service(indexed_library) as (process, client):
        eventually(lambda: status(client, "/readyz") == 200, process)
        host, port = client.base_url.host, client.base_url.port
        with socket.create_connection((host, port)) as line:
            line.sendall(
                b"POST /v1/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n"
                b"Content-Type: application/json\r\n\r\n{"
            )
            time.sleep(0.2)
            process.terminate()
            began = time.monotonic()
            process.communicate(timeout=20)
            assert time.monotonic() - began < 10


@pytest.mark.slow
def test_items_that_another_process_indexes_are_found_without_a_restart(
    indexed_library, picture_folder
):
    with service(indexed_library) as (process, client):
        eventually(lambda: status(client, "/readyz") == 200, process)

        def count() -> int:
            body = client.post("/v1/search", json={"text": "noise", "k": 100}).json()
            return len(body["hits"])

        assert count() == 6
        for number in range(6):
            old = picture_folder / f"folder {number % 2}" / f"picture-{number}.png"
            (picture_folder / f"new-{number}.png").write_bytes(old.read_bytes())
        command = [*PROGRAM, "index", "--library", str(indexed_library.path), "--device", "cpu"]
        with subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE) as indexing:
            while indexing.poll() is None:
                assert count() in range(6, 13)
        assert indexing.returncode == 0
        assert count() == 12
        metrics = client.get("/metrics").text
        assert 'mmsearch_rows{modality="image"} 6.0' in metrics  # copies share their rows


@pytest.mark.slow
def test_requests_can_be_logged_as_json(indexed_library):
    with service(indexed_library, "--access-log", "--log-level", "warning") as (process, client):
        eventually(lambda: status(client, "/readyz") == 200, process)
        client.get("/v1/items/1?secret=1")
        process.terminate()
        _, err = process.communicate(timeout=20)
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    [asked] = [line for line in lines if line["path"] == "/v1/items/1"]
    assert asked["route"] == "/v1/items/{item_id}"
    assert (asked["method"], asked["status"], asked["client"]) == ("GET", 200, "127.0.0.1")
    assert asked["ms"] > 0
    assert "secret" not in err


@pytest.mark.slow
def test_an_encoder_that_cannot_be_loaded_ends_it_with_a_message(tmp_path, tiny_checkpoint):
    weights = tmp_path / "weights"
    shutil.copytree(tiny_checkpoint, weights)
    trust(weights)
    space = OpenClipEncoder(f"local-dir:{weights}").space
    library = create_library(tmp_path / "library", space)
    shutil.rmtree(weights)
    with service(library) as (process, _):
        _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 2
    assert str(weights) in err
    assert "Traceback" not in err


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org", ""])
def test_exposure_without_a_key_is_refused(indexed_library, host):
    with pytest.raises(UsageError, match="needs an API key") as refused:
        serve(library=[str(indexed_library.path)], host=host)
    assert "--new-key" in str(refused.value)
    assert "--api-keys" in str(refused.value)


@pytest.mark.slow
def test_exposure_with_a_key_is_served_and_loose_permissions_are_told(indexed_library, tmp_path):
    line = CliRunner().invoke(cli, ["serve", "--new-key"]).stdout
    file = tmp_path / "keys.txt"
    file.write_text(line, encoding="utf-8")
    file.chmod(0o644)
    secret = line.strip().split(":")[2]
    options = ["--host", "0.0.0.0", "--api-keys", str(file)]
    with service(indexed_library, *options) as (process, client):
        eventually(lambda: status(client, "/readyz") == 200, process)
        body = {"text": "a dog"}
        assert client.post("/v1/search", json=body).status_code == 401
        key = {"Authorization": f"Bearer {secret}"}
        assert client.post("/v1/search", json=body, headers=key).status_code == 200
        process.terminate()
        _, err = process.communicate(timeout=20)
    assert "can read" in err
    assert secret not in err


def test_wrong_settings_are_usage_errors(indexed_library, monkeypatch):
    with pytest.raises(UsageError, match="has no space 'nonsense'"):
        serve(library=[str(indexed_library.path)], spaces=["nonsense"])
    with pytest.raises(UsageError, match="MMSEARCH_LOG_LEVEL"):
        serve(library=[str(indexed_library.path)], log_level="loud")
    monkeypatch.setenv("MMSEARCH_QUEUE", "none")
    with pytest.raises(UsageError, match="MMSEARCH_QUEUE"):
        serve(library=[str(indexed_library.path)])


def test_a_port_in_use_is_told_before_anything_is_loaded(indexed_library):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"Port {port} of 127.0.0.1 is in use"):
            serve(library=[str(indexed_library.path)], port=port, device="none such")


@pytest.mark.slow
def test_it_starts_without_a_library_and_reads_its_keys_again(indexed_library, tmp_path):
    keys = tmp_path / "keys"
    keys.touch(0o600)
    keys.write_text("me:read:an-older-secret-0123456789", encoding="utf-8")
    place = tmp_path / "other"
    later = argparse.Namespace(path=place)
    with service(later, "--api-keys", str(keys)) as (process, client):
        eventually(lambda: status(client, "/readyz") == 200, process)
        assert client.get("/readyz").json()["status"] == "no library"
        shutil.copytree(indexed_library.path, tmp_path / "made")
        (tmp_path / "made").rename(place)
        eventually(lambda: client.get("/readyz").json().get("status") == "ready", process)
        keys.write_text("me:read:a-newer-secret-0123456789", encoding="utf-8")
        process.send_signal(signal.SIGHUP)
        for secret, expected in (("a-newer-secret", 200), ("an-older-secret", 401)):
            header = {"Authorization": f"Bearer {secret}-0123456789"}
            answer = client.post("/v1/search", json={"text": "a dog"}, headers=header)
            assert answer.status_code == expected
        process.terminate()
        process.communicate(timeout=40)


@pytest.mark.slow
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_at_once_while_it_waits_for_a_library(tmp_path, signal_number):
    place = argparse.Namespace(path=tmp_path / "library")
    with service(place, "--uploads", str(tmp_path / "up")) as (process, client):
        eventually(lambda: status(client, "/readyz") == 200, process)
        began = time.monotonic()
        process.send_signal(signal_number)
        _, err = process.communicate(timeout=40)
        assert time.monotonic() - began < 10
        assert "Traceback" not in err
        assert process.returncode in {130, 0, -signal.SIGTERM, 143}
        assert not place.path.exists()


def test_libraries_with_names_are_parsed_and_one_without_stays_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "year=2024").mkdir()
    assert parse_libraries([]) == {}
    assert parse_libraries(["some/where"]) == {}
    assert parse_libraries(["year=2024"]) == {}
    assert parse_libraries(["a=b"]) == {"a": Path("b")}
    assert parse_libraries(["a=b=c", "d=/e"]) == {"a": Path("b=c"), "d": Path("/e")}
    for wrong in (["a=b", "c"], ["a=b", "a=c"], ["a=b", "=c"], ["a=b", "../x=c"], ["a=b", "c="]):
        with pytest.raises(UsageError, match="--library"):
            parse_libraries(wrong)
