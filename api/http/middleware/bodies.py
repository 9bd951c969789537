"""Limits on request bodies: against large, slow, compressed and too many bodies."""

import asyncio
import time
from http import HTTPStatus

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.metrics import ServiceMetrics
from api.http.problems import problem

_CHUNK_S = 15.0
"""Timeout in seconds without a byte of the body."""

_BODY_S = 120.0
"""Timeout in seconds of a whole body."""

_BODIES_AT_ONCE = 4
"""Memory limit of all bodies together, as a number of bodies of maximum size."""

_RETRY_S = 5


class BodyLimit:
    """ASGI middleware that limits the size of bodies while they are received."""

    def __init__(self, app: ASGIApp, max_bytes: int, metrics: ServiceMetrics) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._metrics = metrics
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with a limited body, or refuse its headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(headers)
        if refusal is not None:
            status, detail, reason = refusal
            self._metrics.reject(reason)
            answer = problem(status, detail)
            # The body is not read, so the connection cannot be reused.
            answer.headers["Connection"] = "close"
            await answer(scope, receive, send)
            return
        if "content-length" not in headers and "transfer-encoding" not in headers:
            await self._app(scope, receive, send)
            return
        body = _Body(self, receive)
        try:
            await self._app(scope, body.receive, send)
        finally:
            self._held_bytes -= body.bytes

    def admit(self, body_bytes: int, more_bytes: int) -> None:
        """Count received bytes; raises HTTPException if they exceed a limit."""
        self._held_bytes += more_bytes
        if body_bytes > self._max_bytes:
            self._metrics.reject("body_size")
            raise _closing(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large())
        if self._held_bytes > _BODIES_AT_ONCE * self._max_bytes:
            self._metrics.reject("memory")
            raise _closing(
                HTTPStatus.TOO_MANY_REQUESTS,
                "Too many large requests at the same time.",
                {"Retry-After": str(_RETRY_S)},
            )

    def give_up(self) -> HTTPException:
        """Build the error of a body that timed out."""
        self._metrics.reject("body_time")
        return _closing(
            HTTPStatus.REQUEST_TIMEOUT, "The body of the request did not arrive in time."
        )

    def _refusal(self, headers: Headers) -> tuple[int, str, str] | None:
        if headers.get("content-encoding", "identity").lower() != "identity":
            detail = "Compressed bodies are not supported: leave out Content-Encoding."
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail, "body_encoding"
        declared = headers.get("content-length", "0")
        if declared.isdecimal() and int(declared[:20]) > self._max_bytes:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large(), "body_size"
        return None

    def _too_large(self) -> str:
        return f"The request body is too large: at most {self._max_bytes / 1e6:g} MB."


class _Body:
    """Counts the bytes of one request body."""

    def __init__(self, limit: BodyLimit, receive: Receive) -> None:
        self.bytes = 0
        self._limit = limit
        self._receive = receive
        self._is_complete = False
        self._until = time.monotonic() + _BODY_S

    async def receive(self) -> Message:
        if self._is_complete:
            return await self._receive()
        try:
            async with asyncio.timeout(min(_CHUNK_S, self._until - time.monotonic())):
                message = await self._receive()
        except TimeoutError:
            raise self._limit.give_up() from None
        size = len(message.get("body", b""))
        self.bytes += size
        self._limit.admit(self.bytes, size)
        self._is_complete = not message.get("more_body", False)
        return message


def _closing(
    status: HTTPStatus, detail: str, headers: dict[str, str] | None = None
) -> HTTPException:
    return HTTPException(status, detail, {"Connection": "close", **(headers or {})})
