"""Cache embeddings by space and content, so that only the first benchmark run encodes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.quality.keyed_rows import KeyedRows, key_of
from benchmarks.quality.token_store import TokenStore
from retrieval.embeddings import Rows
from retrieval.encoders.base import Encoder, Vectors
from retrieval.errors import UnreadableFileError
from retrieval.media import Modality
from retrieval.media.images import read_image
from retrieval.rerankers.base import Reranker

_IMAGES_PER_BATCH = 64
_TEXTS_PER_BATCH = 256


@dataclass(frozen=True)
class Embedded:
    """Embeddings of a list of inputs, in its order.

    rows: (n, d) float16, zero for unreadable inputs; unreadable: reasons by position.
    """

    rows: Rows
    unreadable: dict[int, str]


class EmbeddingCache:
    """A folder of float16 vectors: one store per space and modality, keyed by content hash.

    Each file is hashed once; create a new object to notice later changes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key_of: dict[Path, str] = {}  # each direction of a run asks for the same files
        self._token_stores: dict[str, TokenStore] = {}

    def key_of_file(self, path: Path) -> str:
        """Return the content hash of a file. Raises OSError."""
        if path not in self._key_of:
            self._key_of[path] = key_of(path.read_bytes())
        return self._key_of[path]

    def tokens(self, reranker: Reranker) -> TokenStore:
        """Return the token cache of a reranker, in the same folder."""
        if reranker.identity not in self._token_stores:
            self._token_stores[reranker.identity] = TokenStore(
                self.folder, reranker, self.key_of_file
            )
        return self._token_stores[reranker.identity]

    def embed_images(
        self,
        encoder: Encoder,
        paths: Sequence[Path],
        on_progress: Callable[[int, int], None] = lambda *_: None,
    ) -> Embedded:
        """Embed image files; vectors of an earlier run are reused."""
        keys: list[str | None] = []
        unreadable: dict[int, str] = {}
        for position, path in enumerate(paths):
            try:
                keys.append(self.key_of_file(path))
            except OSError as error:
                keys.append(None)
                unreadable[position] = (error.strerror or str(error)).lower()

        def encode(positions: Sequence[int]) -> tuple[list[int], Vectors]:
            good, pixels = [], []
            for position in positions:
                try:
                    pixels.append(encoder.preprocess(read_image(paths[position])))
                    good.append(position)
                except (OSError, UnreadableFileError) as error:
                    unreadable[position] = str(error)
            if not pixels:
                return [], np.empty((0, encoder.space.dimension), np.float32)
            return good, encoder.encode(Modality.IMAGE, np.stack(pixels))

        rows = self._embed(encoder, "image", keys, encode, _IMAGES_PER_BATCH, on_progress)
        return Embedded(rows, unreadable)

    def embed_texts(
        self,
        encoder: Encoder,
        texts: Sequence[str],
        on_progress: Callable[[int, int], None] = lambda *_: None,
    ) -> Embedded:
        """Embed texts; vectors of an earlier run are reused."""
        keys: list[str | None] = [key_of(text.encode()) for text in texts]

        def encode(positions: Sequence[int]) -> tuple[list[int], Vectors]:
            return list(positions), encoder.encode(Modality.TEXT, [texts[p] for p in positions])

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
        store = KeyedRows(self.folder / encoder.space.id / modality, encoder.space.dimension)
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
