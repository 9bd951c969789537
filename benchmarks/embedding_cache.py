"""Vectors by space and content, kept between benchmark runs, so that only the first one encodes."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from retrieval.embeddings import EmbeddingsFile, Rows
from retrieval.encoders.base import Encoder, Vectors
from retrieval.images import UnreadableImageError, read_image

_IMAGES_PER_BATCH = 64
_TEXTS_PER_BATCH = 256
_KEY_LETTERS = 32


@dataclass(frozen=True)
class Embedded:
    """Vectors of a list of things, in its order, and why some have none.

    rows: (n, d) float16, zero where the thing could not be read; unreadable: reasons by position.
    """

    rows: Rows
    unreadable: dict[int, str]


class EmbeddingCache:
    """A folder of float16 vectors, one store a space and modality, keyed by content hash.

    A file is read once for its hash: make another cache to notice that it has changed since.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key_of: dict[Path, str] = {}  # each direction of a run asks for the same files

    def embed_images(
        self,
        encoder: Encoder,
        paths: Sequence[Path],
        on_progress: Callable[[int, int], None] = lambda *_: None,
    ) -> Embedded:
        """Encode image files, or find their vectors from an earlier run."""
        keys: list[str | None] = []
        unreadable: dict[int, str] = {}
        for position, path in enumerate(paths):
            try:
                if path not in self._key_of:
                    self._key_of[path] = xxhash.xxh3_128_hexdigest(path.read_bytes())
                keys.append(self._key_of[path])
            except OSError as error:
                keys.append(None)
                unreadable[position] = (error.strerror or str(error)).lower()

        def encode(positions: Sequence[int]) -> tuple[list[int], Vectors]:
            good, pixels = [], []
            for position in positions:
                try:
                    pixels.append(encoder.preprocess(read_image(paths[position])))
                    good.append(position)
                except (OSError, UnreadableImageError) as error:
                    unreadable[position] = str(error)
            if not pixels:
                return [], np.empty((0, encoder.space.dimension), np.float32)
            return good, encoder.encode_images(np.stack(pixels))

        rows = self._embed(encoder, "image", keys, encode, _IMAGES_PER_BATCH, on_progress)
        return Embedded(rows, unreadable)

    def embed_texts(
        self,
        encoder: Encoder,
        texts: Sequence[str],
        on_progress: Callable[[int, int], None] = lambda *_: None,
    ) -> Embedded:
        """Encode texts, or find their vectors from an earlier run."""
        keys: list[str | None] = [xxhash.xxh3_128_hexdigest(text.encode()) for text in texts]

        def encode(positions: Sequence[int]) -> tuple[list[int], Vectors]:
            return list(positions), encoder.encode_texts([texts[p] for p in positions])

        rows = self._embed(encoder, "text", keys, encode, _TEXTS_PER_BATCH, on_progress)
        return Embedded(rows, {})

    def _embed(
        self,
        encoder: Encoder,
        modality: str,
        keys: Sequence[str | None],
        encode: Callable[[Sequence[int]], tuple[list[int], Vectors]],
        batch_size: int,
        on_progress: Callable[[int, int], None],
    ) -> Rows:
        store = _KeyedRows(self.folder / encoder.space.id / modality, encoder.space.dimension)
        first_of: dict[str, int] = {}
        for position, key in enumerate(keys):
            if key is not None and key not in store.row_of:
                first_of.setdefault(key, position)
        missing = list(first_of.values())
        for start in range(0, len(missing), batch_size):
            good, vectors = encode(missing[start : start + batch_size])
            store.append([str(keys[position]) for position in good], vectors)
            on_progress(min(start + batch_size, len(missing)), len(missing))
        return store.take(keys)


class _KeyedRows:
    """An embeddings file beside a file of keys. Vectors are flushed before their keys."""

    def __init__(self, stem: Path, dimension: int) -> None:
        self._rows = EmbeddingsFile(stem.with_suffix(".f16"), dimension)
        self._keys = stem.with_suffix(".keys")
        self.row_of: dict[str, int] = {}
        if self._keys.exists():
            lines = self._keys.read_text(encoding="ascii").split("\n")[:-1]
            # A line that a crash cut off does not count, nor does what came after it.
            complete = [line for line in lines if len(line) == _KEY_LETTERS]
            self.row_of = {key: row for row, key in enumerate(complete)}

    def append(self, keys: Sequence[str], vectors: NDArray[np.float32]) -> None:
        first = len(self.row_of)
        self._rows.write(vectors, first)
        self._write_keys(keys, first)
        self.row_of.update((key, first + place) for place, key in enumerate(keys))

    def take(self, keys: Iterable[str | None]) -> Rows:
        places = [-1 if key is None else self.row_of.get(key, -1) for key in keys]
        stored = self._rows.rows(len(self.row_of))
        taken = np.zeros((len(places), self._rows.dimension), np.float16)
        found = np.array([place >= 0 for place in places], dtype=np.bool_)
        taken[found] = stored[[place for place in places if place >= 0]]
        return taken

    def _write_keys(self, keys: Sequence[str], first: int) -> None:
        with self._keys.open("r+b" if self._keys.exists() else "w+b") as file:
            file.seek(first * (_KEY_LETTERS + 1))
            file.truncate()
            file.write("".join(f"{key}\n" for key in keys).encode("ascii"))
            file.flush()
            os.fsync(file.fileno())
