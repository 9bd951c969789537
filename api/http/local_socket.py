"""The Unix sockets through which commands of the same user ask a running service.

A library's socket lies in the library, or else in the user's runtime directory. The first request
through one starts a worker, in which later commands run without importing anything.
"""

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from api.resident.places import is_possible, library_sockets, listen

_END_S = 5.0

_log = logging.getLogger("mmsearch")


class LocalSocket:
    """A socket of one library, which is removed when it is closed."""

    def __init__(self, place: str, listening: socket.socket) -> None:
        self.place = place
        self.listening = listening
        self._file = _file_of(place)

    async def serve(self, create: Callable[[], asyncio.Protocol]) -> asyncio.Server:
        """Accept connections, each with a protocol of its own."""
        loop = asyncio.get_running_loop()
        return await loop.create_unix_server(create, sock=self.listening)

    def remove(self) -> None:
        """Remove the socket, unless it is that of another process by now."""
        with suppress(OSError):
            if _file_of(self.place) == self._file:
                Path(self.place).unlink()


def open_local_socket(library: Path) -> LocalSocket | None:
    """Listen for commands on a library; None if another service does, or none can."""
    if not is_possible():
        return None
    for place in library_sockets(str(library), version("mmsearch")):
        try:
            listening = listen(place)
        except OSError as error:  # not writable, or a file system without sockets
            _log.debug("There can be no socket at %s: %s", place, error)
            continue
        if listening is None:
            _log.info("Another service answers the commands on this library: %s", place)
            return None
        return LocalSocket(place, listening)
    return None


class CommandWorker:
    """The process that runs commands for terminals, started when it is first wanted."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; once only."""
        if self._process is not None:
            return
        command = "from api.resident.worker import main; main()"
        # It forks, so that no library in it may have threads.
        one_thread = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=os.environ | one_thread,
            start_new_session=True,
        )

    def close(self) -> None:
        """End the process; commands that run in it still end."""
        if self._process is None:
            return
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _file_of(place: str) -> tuple[int, int, int]:
    found = os.lstat(place)  # the number alone may be given to the next file
    return found.st_dev, found.st_ino, found.st_ctime_ns
