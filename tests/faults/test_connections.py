"""Who is asked over the network: nobody with `starter`, and with `auto` it is said."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from retrieval.encoders import hub, registry
from tests.conftest import REPOSITORY

HOOK = """
import os, sys
def watch(event, args):
    if event in {"socket.connect", "socket.sendto"}:
        address = args[1]
        if isinstance(address, tuple):
            tell(event, address)
    elif event in {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}:
        tell(event, args)
def tell(event, facts):
    with open(os.environ["CONNECTIONS_LOG"], "a") as log:
        log.write(f"{event} {facts}\\n")
sys.addaudithook(watch)
"""


def connections_of(tmp_path: Path, *arguments: object) -> list[str]:
    """Run `mmsearch`; list what it and its processes looked up and connected to."""
    (tmp_path / "hook").mkdir(exist_ok=True)
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    log = tmp_path / "log"
    log.write_text("")
    program = "import sys; from api.cli import main; sys.argv[0] = 'mmsearch'; main()"
    found = os.pathsep.join([str(tmp_path / "hook"), str(REPOSITORY)])
    environment = os.environ | {"PYTHONPATH": found, "CONNECTIONS_LOG": str(log)}
    environment.pop("HF_HUB_OFFLINE", None)
    subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=environment,
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    return log.read_text().splitlines()


def test_the_hook_sees_a_connection(tmp_path):
    """Else the next test could not fail."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    (tmp_path / "log").write_text("")
    program = "import socket; socket.socket().connect_ex(('127.0.0.1', 9))"
    subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ
        | {"PYTHONPATH": str(tmp_path / "hook"), "CONNECTIONS_LOG": str(tmp_path / "log")},
        check=True,
    )
    assert "127.0.0.1" in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_starter_asks_nobody(tmp_path, picture_folder):
    library = tmp_path / "library"
    asked = connections_of(
        tmp_path, "index", picture_folder, "--library", library, "--encoder", "starter"
    )
    asked += connections_of(tmp_path, "search", "a red square", "--library", library)
    assert asked == []


def test_auto_says_that_it_asks_the_hub(monkeypatch, caplog):
    monkeypatch.setattr(registry, "find_export", lambda _name: None)
    monkeypatch.setattr(registry, "_is_here", lambda _name: False)
    monkeypatch.setattr(hub, "is_switched_off", lambda: False)
    asked = []
    monkeypatch.setattr(hub, "can_reach", lambda url, **_: asked.append(url) or False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    registry.choose_encoder("starter")
    assert not asked
    assert not caplog.records
    registry.choose_encoder("auto")
    assert asked == [hub.address()]
    assert f"Asking the model hub, {hub.address()}" in caplog.text
