"""A reranker's tokens: of images on disk by content, of texts in memory, each computed once."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.keyed_rows import KeyedRows, key_of
from retrieval.encoders.base import Tokens
from retrieval.media.images import read_image
from retrieval.rerankers.base import Reranker, image_token_shape
from retrieval.search.rerank import stack_tokens

_IMAGES_PER_BATCH = 32
_TEXTS_PER_BATCH = 256


class TokenStore:
    """The tokens that a reranker needs of a dataset.

    Image tokens are float16 rows below a folder, by the reranker's identity and the content of the
    file, so that a run at another depth finds them. Rows are as long as the most tokens of an
    image. Text tokens stay float32: a reranker promises half precision for images alone.
    """

    def __init__(
        self, folder: Path, reranker: Reranker, key_of_file: Callable[[Path], str]
    ) -> None:
        self._reranker = reranker
        self._key_of_file = key_of_file
        self._positions, self._width = image_token_shape(reranker)
        stem = folder / "tokens" / key_of(reranker.identity.encode())
        self._images = KeyedRows(stem, self._positions * (self._width + 1))
        self._texts: dict[str, NDArray[np.float32]] = {}

    def add_images(
        self, paths: Sequence[Path], on_progress: Callable[[int, int], None] = lambda *_: None
    ) -> None:
        """Compute the tokens of image files that have none yet.

        Raises OSError and UnreadableImageError for a file that cannot be read, ValueError for
        tokens that are not finite in float16.
        """
        missing: dict[str, Path] = {}
        for path in paths:
            key = self._key_of_file(path)
            if key not in self._images.row_of:
                missing.setdefault(key, path)
        keys = list(missing)
        for start in range(0, len(keys), _IMAGES_PER_BATCH):
            batch = keys[start : start + _IMAGES_PER_BATCH]
            pixels = [self._reranker.preprocess(read_image(missing[key])) for key in batch]
            tokens = self._reranker.image_tokens(np.stack(pixels))
            absent = ((0, 0), (0, self._positions - tokens.mask.shape[1]))
            values = np.pad(tokens.values, (*absent, (0, 0))).reshape(len(batch), -1)
            # The mask stands behind the values, so that both are flushed together.
            self._images.append(
                batch, np.hstack([values, np.pad(tokens.mask, absent).astype(np.float32)])
            )
            on_progress(start + len(batch), len(keys))

    def add_texts(self, texts: Sequence[str]) -> None:
        """Compute the tokens of texts that have none yet."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._texts]
        for start in range(0, len(missing), _TEXTS_PER_BATCH):
            batch = missing[start : start + _TEXTS_PER_BATCH]
            tokens = self._reranker.text_tokens(batch)
            for text, values, mask in zip(batch, tokens.values, tokens.mask, strict=True):
                self._texts[text] = values[mask]

    def image_tokens(self, paths: Sequence[Path]) -> Tokens:
        """Tokens of n images that were added, (n, t, c)."""
        rows = self._images.take([self._key_of_file(path) for path in paths])
        values, mask = np.split(rows, [self._positions * self._width], axis=1)
        shape = (len(paths), self._positions, self._width)
        return Tokens(values.reshape(shape).astype(np.float32), mask.astype(np.bool_))

    def text_tokens(self, texts: Sequence[str]) -> Tokens:
        """Tokens of n texts that were added, (n, t, c), t those of the longest."""
        return stack_tokens([self._texts[text] for text in texts])
