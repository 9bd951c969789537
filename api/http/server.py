"""Run the application with Uvicorn, which limits neither slow heads nor the number of connections.

A client that sends nothing, or a request head byte by byte, is disconnected after a time limit.
At a limit of connections, in all or of one address, the one that has been idle longest makes room
for a new one, so that idle ones lock nobody out; where all are at work, the new one is refused.
At shutdown every request that was accepted is answered, with `Connection: close`.
"""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Container
from functools import partial
from http import HTTPStatus
from pathlib import Path
from types import FrameType
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from api.http.local_socket import CommandWorker, LocalSocket, open_local_socket
from api.http.middleware.access import OWN_LIBRARY, OWN_USER
from api.http.middleware.proxies import TrustedProxies
from api.http.middleware.rates import network_of
from api.http.problems import MEDIA_TYPE, problem
from api.http.routes.dependencies import Service
from api.http.settings import ServiceSettings
from api.resident.places import is_of_this_user

HEAD_S = 10.0
"""Time limit in seconds for the head of a request, also for its first byte."""
_SEND_S = 60.0
"""Time limit in seconds for a client to take what was sent, some 50 kB."""
_LINGER_S = 5.0
"""Seconds that a closed connection may still take to receive the end of its answer."""
_LAST_REQUEST_S = 0.5
"""Seconds at shutdown in which an idle connection may still send a request."""
_BACKLOG = 512
_SPARE_DESCRIPTORS = 64
_LEAST_CONNECTIONS = 16
_QUIET_S = 60.0
_EVICTED_AT_ONCE = 8
_CLOSE = (b"connection", b"close")
_OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_log = logging.getLogger("mmsearch")


class Connections:
    """The open connections of a service, and their limits.

    Args:
        most: Maximum number of connections in all; fewer where the process may open fewer files.
        most_of_address: Maximum number of connections of a client address (IPv6: of its /64).
        proxies: Addresses that the second limit does not apply to.
        head_s: Time limit in seconds for the head of a request.
    """

    def __init__(
        self,
        most: int,
        most_of_address: int,
        *,
        proxies: Container[str] = (),
        head_s: float = HEAD_S,
    ) -> None:
        self.most = min(most, _allowed_by_system())
        self.most_of_address = most_of_address
        self.head_s = head_s
        self.is_ending = False
        self._proxies = proxies
        self._open: dict[BoundedProtocol, str] = {}
        self._of_address: dict[str, dict[BoundedProtocol, None]] = {}
        self._warned_at = -_QUIET_S
        self._used_at = time.monotonic()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def idle_s(self) -> float:
        """Seconds since a connection was made or a request answered."""
        return time.monotonic() - self._used_at

    def admit(self, connection: "BoundedProtocol", host: str) -> bool:
        """Count a new connection, and close an idle one where a limit is reached.

        Returns False if all are at work: the new one is to be refused.
        """
        self._used_at = time.monotonic()
        address = network_of(host)
        same = self._of_address.get(address, {})
        if len(same) >= self.most_of_address and host not in self._proxies:
            if not self._evict(same):
                self.warn(f"{address} has {len(same):,} connections: further ones are refused.")
                return False
        elif len(self._open) >= self.most and not self._evict(self._open):
            self.warn(f"There are {len(self._open):,} connections: further ones are refused.")
            return False
        self._open[connection] = address
        self._of_address.setdefault(address, {})[connection] = None
        return True

    def remove(self, connection: "BoundedProtocol") -> None:
        """Forget a connection that was closed."""
        address = self._open.pop(connection, None)
        if address is not None:
            same = self._of_address[address]
            del same[connection]
            if not same:
                del self._of_address[address]

    def touch(self, connection: "BoundedProtocol") -> None:
        """Move a connection that has become idle to the end of those that make room."""
        self._used_at = time.monotonic()
        address = self._open.pop(connection, None)
        if address is not None:
            self._open[connection] = address
            same = self._of_address[address]
            del same[connection]
            same[connection] = None

    def make_room(self) -> None:
        """Close the connections that have been idle longest, a few at once."""
        for _ in range(_EVICTED_AT_ONCE):
            if not self._evict(self._open):
                return

    def warn(self, message: str) -> None:
        """Log a warning, at most one a minute, since clients cause it."""
        now = time.monotonic()
        if now - self._warned_at >= _QUIET_S:
            self._warned_at = now
            _log.warning("%s", message)

    def _evict(self, connections: "dict[BoundedProtocol, Any]") -> bool:
        for connection in connections:
            if connection.is_idle:
                self.remove(connection)
                connection.abort()
                return True
        return False


class BoundedProtocol(H11Protocol):
    """A connection whose request heads, and pauses of its client, have time limits."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        limits: Connections,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits = limits
        self._read_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        """Return whether no request is being answered, and no body is awaited for one."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection, or refuse it at a limit."""
        super().connection_made(transport)
        host = self.client[0] if self.client else "unknown"
        if not self._limits.admit(self, host):
            transport.write(_refusal())
            self._close()
        elif self._limits.is_ending:
            self.shutdown()
        else:
            self._limit_read(self._limits.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._limits.remove(self)
        self._stop_timers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Receive; the time limit of a head begins with its first byte, and no byte extends it."""
        if self.transport.is_closing():
            return  # it was refused
        if self._read_timer is None and self.is_idle:
            self._limit_read(self._limits.head_s)
        super().data_received(data)

    def handle_events(self) -> None:
        """Begin a request if its head is complete."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._limit_read(None)
            if self._limits.is_ending:
                self._answer_as_last()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of a body that nobody reads."""
        super().on_response_complete()
        self._limits.touch(self)
        if self.transport.is_closing():
            self._close()
        elif self.conn.their_state is h11.SEND_BODY:
            self._limit_read(self._limits.head_s)

    def pause_writing(self) -> None:
        """Wait for the client to take what was sent, within a time limit."""
        super().pause_writing()
        self._send_timer = self.loop.call_later(_SEND_S, self.abort)

    def resume_writing(self) -> None:
        """Go on sending."""
        super().resume_writing()
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None

    def shutdown(self) -> None:
        """End after the request in flight; one that is idle may have sent another just now."""
        if self.is_idle:
            self._unset_keepalive_if_required()
            self._limit_read(_LAST_REQUEST_S)
        else:
            self._answer_as_last()

    def abort(self) -> None:
        """Close at once."""
        self._stop_timers()
        self.transport.abort()

    def _answer_as_last(self) -> None:
        """Tell the client with the answer that the connection ends."""
        cycle = self.cycle
        cycle.keep_alive = False
        if not cycle.response_started:
            cycle.default_headers = [*cycle.default_headers, _CLOSE]

    def _limit_read(self, seconds: float | None) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
        self._read_timer = None
        if seconds is not None:
            self._read_timer = self.loop.call_later(seconds, self._give_up)

    def _give_up(self) -> None:
        """Close an idle connection; answer 408 where a part of a head has come."""
        self._read_timer = None
        if self.transport.is_closing():
            return
        if self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
            detail = "The head of the request did not arrive in time."
            self.transport.write(_message(HTTPStatus.REQUEST_TIMEOUT, detail))
        self._close()

    def _close(self) -> None:
        """Close when all is sent, or after a while if the client does not take it."""
        self._unset_keepalive_if_required()
        self.transport.close()
        self.loop.call_later(_LINGER_S, self.transport.abort)

    def _stop_timers(self) -> None:
        for timer in (self._read_timer, self._send_timer):
            if timer is not None:
                timer.cancel()
        self._read_timer = self._send_timer = None


class LocalProtocol(BoundedProtocol):
    """A connection through a Unix socket, which no other user may make."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection of the same user."""
        super().connection_made(transport)
        connected = transport.get_extra_info("socket")
        if not is_of_this_user(connected):
            self.abort()


class Server(uvicorn.Server):
    """Server of one service, whose shutdown takes no longer than is set.

    Commands of the same user reach it through a Unix socket, too (`api.http.local_socket`).

    on_signal: called with the number of each signal that ends it.
    """

    def __init__(
        self,
        application: FastAPI,
        settings: ServiceSettings,
        on_signal: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.limits = Connections(
            settings.max_connections,
            settings.max_connections_per_address,
            proxies=TrustedProxies(settings.trusted_proxies),
        )
        self._application = application
        self._on_signal = on_signal
        self._idle_exit_s = settings.idle_exit_minutes and settings.idle_exit_minutes * 60
        self._is_resident = settings.socket_only
        self._worker = CommandWorker()
        self._local: dict[Path, LocalSocket | None] = {}
        self._shutdown_s = settings.shutdown_s
        config = uvicorn.Config(
            application,
            host=settings.host,
            port=settings.port,
            http=partial(BoundedProtocol, limits=self.limits),  # type: ignore[arg-type]
            ws="none",
            loop="asyncio",  # not uvloop, wherever other packages have installed it
            backlog=_BACKLOG,
            log_level=settings.log_level,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # a client could claim any address
            # The rest is for the indexing process.
            timeout_graceful_shutdown=settings.shutdown_s * 0.7,  # type: ignore[arg-type]
        )
        super().__init__(config)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Notify the application of shutdown before connections are closed."""
        self._on_signal(sig)
        for service in self._services():
            service.stop()
        if not self.should_exit:
            # Native code that does not return cannot hold up the end.
            timer = threading.Timer(self._shutdown_s, _end_process, (sig,))
            timer.daemon = True
            timer.start()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, with errors of accept handled."""
        asyncio.get_running_loop().set_exception_handler(self._handle_loop_error)
        await super().startup(sockets)
        if sockets and self.started:
            # Uvicorn tells no address of sockets that it is given.
            self._log_started_message(sockets)
        if self._is_resident:
            self._worker.start()

    async def on_tick(self, counter: int) -> bool:
        """Listen for commands on the libraries that have come; end when unused for long."""
        for service in self._services():
            if service.library.path not in self._local:
                await self._listen_locally(service.library.path)
        if self._idle_exit_s is not None and self.limits.idle_s > self._idle_exit_s:
            jobs = [job for service in self._services() for job in service.jobs.jobs()]
            if all(job.is_finished for job in jobs):
                _log.info("Nobody has asked for %g minutes: ending.", self._idle_exit_s / 60)
                self.handle_exit(signal.SIGTERM, None)
        return await super().on_tick(counter)

    async def _listen_locally(self, library: Path) -> None:
        opened = open_local_socket(library)
        self._local[library] = opened
        if opened is None:
            return
        state = {**self.lifespan.state, OWN_USER: True, OWN_LIBRARY: library}

        def create() -> LocalProtocol:
            self._worker.start()
            return LocalProtocol(self.config, self.server_state, state, limits=self.limits)

        self.servers.append(await opened.serve(create))
        _log.info("Commands on this machine ask through %s", opened.place)

    def _services(self) -> list[Service]:
        """List the services whose libraries are open."""
        named: dict[str, FastAPI] = getattr(self._application.state, "libraries", {})
        states = [one.state for one in named.values()] or [self._application.state]
        found = [getattr(state, "service", None) for state in states]
        return [service for service in found if isinstance(service, Service)]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept what has connected already, then stop listening and end all connections."""
        self.limits.is_ending = True
        listening = [*(sockets or []), *(s for server in self.servers for s in server.sockets)]
        for listener in listening:
            await self._accept_waiting(listener)
        for local in self._local.values():
            if local is not None:
                local.remove()
        await super().shutdown(sockets)
        self._worker.close()

    async def _accept_waiting(self, listener: Any) -> None:
        """Accept connections that wait in the queue of a socket, which would be reset."""
        loop = asyncio.get_running_loop()
        create = partial(
            BoundedProtocol,
            self.config,
            self.server_state,
            self.lifespan.state,
            loop,
            limits=self.limits,
        )
        with contextlib.suppress(OSError), listener.dup() as queue:
            queue.setblocking(False)
            for _ in range(_BACKLOG):
                connection, _address = queue.accept()  # BlockingIOError at the end
                connection.setblocking(False)
                await loop.connect_accepted_socket(create, connection)

    def _handle_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _OUT_OF_DESCRIPTORS:
            self.limits.warn(f"A connection cannot be accepted: {error.strerror}.")
            self.limits.make_room()
        else:
            loop.default_exception_handler(context)


def _end_process(sig: int) -> None:
    _log.error("Not everything has ended within the time that is set; ending at once.")
    if hasattr(signal, "SIGKILL"):
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(128 + sig)


def _allowed_by_system() -> int:
    """Return how many connections leave descriptors for files, databases and processes."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return 1 << 30
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 1 << 30
    return max(_LEAST_CONNECTIONS, soft - max(_SPARE_DESCRIPTORS, soft // 4))


def _refusal() -> bytes:
    return _message(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "Too many connections. Retry later.",
        ((b"Retry-After", b"1"),),
    )


def _message(
    status: HTTPStatus, detail: str, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> bytes:
    """Write a whole answer with problem details, for a connection that ends."""
    body = bytes(problem(status, detail).body)
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}".encode(),
        b"Content-Type: " + MEDIA_TYPE.encode(),
        b"Content-Length: " + str(len(body)).encode(),
        b"Connection: close",
        *(name + b": " + value for name, value in headers),
    ]
    return b"\r\n".join([*lines, b"", body])
