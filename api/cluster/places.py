"""Where a replica finds its library: a directory, or a copy of a table that it makes itself."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval.encoders.registry import load_encoder
from retrieval.errors import LibraryLockedError
from retrieval.library import Library, open_library

if TYPE_CHECKING:
    from retrieval.lance.follower import TableFollower

_RETRY_S = 1.0


@dataclass(frozen=True)
class Place:
    """A library of a replica. table: location of the table that it is a copy of; None: of none.

    shard: which part of the table, of how many.
    """

    directory: str
    table: str | None = None
    shard: tuple[int, int] = (0, 1)

    def open(self, device: str) -> "tuple[Library, TableFollower | None]":
        """Open the library; a copy is made first if there is none, and then follows its table.

        Replicas on one machine share a copy: one of them writes at a time.
        """
        path = Path(self.directory)
        if self.table is None:
            return open_library(path), None
        from retrieval.lance.follower import TableFollower, first_copy

        while True:
            try:
                first_copy(self.table, path, shard=self.shard)
                break
            except LibraryLockedError:  # another replica makes it
                time.sleep(_RETRY_S)
        library = open_library(path)
        follower = TableFollower(
            self.table,
            library,
            shard=self.shard,
            encoder=lambda space: load_encoder(space.encoder, device, space.weights),
            device=device,
        )
        follower.start()
        return library, follower
