"""A folder of memory-mapped arrays that is filled in order and goes on where it stopped."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from retrieval.files import write_atomically

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, the steps done and the steps in total."""

Mapped = np.memmap[tuple[int, ...], np.dtype[np.float16]]


class FeatureFolder:
    """What was computed from one kind of input, under a name made of everything it depends on."""

    def __init__(self, cache: Path, kind: str, key: Sequence[str]) -> None:
        digest = hashlib.sha256("\n".join(key).encode()).hexdigest()
        self.path = cache / f"{kind}-{digest[:16]}"
        self.path.mkdir(parents=True, exist_ok=True)

    def open(self, name: str, shape: tuple[int, ...]) -> Mapped:
        """Map an array for writing. Opened for more rows than it has, it grows and keeps them."""
        path = self.path / name
        return np.memmap(path, np.float16, "r+" if path.exists() else "w+", shape=shape)

    @property
    def done(self) -> int:
        """How many rows are finished."""
        counter = self.path / "rows.json"
        return int(json.loads(counter.read_text())) if counter.exists() else 0

    def commit(self, done: int, *arrays: Mapped) -> None:
        """Record finished rows, after the rows themselves are on disk."""
        for array in arrays:
            array.flush()
        write_atomically(self.path / "rows.json", json.dumps(done).encode())
