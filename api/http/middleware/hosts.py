"""Check the Host header: against DNS rebinding.

A foreign page can let its own host name resolve to 127.0.0.1. The browser then treats the service
as the same origin and lets the page read all answers, but the Host header has the foreign name.
"""

import re
from collections.abc import Container, Iterable
from functools import lru_cache
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.metrics import ServiceMetrics
from api.http.problems import problem
from api.http.settings import is_address, is_loopback_name

PROBE_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
"""What load balancers and Prometheus ask for by the address of a machine or container."""

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9_.%~!$&'()*+,;=-]+))(?::[0-9]{0,5})?")


class HostGuard:
    """ASGI middleware that accepts only loopback and allowed host names.

    Probes may also use any address, or no Host header: DNS rebinding needs a name.
    """

    def __init__(self, app: ASGIApp, allowed: Iterable[str], metrics: ServiceMetrics) -> None:
        self._app = app
        self._allowed = {host_name(name.encode("latin-1")) for name in allowed}
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer 421."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        names = [value for name, value in scope["headers"] if name == b"host"]
        host = host_name(names[0]) if len(names) == 1 else ""
        is_probe = scope["path"] in PROBE_PATHS and (not names or is_address(host))
        if is_loopback_name(host) or host in self._allowed or is_probe:
            await self._app(scope, receive, send)
            return
        self._metrics.reject("host")
        answer = problem(
            HTTPStatus.MISDIRECTED_REQUEST,
            "The name in the Host header is not allowed. Allow it with "
            "`mmsearch serve --allowed-host NAME`.",
        )
        await answer(scope, receive, send)


def allows(allowed: Container[str], host: str, port: int | None) -> bool:
    """Return whether a name (IPv6 without brackets) is allowed: for any port, or for this one."""
    written = f"[{host}]" if ":" in host else host
    return written in allowed or f"{written}:{port}" in allowed


@lru_cache(maxsize=256)
def host_name(header: bytes) -> str:
    """Parse the name or address of a Host header: lower case, without port and brackets.

    Returns an empty text for a malformed one (RFC 3986, section 3.2.2).
    """
    found = _HOST.fullmatch(header.decode("latin-1").strip(" \t").lower())
    return (found[1] or found[2]).removesuffix(".") if found else ""
