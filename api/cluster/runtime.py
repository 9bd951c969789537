"""Ray, that the service runs on: started here, or a cluster that runs already."""

import contextlib
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from retrieval.errors import MMSearchError, UsageError, import_errors_as

LOCAL = "local"
AUTO = "auto"

_OBJECT_BYTES = 256_000_000
"""Memory of Ray's own object store: answers of more than 100 kB go through it."""

_LONGEST_FOLDER = 30
"""Ray puts sockets below its folder, whose paths may have 107 bytes."""

_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Without it, as on Windows, a Ray that is started here is reached through 127.0.0.1 alone."""

_NICENESS = "RAY_worker_niceness"
"""Ray lets its processes give way to all others (15), which is not for a service."""


class ClusterError(MMSearchError):
    """A Ray cluster cannot be reached, or cannot run the service."""


def require_address(address: str) -> None:
    """Raise UsageError unless this is an address of a cluster."""
    host, _, port = address.rpartition(":")
    if address not in {LOCAL, AUTO} and not (host and port.isdigit() and "/" not in address):
        raise UsageError(
            f"--cluster {address!r}: write `local` to start Ray on this machine, `auto` for the "
            "cluster that this machine is a node of, or HOST:PORT of its head."
        )


def import_serve() -> Any:
    """Import Ray Serve; raises UsageError, which says what to install, without it."""
    missing = UsageError("`--cluster` needs extra packages: pip install 'mmsearch[cluster]'")
    with import_errors_as(missing), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of how it uses Pydantic
        from ray import serve
    return serve


@contextmanager
def connected(address: str, *, cpus: int) -> Iterator[None]:
    """Connect to a cluster, and leave it at the end.

    Args:
        address: As of `require_address`.
        cpus: Logical CPUs of a Ray that is started here.

    Raises:
        UsageError: Ray is not installed, or the address is none.
        ClusterError: There is no cluster at the address.
    """
    require_address(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told of what runs here
    if address == LOCAL:
        os.environ[_LOOPBACK] = "0"
        os.environ.setdefault(_NICENESS, "0")
    import_serve()
    import ray

    for name in ("ray", "ray.serve"):
        logging.getLogger(name).setLevel(logging.ERROR)
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    with contextlib.ExitStack() as stack:
        if address == LOCAL:
            settings |= {
                "address": LOCAL,
                "num_cpus": cpus,
                "include_dashboard": False,
                "object_store_memory": _OBJECT_BYTES,
                "_temp_dir": str(stack.enter_context(_folder())),
            }
        else:
            settings["address"] = address
            if address.startswith(("127.", "localhost:")):
                settings["_node_ip_address"] = "127.0.0.1"
        try:
            ray.init(**settings)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            ray.shutdown()
            raise _unreachable(address, error) from error
        stack.callback(ray.shutdown)
        yield


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
    return ClusterError(
        f"No Ray cluster can be joined{why}. This machine must be a node of it: `ray start "
        "--address=HOST:PORT`, or `ray start --head` for the first. `--cluster local` starts Ray "
        "here."
    )
