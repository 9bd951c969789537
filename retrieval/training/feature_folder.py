"""Cache directory of memory-mapped arrays that is filled in order and can be resumed."""

import hashlib
import json
from collections.abc import Callable, Sequence
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

    def open(self, name: str, shape: tuple[int, ...]) -> Mapped:
        """Map an array for writing; it grows if `shape` has more rows than the file."""
        path = self.path / name
        return np.memmap(path, np.float16, "r+" if path.exists() else "w+", shape=shape)

    @property
    def done(self) -> int:
        """Number of finished rows."""
        counter = self.path / "rows.json"
        return int(json.loads(counter.read_text())) if counter.exists() else 0

    def commit(self, done: int, *arrays: Mapped) -> None:
        """Record finished rows, after the rows themselves are on disk."""
        for array in arrays:
            array.flush()
        write_atomically(self.path / "rows.json", json.dumps(done).encode())
