"""Request metrics and access log."""

import json
import logging
import time
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.metrics import ServiceMetrics
from api.http.middleware.access import ARCHIVES
from api.http.problems import library_gone_problem, problem

_log = logging.getLogger("mmsearch")
_access = logging.getLogger("mmsearch.access")


class AccessLog:
    """ASGI middleware that measures and logs requests, and answers unexpected errors with 500.

    Or with 503, where the library was moved or deleted during the request.
    """

    def __init__(self, app: ASGIApp, metrics: ServiceMetrics, *, log: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._logs = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; measure and log it at its end."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status, size = 0, 0

        async def counting_send(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, counting_send)
        except Exception as error:
            answer = library_gone_problem(scope.get("app"))
            if answer:  # whatever it is, it comes of that
                _log.warning("%s %s failed: %r", scope["method"], _path(scope), error)
            else:
                _log.exception("%s %s failed", scope["method"], _path(scope))
            if status:
                raise  # the answer has begun: the server must close the connection
            answer = answer or problem(
                HTTPStatus.INTERNAL_SERVER_ERROR, "The service failed; see its log."
            )
            await answer(scope, receive, counting_send)
        finally:
            seconds = time.perf_counter() - began
            # The router stores the route in the scope; unknown paths share one label.
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.observe_request(scope["method"], route, status, seconds)
            if self._logs:
                _access.info("%s", _line(scope, route, status, seconds, size))


def _line(scope: Scope, route: str, status: int, seconds: float, size: int) -> str:
    client = scope.get("state", {}).get("client")
    return json.dumps(
        {
            "time": round(time.time(), 3),
            "client": (scope.get("client") or [None])[0],
            "key": client.name if client else None,
            "method": scope["method"],
            "route": route,
            "path": _path(scope),
            "status": status,
            "ms": round(seconds * 1000, 2),
            "bytes": size,
        }
    )


def _path(scope: Scope) -> str:
    """Return the path of a request without a token: whoever reads the log has no key."""
    path: str = scope["path"]
    return f"{ARCHIVES}..." if path.startswith(ARCHIVES) else path
