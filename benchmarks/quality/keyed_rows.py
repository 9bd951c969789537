"""Cache of float16 rows, keyed by content hash."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from retrieval.embeddings import EmbeddingsFile, Rows

_KEY_LETTERS = 32


def key_of(content: bytes) -> str:
    """Compute the key of a content: 128-bit XXH3 in hexadecimal."""
    return xxhash.xxh3_128_hexdigest(content)


class KeyedRows:
    """Float16 rows in one file and their keys in another. Rows are flushed before their keys.

    A key is a hash in 32 hexadecimal letters (`key_of`).
    """

    def __init__(self, stem: Path, dimension: int) -> None:
        self._rows = EmbeddingsFile(stem.with_suffix(".f16"), dimension)
        self._keys = stem.with_suffix(".keys")
        self.row_of: dict[str, int] = {}
        if self._keys.exists():
            lines = self._keys.read_text(encoding="ascii").split("\n")[:-1]
            # Incomplete lines, left by a crash, are ignored.
            complete = [line for line in lines if len(line) == _KEY_LETTERS]
            self.row_of = {key: row for row, key in enumerate(complete)}

    def append(self, keys: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Store (n, d) vectors under n new keys. Raises ValueError for values not finite."""
        first = len(self.row_of)
        self._rows.write(vectors, first)
        self._write_keys(keys, first)
        self.row_of.update((key, first + offset) for offset, key in enumerate(keys))

    def take(self, keys: Iterable[str | None]) -> Rows:
        """Copy the rows of keys, (n, d) float16 in their order; zeros for unknown keys."""
        rows = [-1 if key is None else self.row_of.get(key, -1) for key in keys]
        stored = self._rows.rows(len(self.row_of))
        taken = np.zeros((len(rows), self._rows.dimension), np.float16)
        found = np.array([row >= 0 for row in rows], dtype=np.bool_)
        taken[found] = stored[[row for row in rows if row >= 0]]
        return taken

    def _write_keys(self, keys: Sequence[str], first: int) -> None:
        with self._keys.open("r+b" if self._keys.exists() else "w+b") as file:
            file.seek(first * (_KEY_LETTERS + 1))
            file.truncate()
            file.write("".join(f"{key}\n" for key in keys).encode("ascii"))
            file.flush()
            os.fsync(file.fileno())
