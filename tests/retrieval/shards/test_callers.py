"""Shards are called at once, and their results are in the order of the calls."""

import threading
from typing import Any, cast

import pytest

from retrieval.shards.callers import Call, LocalShards, SpaceOfShards


class _Shard:
    def __init__(self, number: int, meeting: threading.Barrier) -> None:
        self._number = number
        self._meeting = meeting

    def ask(self, space_id: str, method: str, *given: Any) -> Any:
        self._meeting.wait(10)  # never passed if one is called after the other
        return self._number, space_id, method, given

    def fail(self) -> None:
        raise KeyError(self._number)


def _shards() -> LocalShards:
    meeting = threading.Barrier(2)
    return LocalShards([cast("Any", _Shard(number, meeting)) for number in range(2)])


def test_all_are_called_at_once() -> None:
    space = SpaceOfShards(_shards(), "space")
    assert space.all("find", 7) == [(0, "space", "find", (7,)), (1, "space", "find", (7,))]
    told = space.some("find", {1: ("b",), 0: ("a",)})
    assert told == [(1, "space", "find", ("b",)), (0, "space", "find", ("a",))]
    assert len(space) == 2


def test_what_one_raises_is_raised() -> None:
    with pytest.raises(KeyError, match="1"):
        _shards().call([Call(1, "fail")])
