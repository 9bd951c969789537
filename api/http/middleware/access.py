"""Authentication by API key, and authorisation by scope."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Literal

from fastapi import HTTPException, Request
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as ASGIScope

from api.http.metrics import ServiceMetrics
from api.http.middleware.keys import ANYONE, Client, KeyStore, Scope
from api.http.middleware.rates import Rate, address_of
from api.http.middleware.tickets import Tickets
from api.http.problems import problem

_WRONG_KEYS = "20/minute"

PUBLIC_PATHS = frozenset({"/", "/favicon.ico", "/healthz", "/readyz", "/service-worker.js"})
OWN_USER = "is_own_user"
"""Key of a connection's state: the permissions of its socket stand for an API key."""

OWN_LIBRARY = "own_library"
"""Key of such a connection's state: directory of the library whose socket it is."""

PUBLIC_FOLDER = "/ui/"
"""The files of the page, which contain no data: a browser loads them before it has a key."""

ARCHIVES = "/v1/archives/"
"""Their addresses are secrets that a client with a key got: a plain download cannot send a key."""


class Authentication:
    """ASGI middleware that refuses requests without a valid key.

    It stores the `Client` in `scope["state"]["client"]`. An address that has sent many wrong keys
    is answered 429 for a while; valid keys are still accepted from it.
    """

    def __init__(
        self, app: ASGIApp, keys: KeyStore, tickets: Tickets, metrics: ServiceMetrics
    ) -> None:
        self._app = app
        self._keys = keys
        self._tickets = tickets
        self._metrics = metrics
        self._wrong_keys = Rate(_WRONG_KEYS)

    async def __call__(self, scope: ASGIScope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer 401."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        client: Client | None = ANYONE
        if self._keys and not is_own_user(scope):
            secret = _bearer(Headers(scope=scope).get("authorization", ""))
            client = self._keys.client_of(secret) if secret else self._tickets.client_of(scope)
            if client is None and not is_public(scope["path"]):
                await self._refusal(scope, bool(secret))(scope, receive, send)
                return
        scope.setdefault("state", {})["client"] = client
        await self._app(scope, receive, send)

    def _refusal(self, scope: ASGIScope, has_secret: bool) -> Response:
        if has_secret and not self._wrong_keys.allows(who := address_of(scope)):
            self._metrics.reject("wrong_keys")
            return problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                "Too many wrong API keys from this address.",
                retry_after_s=self._wrong_keys.seconds_left(who),
            )
        self._metrics.reject("key")
        answer = problem(
            HTTPStatus.UNAUTHORIZED,
            "The API key is not valid."
            if has_secret
            else "This service requires an API key: send `Authorization: Bearer SECRET`.",
        )
        answer.headers["WWW-Authenticate"] = 'Bearer realm="mmsearch"'
        return answer


def is_own_user(scope: ASGIScope) -> bool:
    """Return whether a request came through the Unix socket of the user who runs the service."""
    return bool(scope.get("state", {}).get(OWN_USER))


def is_public(path: str) -> bool:
    """Return whether a path needs no key."""
    return path in PUBLIC_PATHS or path.startswith((PUBLIC_FOLDER, ARCHIVES))


def require(scope: Literal["read", "write"]) -> Callable[[Request], Awaitable[None]]:
    """Build a route dependency that answers 403 to a key without the scope."""
    needed = Scope(scope)

    async def check(request: Request) -> None:
        client: Client | None = request.state.client
        if client is None or needed not in client.scopes:
            name = f"The API key {client.name}" if client else "This request"
            raise HTTPException(HTTPStatus.FORBIDDEN, f"{name} lacks the scope {needed}.")

    return check


def _bearer(authorization: str) -> str:
    kind, _, secret = authorization.partition(" ")
    return secret.strip() if kind.lower() == "bearer" else ""
