"""How the shards of a library are called: all at once, wherever they are."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

from retrieval.shards.shard import Shard


class Call(NamedTuple):
    """A call of a method of one shard."""

    shard: int
    method: str
    arguments: tuple[Any, ...] = ()


class Shards(Protocol):
    """The shards of a library, numbered from 0."""

    def __len__(self) -> int:
        """Number of shards."""
        ...

    def call(self, calls: Sequence[Call]) -> list[Any]:
        """Make calls at the same time; the results are in their order. Raises what one raises."""
        ...


class LocalShards:
    """Shards in this process."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self._shards = shards
        self._pool = ThreadPoolExecutor(max(len(shards), 1), "shard")

    def __len__(self) -> int:
        return len(self._shards)

    def call(self, calls: Sequence[Call]) -> list[Any]:
        """As of `Shards`."""

        def made(call: Call) -> Any:
            return getattr(self._shards[call.shard], call.method)(*call.arguments)

        return list(self._pool.map(made, calls))


class SpaceOfShards:
    """The engines of one space in all shards."""

    def __init__(self, shards: Shards, space_id: str) -> None:
        self.shards = shards
        self.space_id = space_id

    def __len__(self) -> int:
        return len(self.shards)

    def all(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of the engine of each shard with the same arguments."""
        return self.some(method, dict.fromkeys(range(len(self.shards)), arguments))

    def some(self, method: str, arguments: dict[int, tuple[Any, ...]]) -> list[Any]:
        """Call a method of the engines of some shards, each with arguments of its own."""
        return self.shards.call(
            [Call(shard, "ask", (self.space_id, method, *of)) for shard, of in arguments.items()]
        )
