"""Which shard answers what of a service over shards."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from api.cluster.remote_shards import RemoteShards
from api.cluster.requests import Asked, Piece, whole_answer
from api.cluster.shard_routes import ShardRoutes

ray = pytest.importorskip("ray", reason="needs Ray Serve: pip install 'mmsearch[cluster]'")

JSON = [(b"content-type", b"application/json")]


class _Shard:
    """A shard with some items, whose first answer is lost."""

    def __init__(self, items: Sequence[int]) -> None:
        self._items = items
        self._losses = 1
        self.call = self.whole = self.ask = self

    def options(self, *, stream: bool) -> "_Streamed":
        assert stream
        return _Streamed(self)

    def remote(self, asked: Any, arguments: Any = None) -> Any:
        if asked == "which":
            found = [item for item in arguments[0] if item in self._items]
            return type("Response", (), {"result": lambda _, timeout_s: found})()
        return self.answer(asked)

    async def answer(self, asked: Asked) -> Piece:
        if self._losses:
            self._losses -= 1
            raise ray.exceptions.ActorDiedError
        body = {"collections": [{"id": 1, "items": len(self._items)}], "path": asked.path}
        return Piece(json.dumps(body).encode(), False, 200, JSON)


class _Streamed:
    def __init__(self, shard: _Shard) -> None:
        self._shard = shard
        self.ask = self

    async def remote(self, asked: Asked) -> AsyncIterator[Piece]:
        yield await self._shard.answer(asked)


async def _own(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("own")(scope, receive, send)


def _ask(path: str) -> Piece:
    shards = [_Shard([1, 2]), _Shard([3])]
    routes = ShardRoutes(_own, shards, RemoteShards(shards, 5))
    return asyncio.run(whole_answer(routes, Asked("GET", path)))


def test_an_item_is_answered_by_its_shard() -> None:
    assert json.loads(_ask("/v1/items/3/thumbnail").body)["collections"][0]["items"] == 1
    assert json.loads(_ask("/v1/items/2").body)["collections"][0]["items"] == 2


def test_what_all_shards_know_is_joined() -> None:
    assert json.loads(_ask("/v1/collections").body) == {"collections": [{"id": 1, "items": 3}]}


@pytest.mark.parametrize("path", ["/v1/search", "/v1/items", "/v1/items/3/similar", "/"])
def test_the_rest_is_answered_over_all(path: str) -> None:
    assert _ask(path).body == b"own"
