"""Calls of shards: made again where a replica is lost, given up at the deadline."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import pytest

from api.cluster.remote_shards import LostShardError, RemoteShards
from api.http.problems import status_of
from retrieval.errors import NotFoundError
from retrieval.shards.callers import Call

ray = pytest.importorskip("ray", reason="needs Ray Serve: pip install 'mmsearch[cluster]'")


class _Handle:
    """A handle of one shard. act: gives the result of each call, by its number from 1."""

    def __init__(self, act: Callable[[int], Any]) -> None:
        self._act = act
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    @property
    def call(self) -> "_Handle":
        return self

    def remote(self, method: str, arguments: tuple[Any, ...]) -> "_Handle":
        self.calls.append((method, arguments))
        return self

    def result(self, timeout_s: float) -> Any:
        found = self._act(len(self.calls))
        if isinstance(found, Exception) and not isinstance(found, NotFoundError):
            raise found
        return found


def test_results_are_in_the_order_of_the_calls() -> None:
    shards = RemoteShards([_Handle(lambda _: "a"), _Handle(lambda _: "b")], 5)
    calls = [Call(1, "which", ([1],)), Call(0, "which", ([1],)), Call(1, "which", ([2],))]
    assert shards.call(calls) == ["b", "a", "b"]
    assert len(shards) == 2


def test_a_lost_replica_is_asked_again() -> None:
    handle = _Handle(lambda number: ray.exceptions.ActorDiedError() if number < 3 else "here")
    assert RemoteShards([handle], 5).call([Call(0, "which", ([7],))]) == ["here"]
    assert handle.calls == [("which", ([7],))] * 3


def test_what_a_shard_refuses_is_raised() -> None:
    shards = RemoteShards([_Handle(lambda _: NotFoundError("no trip"))], 5)
    with pytest.raises(NotFoundError, match="no trip"):
        shards.call([Call(0, "read", ("id_of_collection", "trip"))])


def test_a_shard_that_does_not_answer_is_given_up() -> None:
    shards = RemoteShards([_Handle(lambda _: TimeoutError())], 0.01)
    with pytest.raises(LostShardError, match=r"shard 1 has not answered within 0\.01 s"):
        shards.call([Call(0, "which", ([],))])


def test_replicas_that_stay_away_are_given_up() -> None:
    handle = _Handle(lambda _: ray.exceptions.ActorDiedError())
    with pytest.raises(LostShardError, match="replicas of the shard 1 are away") as lost:
        RemoteShards([handle], 0.2).call([Call(0, "which", ([],))])
    assert len(handle.calls) > 1
    assert status_of(lost.value) == HTTPStatus.SERVICE_UNAVAILABLE
