"""Requests and answers as they go between the gateway and a replica."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from starlette.types import ASGIApp, Message, Scope

from api.http.middleware.access import OWN_USER
from api.http.root_path import using_root_path

_QUEUED = 8
"""Pieces of an answer that wait to be sent on."""

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Asked:
    """A request that the gateway has let pass, with its whole body.

    root_path: the sub-path that a proxy serves the service at. state: who asks.
    """

    method: str
    path: str
    query_string: bytes = b""
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    scheme: str = "http"
    client: tuple[str, int] | None = None
    server: tuple[str, int | None] | None = None
    root_path: str = ""
    state: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, scope: Scope, body: bytes) -> "Asked":
        """Take what a replica needs of a request."""
        state = scope.get("state", {})
        return cls(
            scope["method"],
            scope["path"],
            scope.get("query_string", b""),
            # A key is for the gateway alone.
            [pair for pair in scope["headers"] if pair[0].lower() != b"authorization"],
            body,
            scope.get("scheme", "http"),
            scope.get("client"),
            scope.get("server"),
            scope.get("mmsearch_root_path", ""),
            {name: state[name] for name in ("client", OWN_USER) if name in state},
        )

    @property
    def scope(self) -> Scope:
        """Make the scope of an ASGI application."""
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": self.method,
            "path": self.path,
            "raw_path": self.path.encode("utf-8", "surrogateescape"),
            "query_string": self.query_string,
            "root_path": "",
            "headers": list(self.headers),
            "scheme": self.scheme,
            "client": self.client,
            "server": self.server,
            "state": dict(self.state),
        }


class Piece(NamedTuple):
    """A part of an answer. status, headers, route: of the first one. more: others follow."""

    body: bytes
    more: bool
    status: int = 0
    headers: Headers = []  # noqa: RUF012 - never changed
    route: str = "other"


async def answer(app: ASGIApp, asked: Asked) -> AsyncIterator[Piece]:
    """Ask an application, and yield its answer piece by piece; ends it when nobody listens."""
    scope = asked.scope
    queue: asyncio.Queue[Message | None] = asyncio.Queue(_QUEUED)
    bodies = [{"type": "http.request", "body": asked.body, "more_body": False}]

    async def receive() -> Message:
        if bodies:
            return bodies.pop()
        await asyncio.Event().wait()  # the task is cancelled when the client leaves
        raise AssertionError

    async def run() -> None:
        try:
            with using_root_path(asked.root_path):
                await app(scope, receive, queue.put)
        finally:
            await queue.put(None)

    task = asyncio.ensure_future(run())
    try:
        start: Message | None = None
        while (message := await queue.get()) is not None:
            if message["type"] == "http.response.start":
                start = message
                continue
            body, more = message.get("body", b""), message.get("more_body", False)
            if start is None:
                yield Piece(body, more)
            else:
                route = getattr(scope.get("route"), "path", "other")
                headers = [(bytes(name), bytes(value)) for name, value in start["headers"]]
                yield Piece(body, more, start["status"], headers, route)
                start = None
        await task  # raises what the application has raised
    finally:
        task.cancel()


async def whole_answer(app: ASGIApp, asked: Asked) -> Piece:
    """Ask an application, and return its whole answer as one piece."""
    pieces = [piece async for piece in answer(app, asked)]
    return pieces[0]._replace(body=b"".join(piece.body for piece in pieces), more=False)
