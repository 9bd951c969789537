"""Ray clusters for tests: raylets in a network namespace of their own, on its loopback alone."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
ADDRESS = "127.0.0.1:6391"
_START_S = 240.0


class RayCluster:
    """Two nodes of some logical CPUs each; `run` and `start` run programs beside them."""

    def __init__(self, namespace: int, folder: Path) -> None:
        self._namespace = namespace
        self._folder = folder
        self._nodes: list[subprocess.Popen[bytes]] = []

    def add_node(self, cpus: int) -> None:
        """Start a node, the head first, and wait until it is ready."""
        role = [f"--address={ADDRESS}"]
        if not self._nodes:
            role = ["--head", f"--port={ADDRESS.rpartition(':')[2]}"]
            role += ["--include-dashboard=false", f"--temp-dir={self._folder}"]
        command = [
            *(str(Path(sys.executable).with_name("ray")), "start", "--block", *role),
            *("--node-ip-address=127.0.0.1", f"--num-cpus={cpus}"),
            *("--object-store-memory=150000000", "--disable-usage-stats"),
        ]
        self._nodes.append(self._start_node(command))
        deadline = time.monotonic() + _START_S
        count = f"import ray; ray.init({ADDRESS!r}, _node_ip_address='127.0.0.1'); "
        count += f"raise SystemExit(sum(n['Alive'] for n in ray.nodes()) != {len(self._nodes)})"
        while self.run([sys.executable, "-c", count], capture_output=True).returncode:
            assert time.monotonic() < deadline, "the node is not ready in time"
            # On a busy machine Ray gives up a node that is not there after half a minute.
            if self._nodes[-1].poll() is not None:
                self._nodes[-1] = self._start_node(command)

    def _start_node(self, command: list[str]) -> "subprocess.Popen[bytes]":
        return self.start(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill_node(self, place: int) -> None:
        """Kill a node's raylet, as a machine that is lost: its workers end with it."""
        for pid in _descendants(self._nodes[place].pid):
            with suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().strip() == "raylet":
                    os.kill(pid, signal.SIGKILL)

    def start(self, command: list[str], **settings: object) -> "subprocess.Popen[bytes]":
        """Start a program in the namespace, in a session of its own."""
        return subprocess.Popen(
            ["nsenter", f"--net=/proc/{self._namespace}/ns/net", *command],
            env=os.environ | _ENVIRONMENT,
            start_new_session=True,
            **settings,  # type: ignore[call-overload]
        )

    def run(self, command: list[str], **settings: object) -> "subprocess.CompletedProcess[bytes]":
        """Run a program in the namespace to its end."""
        return subprocess.run(
            ["nsenter", f"--net=/proc/{self._namespace}/ns/net", *command],
            env=os.environ | _ENVIRONMENT,
            check=False,
            **settings,  # type: ignore[call-overload]
        )

    def close(self) -> None:
        """End all nodes."""
        pids = [pid for node in self._nodes for pid in (*_descendants(node.pid), node.pid)]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for node in self._nodes:
            node.wait()


_ENVIRONMENT = {
    "PYTHONPATH": str(REPOSITORY),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",  # else only the user of the head could connect
    "RAY_worker_niceness": "0",  # by default workers have next to no share of a busy machine
    "RAY_memory_monitor_refresh_ms": "0",  # what else runs here may fill the memory
    "OMP_NUM_THREADS": "1",
}


@contextmanager
def running_cluster(*, cpus: tuple[int, ...]) -> Iterator[RayCluster]:
    """Run a cluster of a node for each number of logical CPUs, until the end of the block."""
    pytest.importorskip("ray", reason="needs Ray: pip install 'mmsearch[cluster]'")
    if not _can_make_namespaces():
        pytest.skip("no network namespace can be made here: needs root and util-linux")
    # Its sockets have paths of at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="mmray-", dir="/tmp"))
    keeper = subprocess.Popen(["unshare", "-n", "sh", "-c", "ip link set lo up; exec sleep 3600"])
    cluster = RayCluster(keeper.pid, folder)
    try:
        time.sleep(0.5)
        for count in cpus:
            cluster.add_node(count)
        yield cluster
    finally:
        cluster.close()
        keeper.kill()
        keeper.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _can_make_namespaces() -> bool:
    if shutil.which("nsenter") is None or shutil.which("unshare") is None:
        return False
    tried = subprocess.run(["unshare", "-n", "true"], check=False, capture_output=True)
    return tried.returncode == 0


def _descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(stat[1]), []).append(int(folder.name))
    found = list(parents.get(pid, ()))
    for child in found:  # grows while it is walked
        found += parents.get(child, ())
    return found
