"""What the routes share: the open library and the one thread that runs the engine."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated, TypeVar, cast

from fastapi import Depends, Request

from retrieval.engine import Engine
from retrieval.library import Library

_T = TypeVar("_T")


@dataclass(frozen=True)
class Service:
    """The state of a running application; made at its start."""

    library: Library
    engine: Engine
    inference: ThreadPoolExecutor
    rerank: str

    async def on_inference_thread(self, call: Callable[[], _T]) -> _T:
        """Run a call on the thread that owns the encoder, without blocking the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.inference, call)


def _service(request: Request) -> Service:
    return cast("Service", request.app.state.service)


CurrentService = Annotated[Service, Depends(_service)]
