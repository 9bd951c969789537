"""When a client is known to have left."""

import asyncio
from contextlib import suppress

import pytest

from api.http.middleware.disconnect import DisconnectDetection, client_left

BODY = {"type": "http.request", "body": b"x", "more_body": False}
PART = {"type": "http.request", "body": b"x", "more_body": True}
GONE = {"type": "http.disconnect"}


def left_after(messages: list[dict], *, read: int) -> bool:
    """Whether `client_left` returns in a request that reads so many of its messages before."""

    async def run() -> bool:
        coming: asyncio.Queue[dict] = asyncio.Queue()
        for message in messages:
            coming.put_nowait(message)
        found = False

        async def app(_scope, receive, _send):
            nonlocal found
            for _ in range(read):
                await receive()
            with suppress(TimeoutError):
                await asyncio.wait_for(client_left(), 0.02)
                found = True

        await DisconnectDetection(app)({"type": "http"}, coming.get, None)
        return found

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("messages", "read", "left"),
    [
        ([BODY, GONE], 1, True),
        ([PART, BODY, GONE], 2, True),
        ([BODY], 1, False),
        ([PART, GONE], 1, False),
        ([BODY, GONE], 0, False),
    ],
)
def test_a_client_has_left_once_its_whole_body_was_read(messages, read, left):
    """Before, waiting would take away parts of the body that the route has yet to read."""
    assert left_after(messages, read=read) is left


def test_outside_of_a_request_nobody_leaves():
    async def wait() -> None:
        await asyncio.wait_for(client_left(), 0.02)

    with pytest.raises(TimeoutError):
        asyncio.run(wait())
