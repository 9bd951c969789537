"""Connecting to a Ray cluster, or starting one of this machine alone."""

import contextlib
import logging
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.errors import MMSearchError, UsageError, import_errors_as

LOCAL = "local"
AUTO = "auto"
CLIENT = "ray://"

LEAST_CPUS = 2
"""One to read files and one to encode: with fewer, one of the two would wait for ever."""

_TOKEN_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Without it, as on Windows, a Ray that is started here is reached through 127.0.0.1 alone."""
_ANSWER_S = 10.0
_LONGEST_FOLDER = 30
"""Ray puts sockets below its folder, whose paths may have 107 bytes."""


class ClusterError(MMSearchError):
    """A Ray cluster cannot be reached, or cannot do what it is asked for."""


@dataclass(frozen=True)
class Resources:
    """What the machines of a cluster have together, and how many of them there are alive."""

    cpus: int
    gpus: int
    memory_bytes: int
    nodes: int

    def __str__(self) -> str:
        gpus = f", {_count(self.gpus, 'GPU')}" if self.gpus else ""
        return f"{_count(self.nodes, 'node')}, {_count(self.cpus, 'CPU')}{gpus}"

    def require_enough(self) -> None:
        """Raise ClusterError where a job would wait for ever for a processor."""
        if self.cpus < LEAST_CPUS:
            raise ClusterError(
                f"The cluster has {_count(self.cpus, 'logical CPU')}, and indexing needs at least "
                f"{LEAST_CPUS}: one to read files and one to encode. Add a node, or start Ray with "
                f"`--num-cpus={LEAST_CPUS}` or more."
            )


def ray() -> Any:
    """Import Ray; raises UsageError, which says what to install, without it."""
    missing = UsageError("Clusters need extra packages: pip install 'mmsearch[cluster]'")
    # What Ray's own processes log stays in its files.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    with import_errors_as(missing):
        import ray
    return ray


@contextmanager
def connected(
    address: str, *, cpus: int | None = None, object_store_bytes: int | None = None
) -> Iterator[Resources]:
    """Connect to a cluster, and leave it in the end.

    Args:
        address: `ray://HOST:PORT` of a cluster's client server, `HOST:PORT` of its head, from one
            of its nodes; `auto`: the cluster that runs on this machine; `local`: Ray is started
            here, and ended afterwards.
        cpus: logical CPUs of `local`; None: one a core, but at least as many as a job needs.
        object_store_bytes: memory of Ray's object store of `local`; None: a share of the machine's.

    Raises:
        UsageError: Ray is not installed, or the address is none.
        ClusterError: there is no cluster at the address.
    """
    require_answer(address)
    prepare(address)
    module = ray()
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    for name in ("ray", "ray.data", "ray.serve"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with contextlib.ExitStack() as stack:
        if address == LOCAL:
            settings = _local_settings(stack.enter_context(_folder()), cpus) | quiet
            settings["object_store_memory"] = object_store_bytes
        else:
            settings = {"address": address} | quiet
            if address.startswith(("127.", "localhost:")):
                settings["_node_ip_address"] = "127.0.0.1"
        try:
            module.init(**settings)
        except Exception as error:  # bare ones of Ray, too, such as of a start that takes too long
            module.shutdown()
            raise _unreachable(address, error) from error
        stack.callback(module.shutdown)
        yield resources()


def resources() -> Resources:
    """Tell what the cluster that this process is connected to has now."""
    module = ray()
    total = module.cluster_resources()
    alive = [node for node in module.nodes() if node["Alive"]]
    return Resources(
        int(total.get("CPU", 0)), int(total.get("GPU", 0)), int(total.get("memory", 0)), len(alive)
    )


def require_answer(address: str) -> None:
    """Raise ClusterError at once where nothing listens, which Ray would wait minutes for."""
    if address in {LOCAL, AUTO}:
        return
    host, _, port = address.removeprefix(CLIENT).rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(
            f"{address!r} is not the address of a cluster: write ray://HOST:PORT, auto or local."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_S).close()
    except OSError as error:
        raise _unreachable(address, error) from error


def prepare(address: str) -> None:
    """Say how Ray is started or asked, unless the user has said so. Call it before Ray's import.

    A cluster of this command is reached from this machine alone, with a token of its own, as
    whoever can reach its ports could run code. For others it is the user's token, which Ray by
    itself would not send.
    """
    if address == LOCAL:
        # Nobody is told of what runs on this machine.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ[_LOOPBACK] = "0"
    if any(os.environ.get(name) for name in _TOKEN_VARIABLES):
        return
    if address == LOCAL:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    elif not (Path.home() / ".ray" / "auth_token").is_file():
        return
    os.environ["RAY_AUTH_MODE"] = "token"


def _local_settings(folder: Path, cpus: int | None) -> dict[str, Any]:
    return {
        "address": "local",
        "num_cpus": cpus or max(os.cpu_count() or 1, LEAST_CPUS + 1),
        "include_dashboard": False,
        "_temp_dir": str(folder),
        "_node_ip_address": "127.0.0.1",
    }


@contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder for sockets and logs, with a short path, and delete it in the end."""
    below = tempfile.gettempdir()
    if len(os.fsencode(below)) > _LONGEST_FOLDER:
        below = "/tmp"
    folder = Path(tempfile.mkdtemp(prefix="mmsearch-ray-", dir=below))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unreachable(address: str, error: Exception) -> ClusterError:
    reason = str(error).strip().splitlines()
    why = f" ({reason[0].rstrip('.')})" if reason else ""
    if address == LOCAL:
        return ClusterError(f"Ray cannot be started on this machine{why}.")
    if address == AUTO:
        return ClusterError(
            f"No Ray cluster runs on this machine{why}. Start one with `ray start --head`, name "
            "one with `--cluster ray://HOST:10001`, or use `--cluster local`."
        )
    return ClusterError(
        f"No Ray cluster answers at {address}{why}. Check address and port: that of its client "
        "server is 10001 unless it was started with another, and Ray and Python must have the "
        "same versions here and there."
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
