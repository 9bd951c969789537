"""The gateway: takes the requests of clients, lets them pass as `mmsearch serve` does, and asks a
replica; another one, if that is lost.
"""

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from importlib.metadata import version
from typing import Any
from urllib.parse import urlencode

from fastapi import Depends, FastAPI, Request, Response
from starlette.types import Receive, Scope, Send

from api.cluster.failures import lost_replica_errors, waits
from api.cluster.requests import Asked, Piece
from api.cluster.shard_routes import refuse, send_piece
from api.http.app import service_middleware
from api.http.metrics import CONTENT_TYPE, ServiceMetrics
from api.http.middleware.access import require
from api.http.middleware.disconnect import client_left
from api.http.middleware.keys import Client, KeyStore
from api.http.middleware.rates import Rate
from api.http.middleware.tickets import Tickets
from api.http.problems import install_problem_handlers, problem
from api.http.root_path import at_root_path
from api.http.routes.items import ItemId
from api.http.schemas import FileLink
from api.http.settings import ServiceSettings
from retrieval.errors import UsageError

_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_READING_POSTS = frozenset(
    {"/v1/search", "/v1/search/batch", "/v1/facets", "/v1/facets/values", "/v1/embed"}
)
"""They change nothing, and can be asked again."""

_GRACE_S = 5.0
"""What a replica may take beyond its own deadline, to say so."""

_WITHOUT_CLUSTER = "Run `mmsearch serve` without `--cluster` for it."
_REFUSED = [
    (
        re.compile(r"/v1/(index|library|folders|jobs(/.*)?)"),
        {"POST", "DELETE"},
        "A service of replicas does not index: run `mmsearch index` where the library is, and the "
        "replicas see what is new.",
    ),
    (
        re.compile(r"/v1/items(/[0-9]+)?"),
        {"POST", "DELETE"},
        f"A service of replicas takes no uploads. {_WITHOUT_CLUSTER}",
    ),
    (
        re.compile(r"/v1/archives(/.*)?"),
        {"GET", "HEAD", "POST"},
        "A service of replicas makes no archives: download the files one by one, by `GET "
        f"/v1/items/ID/file`. {_WITHOUT_CLUSTER}",
    ),
]
_REFUSED_OF_SHARDS = [
    (
        re.compile(r"/v1/(collections|hidden|searches)(/.*)?"),
        {"POST", "PATCH", "DELETE"},
        "A library in shards is only read: change the library that they were made from, and make "
        "them again (`mmsearch serve --shards N` does so when it starts).",
    ),
    (
        re.compile(r"/v1/(collections/.*|folders)"),
        {"GET", "HEAD"},
        f"A library in shards does not tell that. {_WITHOUT_CLUSTER}",
    ),
]


def create_gateway(handle: Any, settings: ServiceSettings, *, is_sharded: bool) -> FastAPI:
    """Build the application that stands before the replicas.

    Args:
        handle: Of the deployment that answers.
        settings: Settings of the service: access and limits are the gateway's.
        is_sharded: Whether the library is in shards.

    Raises:
        UsageError: As `create_app`.
    """
    keys = KeyStore(settings.api_keys, settings.api_keys_file)
    if "*" in settings.cors_origins and not keys:
        raise UsageError("`--cors-origin *` allows every web site, so it needs an API key.")
    Rate(settings.rate_limit)  # raises UsageError if it is invalid
    metrics = ServiceMetrics()
    tickets = Tickets(keys)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield

    app = FastAPI(
        title="mmsearch",
        version=version("mmsearch"),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # the replicas describe what they do
        middleware=service_middleware(settings, keys, tickets, metrics),
    )
    app.state.metrics = metrics
    app.state.keys = keys
    install_problem_handlers(app)
    replicas = Replicas(handle, settings.deadline_s, is_sharded=is_sharded)

    @app.get("/metrics", dependencies=[Depends(require("read"))])
    def own_metrics() -> Response:
        """Return metrics of the gateway."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    @app.post("/v1/items/{item_id}/link", dependencies=[Depends(require("read"))])
    async def make_link(item_id: ItemId, request: Request) -> Response:
        """Make an address as a service without replicas does: only the gateway knows the keys."""
        path = f"/v1/items/{item_id}"
        asked = Asked.of({**request.scope, "method": "GET", "path": path}, b"")
        try:
            item = await replicas.whole(asked)
        except replicas.failures as error:
            return replicas.failed(asked, error)
        if item.status != HTTPStatus.OK:
            return Response(item.body, item.status, dict(_texts(item.headers)))
        file = f"{path}/file"
        client: Client = request.state.client
        link = FileLink(url=at_root_path(file), expires_at=None)
        if client.name is not None:
            ticket, ends = tickets.issue(client, file, json.loads(item.body)["path"])
            address = f"{at_root_path(file)}?{urlencode({'ticket': ticket})}"
            link = FileLink(url=address, expires_at=datetime.fromtimestamp(ends, UTC))
        return Response(link.model_dump_json(), media_type="application/json")

    app.mount("/", replicas)
    return app


class Replicas:
    """ASGI application that asks the replicas.

    A request whose replica is lost before its answer has begun is asked again of another one, if
    it only reads. One that may have changed something is answered 503: whether it has is not known.
    """

    def __init__(self, handle: Any, deadline_s: float, *, is_sharded: bool) -> None:
        self._handle = handle.options(stream=True)
        self._deadline_s = deadline_s + _GRACE_S
        self._refused = [*_REFUSED, *(_REFUSED_OF_SHARDS if is_sharded else [])]
        self._lost = lost_replica_errors()
        self.failures: tuple[type[BaseException], ...] = (*self._lost, TimeoutError)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        for path, methods, detail in self._refused:
            if scope["method"] in methods and path.fullmatch(scope["path"]):
                await refuse(detail, scope, receive, send)
                return
        asked = Asked.of(scope, await Request(scope, receive).body())
        begun = False
        departure = asyncio.ensure_future(client_left())
        try:
            async with aclosing(self.pieces(asked)) as pieces:
                async for piece in pieces:
                    await send_piece(piece, send, scope)
                    begun = True
                    if departure.done():  # nobody takes the rest of a long file
                        return
        except self.failures as error:
            if begun:  # the connection is cut: the client sees that the answer is not whole
                raise
            await self.failed(asked, error)(scope, receive, send)
        finally:
            departure.cancel()

    async def pieces(self, asked: Asked) -> AsyncGenerator[Piece, None]:
        """Ask, again if need be, and yield the answer; raises TimeoutError and Ray's errors."""
        deadline = time.monotonic() + self._deadline_s
        begun = False
        for wait in waits():
            answer = self._handle.ask.remote(asked)
            try:
                while True:
                    left = None if begun else deadline - time.monotonic()
                    try:
                        piece = await asyncio.wait_for(anext(answer), left)
                    except StopAsyncIteration:
                        return
                    begun = True
                    yield piece
            except self._lost:
                is_late = time.monotonic() + wait > deadline
                if begun or is_late or not _only_reads(asked):
                    raise
                await asyncio.sleep(wait)
            finally:
                answer.cancel()

    async def whole(self, asked: Asked) -> Piece:
        """Return the whole answer to a request that only reads."""
        pieces = [piece async for piece in self.pieces(asked)]
        return pieces[0]._replace(body=b"".join(piece.body for piece in pieces), more=False)

    def failed(self, asked: Asked, error: BaseException) -> Response:
        """Build the answer to a request that none of the replicas has answered."""
        if isinstance(error, TimeoutError):
            return problem(
                HTTPStatus.GATEWAY_TIMEOUT,
                f"No replica has answered within {self._deadline_s:g} s.",
            )
        detail = "All replicas are away; they are started again."
        if not _only_reads(asked):
            detail = (
                "The replica was lost while it answered: look whether it has done what was asked "
                "for before you ask again."
            )
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, retry_after_s=1)


def _only_reads(asked: Asked) -> bool:
    return asked.method in _READS or (asked.method == "POST" and asked.path in _READING_POSTS)


def _texts(headers: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
