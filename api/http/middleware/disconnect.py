"""Whether the client of the request at hand still waits for its answer."""

import asyncio
from contextvars import ContextVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Connection:
    """ASGI middleware that lets `client_left` work in whatever answers a request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and remember when its body is complete."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        line = _Line(receive)
        token = _line.set(line)
        try:
            await self._app(scope, line.receive, send)
        finally:
            _line.reset(token)


class _Line:
    """What comes from a client."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.is_complete = False

    async def receive(self) -> Message:
        message = await self._receive()
        if not message.get("more_body", False):
            self.is_complete = True
        return message


_line: ContextVar[_Line | None] = ContextVar("line", default=None)


async def client_left() -> None:
    """Return when the client of this request has closed its connection, and not before.

    Outside of requests, and while a body is still to be read, that is not known.
    """
    line = _line.get()
    if line is None or not line.is_complete:
        await asyncio.Event().wait()
    else:
        while (await line.receive())["type"] != "http.disconnect":
            pass
