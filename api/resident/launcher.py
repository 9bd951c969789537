"""Let a worker of a running service run a command, before anything is imported for it.

The worker has imported all that a command needs. It gets the standard streams, the directory and
the environment of this process, so that its output is the same.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

COMMANDS = frozenset({"facets", "search"})
"""The commands that ask a running service."""

is_worker = False
"""Whether this process runs a command for another one."""

_CONNECT_S = 0.5
_BEGIN_S = 5.0
_MOST_ANSWER = 100


class UnusedError(BaseException):
    """No service can answer the command here: the process that asks runs it itself."""


def leave_to_the_asker() -> None:
    """In a worker, let the process that asks run the command itself; nothing elsewhere."""
    if is_worker:
        raise UnusedError


def run_in_worker(arguments: list[str]) -> int | None:
    """Run a command line in a worker; returns its exit status, or None if none can run it.

    arguments: as of `sys.argv`.
    """
    if len(arguments) < 2 or arguments[1] not in COMMANDS:
        return None
    try:
        from api.resident.places import connect, is_possible

        if not is_possible():
            return None
        for place in worker_sockets():
            connection = connect(place, _CONNECT_S)
            if connection is None:
                os.unlink(place)  # of a worker that has ended
                continue
            with connection:
                return _run(connection, arguments)
    except (OSError, ValueError):
        pass
    return None


def worker_sockets() -> list[str]:
    """List the sockets of workers of this program, the newest first."""
    from api.resident.places import runtime_directory

    directory = runtime_directory()
    if directory is None:
        return []
    prefix = f"worker-{identity()}-"
    found = [entry for entry in os.scandir(directory) if entry.name.startswith(prefix)]
    return [entry.path for entry in sorted(found, key=lambda one: one.name, reverse=True)]


def identity() -> str:
    """Identify this program and its installation; another version has another identity."""
    import zlib

    here = os.stat(__file__)
    told = f"{__file__} {here.st_mtime_ns} {here.st_ino} {sys.executable} {sys.version}"
    return f"{zlib.crc32(told.encode('utf-8', 'surrogateescape')):08x}"


def _run(connection: "socket.socket", arguments: list[str]) -> int | None:
    import json
    import signal
    import socket

    streams = (sys.stdin, sys.stdout, sys.stderr)
    if None in streams:
        return None
    request = {
        "arguments": arguments,
        "environment": dict(os.environ),
        "encodings": [[stream.encoding, stream.errors] for stream in streams],
        "umask": _umask(),
    }
    content = json.dumps(request).encode()
    here = os.open(".", os.O_RDONLY)
    try:
        descriptors = [*(stream.fileno() for stream in streams), here]
        socket.send_fds(connection, [len(content).to_bytes(4, "big")], descriptors)
    finally:
        os.close(here)
    connection.sendall(content)
    with connection.makefile("rb") as answers:
        connection.settimeout(_BEGIN_S)
        began, _, pid = answers.readline(_MOST_ANSWER).partition(b" ")
        if began != b"pid":
            return None
        connection.settimeout(None)
        # Ctrl-C ends the command there, and its exit status tells so.
        signal.signal(signal.SIGINT, lambda *_: _interrupt(int(pid)))
        try:
            status = answers.readline(_MOST_ANSWER).strip()
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if status == b"unused":
        return None
    # A process that has died has said nothing.
    return int(status) if status else 1


def _interrupt(worker: int) -> None:
    import contextlib
    import signal

    with contextlib.suppress(ProcessLookupError):
        os.kill(worker, signal.SIGINT)


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current
