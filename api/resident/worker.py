"""A process that has imported what commands need, and forks to run each of them.

It is started by a service, and ends with it. A command runs as in a process of its own: with the
arguments, streams, directory and environment of the one that asks.
"""

import gc
import io
import json
import os
import select
import signal
import socket
import sys
import time
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

from api.resident import launcher
from api.resident.launcher import COMMANDS, UnusedError, identity
from api.resident.places import is_of_this_user, listen, runtime_directory

_PRELOADED = (
    *(
        f"api.cli.{name}"
        for name in ("program", "console", "resident", "remote", *sorted(COMMANDS))
    ),
    "api.http.schemas",
    "retrieval.search.query",
    "rich.progress",
    "encodings.idna",
    "sqlalchemy.dialects.sqlite",
)
_OF_A_PROCESS = "api.cli"
"""Modules that look at the terminal when they are imported: each command imports them itself."""

_MOST_REQUEST = 8 * 1024 * 1024
_REQUEST_S = 5.0
_STREAMS = 3


def main() -> None:
    """Listen for commands until standard input ends."""
    directory = runtime_directory()
    if directory is None:
        return
    _preload()
    place = os.path.join(directory, f"worker-{identity()}-{time.time_ns():x}.sock")
    listening = listen(place)
    if listening is None:
        return
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # whose children leave no entry
    try:
        _serve(listening)
    finally:
        os.unlink(place)


def _preload() -> None:
    """Import what commands need; what is of the terminal is forgotten again."""
    for name in _PRELOADED:
        import_module(name)
    for name in [name for name in sys.modules if name.startswith(_OF_A_PROCESS)]:
        del sys.modules[name]
    if isinstance(api := sys.modules["api"], ModuleType):
        vars(api).pop("cli", None)
    gc.collect()
    gc.freeze()


def _serve(listening: socket.socket) -> None:
    while True:
        ready, _, _ = select.select([listening, sys.stdin], [], [])
        if sys.stdin in ready:
            return  # the service has ended
        connection, _ = listening.accept()
        if is_of_this_user(connection) and os.fork() == 0:
            listening.close()
            _run(connection)
        connection.close()


def _run(connection: socket.socket) -> NoReturn:
    """Run one command, in a process of its own, and tell its exit status."""
    launcher.is_worker = True
    status = b"1"
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _become(connection)
        connection.sendall(b"pid %d\n" % os.getpid())
        status = _status()
        _flush()
    finally:
        # Not the exit of the process that it was copied from.
        try:
            connection.sendall(status + b"\n")
        finally:
            os._exit(0)


def _become(connection: socket.socket) -> None:
    """Take the arguments, streams, directory and environment of the process that asks."""
    connection.settimeout(_REQUEST_S)
    head, descriptors, _, _ = socket.recv_fds(connection, 4, _STREAMS + 1)
    size = int.from_bytes(head, "big")
    if len(head) != 4 or len(descriptors) != _STREAMS + 1 or size > _MOST_REQUEST:
        raise ValueError("another program")
    content = b""
    while len(content) < size:
        received = connection.recv(size - len(content))
        if not received:
            raise ValueError("incomplete")
        content += received
    connection.settimeout(None)
    asked: dict[str, Any] = json.loads(content)
    sys.argv = asked["arguments"]
    os.environ.clear()
    os.environ.update(asked["environment"])
    time.tzset()
    os.umask(asked["umask"])
    os.fchdir(descriptors[_STREAMS])
    for number, descriptor in enumerate(descriptors[:_STREAMS]):
        os.dup2(descriptor, number)
    for descriptor in descriptors:
        os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = (
        _stream(number, *asked["encodings"][number]) for number in range(_STREAMS)
    )
    vars(sys).update(__stdin__=sys.stdin, __stdout__=sys.stdout, __stderr__=sys.stderr)


def _stream(number: int, encoding: str, errors: str) -> io.TextIOWrapper:
    """Open a standard stream as Python does."""
    if number == 0:
        return io.TextIOWrapper(io.FileIO(0, closefd=False), encoding, errors)
    raw = io.BufferedWriter(io.FileIO(number, "w", closefd=False))
    return io.TextIOWrapper(raw, encoding, errors, line_buffering=number == 2 or os.isatty(number))


def _status() -> bytes:
    """Run the command; returns its exit status, or `unused`."""
    try:
        from api.cli.program import main as run

        run()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)  # noqa: T201 - as Python does
            return b"1"
        return b"%d" % ((end.code or 0) & 0xFF)
    except UnusedError:
        return b"unused"
    except BaseException:  # noqa: BLE001 - printed, as Python does
        sys.excepthook(*sys.exc_info())
        return b"1"
    return b"0"


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # the reader of the output has ended
            continue
