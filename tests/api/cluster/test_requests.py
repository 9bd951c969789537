"""Requests and answers on their way between gateway and replica."""

import asyncio
import pickle

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from api.cluster.requests import Asked, answer, whole_answer
from api.http.middleware.access import OWN_USER
from api.http.middleware.keys import ANYONE
from api.http.root_path import at_root_path

ENDED = []


async def _echo(request: Request) -> PlainTextResponse:
    body = await request.body()
    client = request.state.client
    told = [request.method, request.url.query, body.decode(), at_root_path("/x"), str(client.name)]
    return PlainTextResponse(" ".join(told), headers={"X-Own": "1"})


async def _endless(_: Request) -> StreamingResponse:
    async def parts() -> object:
        try:
            while True:
                yield b"part"
        finally:
            ENDED.append(True)

    return StreamingResponse(parts())  # type: ignore[arg-type]


async def _fail(_: Request) -> None:
    raise KeyError("no")


APP = Starlette(
    routes=[
        Route("/echo", _echo, methods=["POST"]),
        Route("/endless", _endless),
        Route("/fail", _fail),
    ]
)


def test_a_request_arrives_without_its_key() -> None:
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/echo",
        "query_string": b"a=1",
        "headers": [(b"host", b"h"), (b"Authorization", b"Bearer secret")],
        "mmsearch_root_path": "/photos",
        "state": {"client": ANYONE, OWN_USER: True, "other": object},
    }
    asked = pickle.loads(pickle.dumps(Asked.of(scope, b"body")))
    assert asked.headers == [(b"host", b"h")]
    assert asked.state == {"client": ANYONE, OWN_USER: True}
    piece = asyncio.run(whole_answer(APP, asked))
    assert piece.status == 200
    assert piece.body == b"POST a=1 body /photos/x None"
    assert (b"x-own", b"1") in piece.headers


def test_an_answer_that_nobody_takes_is_ended() -> None:
    async def take_two() -> list[bytes]:
        pieces = answer(APP, Asked("GET", "/endless"))
        taken = [(await anext(pieces)).body for _ in range(2)]
        await pieces.aclose()  # type: ignore[attr-defined]
        await asyncio.sleep(0.05)
        return taken

    assert asyncio.run(take_two()) == [b"part", b"part"]
    assert ENDED == [True]


def test_what_an_application_raises_is_raised() -> None:
    with pytest.raises(KeyError, match="no"):
        asyncio.run(whole_answer(APP, Asked("GET", "/fail")))
