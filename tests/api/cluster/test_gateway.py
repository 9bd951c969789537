"""The gateway before replicas: access, retries, and what is refused."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.cluster.gateway import create_gateway
from api.cluster.requests import Asked, Piece
from api.http.settings import ServiceSettings

ray = pytest.importorskip("ray", reason="needs Ray Serve: pip install 'mmsearch[cluster]'")

SECRET = "a-secret-of-a-key-that-is-long"
JSON = [(b"content-type", b"application/json")]


class _Handle:
    """A handle of Ray Serve whose replicas do what a test wants. asked: requests so far."""

    def __init__(self, act: Callable[[int, Asked], list[Piece | Exception]]) -> None:
        self._act = act
        self.asked: list[Asked] = []

    @property
    def ask(self) -> "_Handle":
        return self

    def options(self, *, stream: bool) -> "_Handle":
        assert stream
        return self

    def remote(self, asked: Asked) -> "_Answer":
        self.asked.append(asked)
        return _Answer(self._act(len(self.asked), asked))


class _Answer:
    def __init__(self, steps: list[Piece | Exception]) -> None:
        self._steps = iter(steps)

    def __aiter__(self) -> AsyncIterator[Piece]:
        return self

    async def __anext__(self) -> Piece:
        for step in self._steps:
            if isinstance(step, Exception):
                raise step
            return step
        raise StopAsyncIteration

    def cancel(self) -> None:
        """End it."""


def _client(handle: _Handle, *, is_sharded: bool = False, **settings: Any) -> TestClient:
    app = create_gateway(handle, ServiceSettings(**settings), is_sharded=is_sharded)
    return TestClient(app, base_url="http://localhost")


def _lost() -> Exception:
    error: Exception = ray.exceptions.ActorDiedError()
    return error


def _right(body: bytes = b"{}") -> Piece:
    return Piece(body, more=False, status=200, headers=JSON)


def test_a_request_that_reads_is_asked_again() -> None:
    handle = _Handle(lambda number, _: [_lost()] if number < 3 else [_right(b'{"a":1}')])
    answer = _client(handle).post("/v1/search", json={"text": "dog"})
    assert answer.json() == {"a": 1}
    assert len(handle.asked) == 3
    assert len({asked.body for asked in handle.asked}) == 1


def test_a_request_that_writes_is_not_asked_again() -> None:
    handle = _Handle(lambda *_: [_lost()])
    answer = _client(handle).post("/v1/hidden", json={"items": [1]})
    assert answer.status_code == 503
    assert "look whether it has done" in answer.json()["detail"]
    assert len(handle.asked) == 1


def test_an_answer_that_breaks_off_is_cut() -> None:
    begun = Piece(b"half", more=True, status=200, headers=[(b"content-length", b"8")])
    handle = _Handle(lambda *_: [begun, _lost()])
    with pytest.raises(ray.exceptions.ActorDiedError):
        _client(handle).get("/v1/items/1/file")
    assert len(handle.asked) == 1


def test_replicas_that_stay_away_are_told_of() -> None:
    handle = _Handle(lambda *_: [_lost()])
    client = _client(handle, deadline_s=0.01)
    for answer in (client.get("/v1/items/1"), client.post("/v1/items/1/link")):
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "1"


def test_keys_are_checked_and_kept_here(tmp_path: Path) -> None:
    handle = _Handle(lambda *_: [_right(b'{"path":"/a.jpg"}')])
    client = _client(handle, api_keys=f"phone:read:{SECRET}")
    assert client.get("/v1/items/1").status_code == 401
    assert handle.asked == []
    own = {"Authorization": f"Bearer {SECRET}"}
    assert client.get("/v1/items/1", headers=own).status_code == 200
    [asked] = handle.asked
    assert asked.state["client"].name == "phone"
    assert SECRET not in repr(asked)
    link = client.post("/v1/items/1/link", headers=own).json()["url"]
    assert link.startswith("/v1/items/1/file?ticket=")
    assert client.get(link).status_code == 200
    assert handle.asked[-1].state["client"].only is not None


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/index"),
        ("POST", "/v1/items"),
        ("POST", "/v1/archives"),
        ("DELETE", "/v1/items/3"),
    ],
)
def test_what_replicas_do_not_do_names_the_way(method: str, path: str) -> None:
    handle = _Handle(lambda *_: [_right()])
    for is_sharded in (False, True):
        answer = _client(handle, is_sharded=is_sharded).request(method, path)
        assert answer.status_code == 501
        assert "mmsearch" in answer.json()["detail"] or "GET" in answer.json()["detail"]
    assert handle.asked == []


def test_shards_are_only_read() -> None:
    handle = _Handle(lambda *_: [_right()])
    hide = {"items": [1]}
    assert _client(handle).post("/v1/hidden", json=hide).status_code == 200
    assert _client(handle, is_sharded=True).post("/v1/hidden", json=hide).status_code == 501


def test_metrics_are_of_the_gateway() -> None:
    handle = _Handle(lambda *_: [_right()])
    client = _client(handle)
    client.get("/v1/stats")
    assert "mmsearch_" in client.get("/metrics").text
    assert len(handle.asked) == 1
