"""The shards of a library behind Ray Serve: each call goes to any replica of its shard."""

import time
from collections.abc import Sequence
from typing import Any

from api.cluster.failures import lost_replica_errors, waits
from api.http.batching import NotReadyError
from retrieval.errors import MMSearchError
from retrieval.shards.callers import Call

_RETRY_S = 5


class LostShardError(NotReadyError):
    """No replica of a shard answers."""

    reason = "lost_shard"


class RemoteShards:
    """Shards by the handles of their deployments. Call it from threads without an event loop.

    A call whose replica is lost is made again on another one: calls only read.

    deadline_s: seconds after which a call is given up.
    """

    def __init__(self, handles: Sequence[Any], deadline_s: float) -> None:
        self._handles = handles
        self._deadline_s = deadline_s
        self._lost = lost_replica_errors()

    def __len__(self) -> int:
        return len(self._handles)

    def call(self, calls: Sequence[Call]) -> list[Any]:
        """As of `Shards`; raises LostShardError where no replica answers in time."""
        deadline = time.monotonic() + self._deadline_s
        sent = [self._send(call) for call in calls]
        results = [
            self._result(call, response, deadline)
            for call, response in zip(calls, sent, strict=True)
        ]
        for result in results:
            if isinstance(result, MMSearchError):
                raise result
        return results

    def _send(self, call: Call) -> Any:
        return self._handles[call.shard].call.remote(call.method, call.arguments)

    def _result(self, call: Call, response: Any, deadline: float) -> Any:
        for wait in waits():
            left = deadline - time.monotonic()
            try:
                return response.result(timeout_s=max(left, 0.001))
            except TimeoutError as error:
                raise LostShardError(
                    f"The shard {call.shard + 1} has not answered within {self._deadline_s:g} s.",
                    _RETRY_S,
                ) from error
            except self._lost as error:
                if time.monotonic() + wait > deadline:
                    raise LostShardError(
                        f"All replicas of the shard {call.shard + 1} are away; they are started "
                        "again.",
                        _RETRY_S,
                    ) from error
                time.sleep(wait)
                response = self._send(call)
        raise AssertionError
