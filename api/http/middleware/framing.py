"""Refuse requests whose end or name can be read in two ways: against request smuggling.

Behind a proxy that goes by the one reading, while the service goes by the other, the body of one
client becomes the next request of another (RFC 9112, sections 3.2, 6.1 and 11.2).
"""

from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.metrics import ServiceMetrics
from api.http.middleware.hosts import host_name
from api.http.problems import problem


class FramingGuard:
    """ASGI middleware that answers 400 to an ambiguous request, and closes its connection."""

    def __init__(self, app: ASGIApp, metrics: ServiceMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer 400."""
        reason = _ambiguity(scope) if scope["type"] == "http" else None
        if reason is None:
            await self._app(scope, receive, send)
            return
        self._metrics.reject("framing")
        answer = problem(HTTPStatus.BAD_REQUEST, reason)
        answer.headers["Connection"] = "close"
        await answer(scope, receive, send)


def _ambiguity(scope: Scope) -> str | None:
    names = [name for name, _ in scope["headers"]]
    if b"transfer-encoding" in names and b"content-length" in names:
        return "A request has either Content-Length or Transfer-Encoding, not both."
    if b"transfer-encoding" in names and scope.get("http_version") == "1.0":
        return "HTTP/1.0 has no Transfer-Encoding."
    if any(value and not host_name(value) for name, value in scope["headers"] if name == b"host"):
        return "The Host header is malformed: write NAME, NAME:PORT or [ADDRESS]:PORT."
    return None
