"""Refuse cross-site requests of browsers: against cross-site request forgery (CSRF).

Any page that a user visits can send requests to a service on the user's machine. Browsers state the
origin of a request in `Origin` and `Sec-Fetch-Site`; other programs send neither.
"""

from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.metrics import ServiceMetrics
from api.http.middleware.hosts import allows
from api.http.problems import problem

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_DEFAULT_PORTS = {"http": 80, "https": 443}


class CrossSiteGuard:
    """ASGI middleware that refuses cross-site requests of browsers.

    Navigation by a link is always allowed. A proxy may have replaced the Host header or its port by
    its own, so that a page of this service is also known by a name that is allowed for it.

    Args:
        app: The application.
        allowed: Origins whose scripts may use the service, or `*`.
        metrics: Counts refusals.
        own_names: Names of this service, `NAME` or `NAME:PORT`.
    """

    def __init__(
        self,
        app: ASGIApp,
        allowed: Iterable[str],
        metrics: ServiceMetrics,
        own_names: Iterable[str] = (),
    ) -> None:
        self._app = app
        self._allowed = frozenset(allowed)
        self._metrics = metrics
        self._own_names = frozenset(own_names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer 403."""
        if scope["type"] == "http" and self._is_foreign(scope["method"], Headers(scope=scope)):
            self._metrics.reject("cross_site")
            answer = problem(
                HTTPStatus.FORBIDDEN,
                "Cross-site request refused. Allow the web site with "
                "`mmsearch serve --cors-origin ORIGIN`; if it is this service itself, behind a "
                "proxy, allow its name with `--allowed-host NAME`.",
            )
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_foreign(self, method: str, headers: Headers) -> bool:
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is None and site is None:
            return False
        if origin in self._allowed or "*" in self._allowed:
            return False
        is_safe = method in _SAFE_METHODS
        if origin is not None and not (
            _is_same(origin, headers.get("host", "")) or self._is_own(origin)
        ):
            return True
        if site in {"cross-site", "same-site"}:
            return not (is_safe and headers.get("sec-fetch-mode") == "navigate")
        return False

    def _is_own(self, origin: str) -> bool:
        try:
            parts = urlsplit(origin)
            port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
        except ValueError:
            return False
        return bool(parts.hostname) and allows(self._own_names, parts.hostname or "", port)


def _is_same(origin: str, host: str) -> bool:
    """Compare an origin with that of the service; a proxy may have changed the scheme."""
    try:
        parts = urlsplit(origin)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
        asked = urlsplit(f"{parts.scheme}://{host}")
        asked_port = asked.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return False
    return bool(parts.hostname) and (parts.hostname, port) == (asked.hostname, asked_port)
