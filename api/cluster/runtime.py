"""Ray, that the service runs on: started here, or a cluster that runs already."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from indexer.cluster import connection
from indexer.cluster.connection import AUTO, LOCAL
from retrieval.errors import UsageError, import_errors_as

_OBJECT_BYTES = 256_000_000
"""Memory of Ray's own object store: answers of more than 100 kB go through it."""

_NICENESS = "RAY_worker_niceness"
"""Ray lets its processes give way to all others (15), which is not for a service."""


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


def prepare(address: str) -> None:
    """Choose how the Ray of an address is asked, then import it: it reads that as it is imported.

    Raises UsageError as `require_address` and `import_serve`.
    """
    require_address(address)
    connection.prepare(address)
    if address == LOCAL:
        os.environ.setdefault(_NICENESS, "0")
    import_serve()


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
    prepare(address)
    with connection.connected(address, cpus=cpus, object_store_bytes=_OBJECT_BYTES):
        yield
