"""Rate limiting: against exhaustion and the guessing of keys."""

import ipaddress
import math
import re
import time
from http import HTTPStatus

from cachetools import LRUCache
from starlette.types import ASGIApp, Receive, Scope, Send

from api.http.metrics import ServiceMetrics
from api.http.middleware.keys import Client
from api.http.problems import problem
from retrieval.errors import UsageError

_NETWORK_BITS = 64
_MOST_CLIENTS = 20_000
_ROUNDING_S = 1e-6
_RATE = re.compile(
    r"\s*([0-9]{1,9})\s*(?:/|per)\s*([0-9]{1,9})?\s*(second|minute|hour|day|month|year)s?\s*",
    re.IGNORECASE,
)
_SECONDS = {
    "second": 1,
    "minute": 60,
    "hour": 3600,
    "day": 86_400,
    "month": 30 * 86_400,
    "year": 360 * 86_400,
}


class Rate:
    """Rate limiter for many clients, with a rate such as `100/second` or `5 per 2 hours`.

    The generic cell rate algorithm (ITU-T I.371): bursts up to the amount, then the average rate.
    It stores one number per client.
    """

    def __init__(self, rate: str) -> None:
        found = _RATE.fullmatch(rate)
        amount = int(found[1]) if found else 0
        if not found or amount < 1:
            raise UsageError(
                f"Invalid rate {rate!r}: write 100/second, 600/minute or 5000/hour, for example."
            )
        self._window_s = float(int(found[2] or 1) or 1) * _SECONDS[found[3].lower()]
        self._interval_s = self._window_s / amount
        self._full_at: LRUCache[str, float] = LRUCache(_MOST_CLIENTS)
        """Per client, the time at which its whole burst is available again."""

    def allows(self, who: str) -> bool:
        """Count a request; return whether it is within the rate."""
        now = time.monotonic()
        full_at = max(self._full_at.get(who, now), now) + self._interval_s
        if full_at - now > self._window_s + _ROUNDING_S:
            return False
        self._full_at[who] = full_at
        return True

    def seconds_left(self, who: str) -> int:
        """Seconds until a refused client may retry, at least 1."""
        full_at = self._full_at.get(who, 0.0)
        return max(1, math.ceil(full_at + self._interval_s - self._window_s - time.monotonic()))


class RateLimit:
    """ASGI middleware that limits the rate per API key or, without keys, per address."""

    def __init__(self, app: ASGIApp, rate: str, metrics: ServiceMetrics) -> None:
        self._app = app
        self._rate = Rate(rate)
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer 429."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client: Client | None = scope["state"]["client"]
        who = f"key {client.name}" if client and client.name else address_of(scope)
        if self._rate.allows(who):
            await self._app(scope, receive, send)
            return
        self._metrics.reject("rate")
        answer = problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            "Rate limit exceeded: too many requests from this client.",
            retry_after_s=self._rate.seconds_left(who),
        )
        await answer(scope, receive, send)


def address_of(scope: Scope) -> str:
    """Return the client address; for IPv6 its /64 network, where clients choose any address."""
    return network_of((scope.get("client") or ("unknown",))[0])


def network_of(host: str) -> str:
    """Return an IPv4 address as it is, and the /64 network of an IPv6 address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 4:
        return host
    return str(ipaddress.ip_network((host, _NETWORK_BITS), strict=False))
