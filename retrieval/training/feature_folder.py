"""Cache directory of memory-mapped arrays that is filled in order and can be resumed."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from retrieval.files import write_atomically

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, the steps done and the total."""

Mapped = np.memmap[tuple[int, ...], np.dtype[np.float16]]


class FeatureFolder:
    """Features of one kind of input, under a name hashed from everything they depend on."""

    def __init__(self, cache: Path, kind: str, key: Sequence[str]) -> None:
        digest = hashlib.sha256("\n".join(key).encode()).hexdigest()
        self.path = cache / f"{kind}-{digest[:16]}"
        self.path.mkdir(parents=True, exist_ok=True)
        self._arrays: list[Mapped] = []

    def open(self, name: str, shape: tuple[int, ...]) -> Mapped:
        """Map an array for writing; it grows if `shape` has more rows than the file."""
        path = self.path / name
        array = np.memmap(path, np.float16, "r+" if path.exists() else "w+", shape=shape)
        self._arrays.append(array)
        return array

    @property
    def done(self) -> int:
        """Number of finished rows."""
        counter = self.path / "rows.json"
        return int(json.loads(counter.read_text())) if counter.exists() else 0

    def missing(
        self, total: int, batch: int, stage: str, on_progress: Progress, *, part: int = sys.maxsize
    ) -> Iterator[slice]:
        """Yield the rows that are not finished, and record each batch once it was filled.

        Args:
            total: number of all rows.
            batch: maximum number of rows at a time.
            stage: name for `on_progress`, which is called after each batch.
            on_progress: called with stage, done and total.
            part: no batch crosses a multiple of this number of rows.
        """
        done = self.done
        while done < total:
            rows = slice(done, min(done + batch, total, (done // part + 1) * part))
            yield rows
            done = rows.stop
            self.commit(done)
            on_progress(stage, done, total)

    def commit(self, done: int) -> None:
        """Record finished rows, after the rows themselves are on disk."""
        for array in self._arrays:
            array.flush()
        write_atomically(self.path / "rows.json", json.dumps(done).encode())
