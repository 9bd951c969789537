"""The routes of a service over shards: what one shard answers, what all do, and what none does."""

import asyncio
import json
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import cachetools
from starlette.types import ASGIApp, Receive, Scope, Send

from api.cluster.failures import lost_replica_errors, waits
from api.cluster.joined_answers import JOINED
from api.cluster.remote_shards import RemoteShards
from api.cluster.requests import Asked, Piece
from api.http.problems import problem
from retrieval.shards.callers import Call

_OWNERS = 100_000
_ITEM = re.compile(r"/v1/items/(?P<id>[0-9]{1,18})(?P<rest>/.*)?", re.ASCII)
_OF_ALL = frozenset({"/similar"})
"""What is asked of an item, but answered by a search of all shards."""


class ShardRoutes:
    """ASGI application that asks the shards, and its own application for the rest.

    app: the service over all shards. handles: of the deployments of the shards.
    """

    def __init__(self, app: ASGIApp, handles: Sequence[Any], shards: RemoteShards) -> None:
        self._app = app
        self._handles = [handle.options(stream=True) for handle in handles]
        self._whole = handles
        self._shards = shards
        self._lost = lost_replica_errors()
        self._owners: cachetools.LRUCache[int, int] = cachetools.LRUCache(_OWNERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        path, method = scope["path"], scope["method"]
        item = _ITEM.fullmatch(path)
        if item and (item["rest"] or "") not in _OF_ALL:
            await self._of_owner(int(item["id"]), scope, send)
        elif method in {"GET", "HEAD"} and path in JOINED:
            await self._of_all(scope, send)
        else:
            await self._app(scope, receive, send)

    async def _of_owner(self, item_id: int, scope: Scope, send: Send) -> None:
        """Pass a request on to the shard that has an item."""
        shard = await self._owner(item_id)
        asked = _asked(scope)
        begun = False
        for wait in waits():
            try:
                async for piece in self._handles[shard].ask.remote(asked):
                    await send_piece(piece, send, scope)
                    begun = True
            except self._lost:
                if begun:  # the connection is cut: the client sees that the answer is not whole
                    raise
                await asyncio.sleep(wait)
            else:
                return

    async def _owner(self, item_id: int) -> int:
        """Find the shard of an item; the first one says what is wrong where none has it."""
        if (known := self._owners.get(item_id)) is not None:
            return known
        calls = [Call(shard, "which", ([item_id],)) for shard in range(len(self._shards))]
        found = await asyncio.to_thread(self._shards.call, calls)
        for shard, ids in enumerate(found):
            if ids:
                self._owners[item_id] = shard
                return shard
        return 0

    async def _of_all(self, scope: Scope, send: Send) -> None:
        """Ask all shards, and join their answers."""
        asked = _asked(scope)
        pieces = await asyncio.gather(*(self._ask_whole(handle, asked) for handle in self._whole))
        for piece in pieces:
            if piece.status != HTTPStatus.OK:
                await send_piece(piece, send, scope)
                return
        joined = JOINED[scope["path"]]([json.loads(piece.body) for piece in pieces])
        body = json.dumps(joined, ensure_ascii=False, separators=(",", ":")).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        first = Piece(body, more=False, status=200, headers=headers, route=pieces[0].route)
        await send_piece(first, send, scope)

    async def _ask_whole(self, handle: Any, asked: Asked) -> Piece:
        for wait in waits():
            try:
                piece: Piece = await handle.whole.remote(asked)
            except self._lost:
                await asyncio.sleep(wait)
            else:
                return piece
        raise AssertionError


def _asked(scope: Scope) -> Asked:
    from api.http.root_path import at_root_path

    return Asked.of({**scope, "mmsearch_root_path": at_root_path("")}, b"")


async def send_piece(piece: Piece, send: Send, scope: Scope) -> None:
    """Send a part of an answer on."""
    if piece.status:
        scope["route"] = _Route(piece.route)
        await send(
            {"type": "http.response.start", "status": piece.status, "headers": piece.headers}
        )
    await send({"type": "http.response.body", "body": piece.body, "more_body": piece.more})


class _Route:
    """Names the route of an answer for the metrics."""

    def __init__(self, path: str) -> None:
        self.path = path


async def refuse(detail: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer that this service does not do something, and what does."""
    await problem(HTTPStatus.NOT_IMPLEMENTED, detail)(scope, receive, send)
