"""Addresses, sizes and what is said of a cluster that cannot be reached. No Ray is started."""

import socket

import pytest

pytest.importorskip("ray", reason="needs Ray: pip install 'mmsearch[cluster]'")

from indexer.cluster.connection import ClusterError, Resources, connected
from retrieval.errors import UsageError

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("address", ["", "here", "ray://host", "ray://:10001", "host:port", "h:0"])
def test_wrong_address(address: str) -> None:
    with pytest.raises(UsageError, match="not the address of a cluster"), connected(address):
        pass


def test_nothing_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"ray://127.0.0.1:{free.getsockname()[1]}"
    answer = pytest.raises(ClusterError, match=f"No Ray cluster answers at {address}")
    with answer, connected(address):
        pass


def test_slow_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_settings: object) -> None:
        raise Exception("The current node timed out during startup.")  # noqa: TRY002 - Ray's

    monkeypatch.setattr("ray.init", init)
    told = pytest.raises(ClusterError, match=r"cannot be started on this machine .The current node")
    with told, connected("local"):
        pass


def test_too_few_processors() -> None:
    Resources(cpus=2, gpus=0, memory_bytes=1 << 30, nodes=1).require_enough()
    with pytest.raises(ClusterError, match="1 logical CPU, and indexing needs at least 2"):
        Resources(cpus=1, gpus=0, memory_bytes=1 << 30, nodes=1).require_enough()


def test_described() -> None:
    assert str(Resources(8, 1, 1 << 30, 2)) == "2 nodes, 8 CPUs, 1 GPU"
    assert str(Resources(1, 0, 1 << 30, 1)) == "1 node, 1 CPU"
