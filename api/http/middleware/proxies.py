"""What a reverse proxy says of a request, and the sub-path that it serves this service at.

Headers such as `X-Forwarded-Host` count only in requests of trusted proxies: any client can send
them. A proxy may strip the sub-path from the path of a request, or leave it there.
"""

import ipaddress
import re
from collections.abc import Iterable
from typing import Any, cast
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from api.http.root_path import parse_root_path, using_root_path

_HOST = re.compile(rb"[A-Za-z0-9._\-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")


def parse_network(text: str) -> str:
    """Normalise an address or network, such as 10.0.0.0/8. Raises ValueError for other texts."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"{text!r} is not an address or a network: write 127.0.0.1 or 10.0.0.0/8, for example"
        ) from None
    return str(network)


class TrustedProxies:
    """The addresses of trusted proxies. networks: as of `parse_network`."""

    def __init__(self, networks: Iterable[str]) -> None:
        self.networks = list(networks)
        self._parsed = [ipaddress.ip_network(network) for network in self.networks]

    def __contains__(self, host: object) -> bool:
        try:
            address = ipaddress.ip_address(str(host))
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._parsed)


class ForwardedHeaders:
    """ASGI middleware that applies the headers of trusted proxies, and the sub-path.

    `X-Forwarded-For` gives the client's address, `-Proto` the scheme, `-Host` the Host header, and
    `-Prefix` the sub-path, instead of that of the settings. Addresses in the `Location` of answers
    become relative to the server, since a proxy need not tell its own scheme and name.

    Args:
        app: The application.
        root_path: Sub-path, if no trusted proxy says otherwise; normalised.
        trusted: Addresses and networks of trusted proxies.
    """

    def __init__(self, app: ASGIApp, root_path: str, trusted: Iterable[str]) -> None:
        self._app = app
        self._root_path = root_path
        self._proxies = TrustedProxies(trusted)
        # Its types are those of asgiref, which differ from Starlette's in name only.
        self._with_client = cast(
            "ASGIApp",
            ProxyHeadersMiddleware(cast("Any", self._route), self._proxies.networks),
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on as the client has sent it to the proxy."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        root_path = self._root_path
        app: ASGIApp = self._route
        if scope.get("client") and scope["client"][0] in self._proxies:
            headers = MutableHeaders(scope=scope)
            if (prefix := _first(headers, "x-forwarded-prefix")) is not None:
                try:
                    root_path = parse_root_path(prefix)
                except ValueError:  # as if it had not been sent
                    root_path = self._root_path
            host = _first(headers, "x-forwarded-host")
            if host is not None and _HOST.fullmatch(host.encode("latin-1")):
                headers["host"] = host
            app = self._with_client
        path: str = scope["path"]
        if root_path and (path == root_path or path.startswith(root_path + "/")):
            path = path[len(root_path) :]
            if not path:
                redirect = RedirectResponse(f"{root_path}/{_query(scope)}")
                await redirect(scope, receive, send)
                return
        scope = {**scope, "path": path, "root_path": "", "mmsearch_root_path": root_path}
        await app(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        root_path: str = scope["mmsearch_root_path"]

        async def send_relative(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if (location := headers.get("location")) is not None:
                    parts = urlsplit(location)
                    address = parts._replace(scheme="", netloc="").geturl()
                    headers["location"] = root_path + address
            await send(message)

        with using_root_path(root_path):
            await self._app(scope, receive, send_relative)


def _first(headers: Headers, name: str) -> str | None:
    """Return the first of the values that proxies, one behind the other, have set."""
    value = headers.get(name, "").partition(",")[0].strip()
    return value or None


def _query(scope: Scope) -> str:
    query: bytes = scope.get("query_string", b"")
    return f"?{query.decode('latin-1')}" if query else ""
