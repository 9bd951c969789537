"""Image tokens in memory, before those on disk: the favourites of many queries are read once."""

import threading

import cachetools
import numpy as np
from numpy.typing import NDArray

from retrieval.machine import memory_bytes
from retrieval.rerankers.token_cache import TokenCache

_MOST_BYTES = 512_000_000
_SHARE_OF_MEMORY = 32


def default_token_memory() -> int:
    """Bytes that tokens may take in memory: a 32nd of this machine's, at most 512 MB."""
    return min(_MOST_BYTES, (memory_bytes() or 8 << 30) // _SHARE_OF_MEMORY)


class TokenMemory:
    """The most recently used tokens of a cache on disk; may be shared by threads.

    They are found by content, so that what is here never becomes wrong.
    """

    def __init__(self, cache: TokenCache, max_bytes: int | None = None) -> None:
        self._cache = cache
        self._lock = threading.Lock()
        self._kept: cachetools.LRUCache[tuple[str, str], NDArray[np.floating]] = (
            cachetools.LRUCache(
                default_token_memory() if max_bytes is None else max_bytes,
                lambda values: values.nbytes + 200,
            )
        )
        self.hits = 0
        self.misses = 0

    def get(self, identity: str, content_hash: str) -> NDArray[np.floating] | None:
        """Tokens of an image, (t, c), or None when they are neither here nor on disk.

        As float16 where that is exact: to convert them all at once is faster.
        """
        key = (identity, content_hash)
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None:
            self.hits += 1
            return kept
        self.misses += 1
        values = self._cache.get(identity, content_hash)
        if values is not None:
            self._keep(key, values)
        return values

    def put(
        self, identity: str, content_hash: str, values: NDArray[np.float32]
    ) -> NDArray[np.floating]:
        """Keep tokens of an image, (t, c), on disk too; returns them as the disk will give them."""
        as_kept = self._cache.put(identity, content_hash, values)
        if np.isfinite(as_kept).all():
            self._keep((identity, content_hash), as_kept)
        return as_kept

    def _keep(self, key: tuple[str, str], values: NDArray[np.float32]) -> None:
        """Keep values in half the space where that loses nothing: what float16 files held."""
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        is_exact = bool((halves == values).all())
        small: NDArray[np.floating] = halves if is_exact else values
        with self._lock:
            if self._kept.getsizeof(small) <= self._kept.maxsize:
                self._kept[key] = small
