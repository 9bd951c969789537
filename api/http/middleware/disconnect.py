"""Detect that the client of the current request has disconnected."""

import asyncio
from contextvars import ContextVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class DisconnectDetection:
    """ASGI middleware that makes `client_left` work while a request is answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and track whether its body is complete."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        channel = _Channel(receive)
        token = _channel.set(channel)
        try:
            await self._app(scope, channel.receive, send)
        finally:
            _channel.reset(token)


class _Channel:
    """Messages of one client."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.is_complete = False

    async def receive(self) -> Message:
        message = await self._receive()
        if not message.get("more_body", False):
            self.is_complete = True
        return message


_channel: ContextVar[_Channel | None] = ContextVar("channel", default=None)


async def client_left() -> None:
    """Wait until the client of this request has closed its connection.

    Outside of requests, and while the body is not read completely, it waits for ever.
    """
    channel = _channel.get()
    if channel is None or not channel.is_complete:
        await asyncio.Event().wait()
    else:
        while (await channel.receive())["type"] != "http.disconnect":
            pass
