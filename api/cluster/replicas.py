"""What runs in the processes of Ray: whole services, shards, and the search over all shards."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from starlette.middleware import Middleware
from starlette.types import ASGIApp

from api.cluster.places import Place
from api.cluster.remote_shards import RemoteShards
from api.cluster.requests import Asked, Piece, answer, whole_answer
from api.cluster.shard_routes import ShardRoutes
from api.http.app import create_app
from api.http.batching import State
from api.http.lifespan import MakeEngine
from api.http.metrics import ServiceMetrics
from api.http.middleware.access_log import AccessLog
from api.http.middleware.disconnect import DisconnectDetection
from api.http.routes.dependencies import Service
from api.http.settings import ServiceSettings
from retrieval.errors import MMSearchError
from retrieval.library import Library
from retrieval.search.engine import Engine
from retrieval.search.joint import JointEngine
from retrieval.shards.callers import Call
from retrieval.shards.engine import ShardedJointEngine
from retrieval.shards.library import ShardedLibrary
from retrieval.shards.shard import Shard, ShardEngine

if TYPE_CHECKING:
    from retrieval.lance.follower import TableFollower

_STARTS_WITHIN_S = 600.0


class _Replica:
    """A service in a process of Ray; the gateway has let its requests pass already."""

    service: Service
    app: ASGIApp

    _follower: "TableFollower | None" = None

    async def _open(self, place: Place, device: str) -> Library:
        library, self._follower = await asyncio.to_thread(place.open, device)
        return library

    async def _start(
        self, library: Library, settings: dict[str, Any], device: str, make_engine: MakeEngine
    ) -> None:
        """Open the service; it is ready when its models are loaded."""
        chosen = ServiceSettings(**settings)
        metrics = ServiceMetrics()
        app = create_app(
            library,
            chosen,
            device=device,
            make_engine=make_engine,
            guards=[
                Middleware(AccessLog, metrics, log=False),
                Middleware(DisconnectDetection),
            ],
        )
        self._context: AbstractAsyncContextManager[Any] = app.router.lifespan_context(app)
        await self._context.__aenter__()
        self.service = app.state.service
        self.app = app

    async def ask(self, asked: Asked) -> AsyncIterator[Piece]:
        """Answer a request, piece by piece."""
        async for piece in answer(self.app, asked):
            yield piece

    async def check_health(self) -> None:
        """Raise what is wrong: Ray Serve replaces this process then."""
        if self.service.inference.state is not State.READY:
            raise RuntimeError(self.service.inference.reason)
        if gone := await asyncio.to_thread(self.service.library.missing):
            raise gone

    async def __del__(self) -> None:
        """End the service; Ray Serve calls this when the last request is answered."""
        if self._follower is not None:
            await asyncio.to_thread(self._follower.stop)
        if context := self.__dict__.pop("_context", None):
            await context.__aexit__(None, None, None)


class WholeReplica(_Replica):
    """A whole service of a library or of a copy of one."""

    async def __init__(self, place: Place, settings: dict[str, Any], device: str) -> None:  # type: ignore[misc]
        library = await self._open(place, device)
        await self._start(library, settings, device, JointEngine)


class ShardReplica(_Replica):
    """One shard: what the search over all asks, and a service of its own for its items."""

    async def __init__(self, place: Place, settings: dict[str, Any], device: str) -> None:  # type: ignore[misc]
        library = await self._open(place, device)
        engines: dict[str, ShardEngine] = {}

        class Joint(JointEngine):
            def _make_engine(self, space_id: str) -> Engine:
                made = ShardEngine(library, space_id=space_id, device=device)
                engines[space_id] = made
                return made

        await self._start(library, settings, device, Joint)
        self._shard = Shard(library, engines)

    async def call(self, method: str, arguments: tuple[Any, ...]) -> Any:
        """Call the shard; what it raises for the user is returned, to be raised there."""
        try:
            return await asyncio.to_thread(getattr(self._shard, method), *arguments)
        except MMSearchError as error:
            return error

    async def whole(self, asked: Asked) -> Piece:
        """Answer a request in one piece."""
        return await whole_answer(self.app, asked)


class FanOutReplica(_Replica):
    """The service over all shards."""

    async def __init__(  # type: ignore[misc]
        self, shards: Sequence[Any], settings: dict[str, Any], device: str
    ) -> None:
        remote = RemoteShards(shards, ServiceSettings(**settings).deadline_s)
        await self._wait_for(remote)
        library = await asyncio.to_thread(ShardedLibrary, remote)
        await self._start(library, settings, device, ShardedJointEngine)
        self.app = ShardRoutes(self.app, shards, remote)

    async def _wait_for(self, shards: RemoteShards) -> None:
        """Wait until every shard answers."""
        asked = [Call(shard, "which", ([],)) for shard in range(len(shards))]
        deadline = asyncio.get_running_loop().time() + _STARTS_WITHIN_S
        while True:
            try:
                await asyncio.to_thread(shards.call, asked)
            except MMSearchError:
                if asyncio.get_running_loop().time() > deadline:
                    raise
            else:
                return
