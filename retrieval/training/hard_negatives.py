"""Mine hard negatives: the photos that an encoder confuses with each photo of a dataset."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.embeddings import Rows
from retrieval.indices.base import Effort, VectorIndex
from retrieval.indices.choice import choose
from retrieval.indices.exact import ExactIndex
from retrieval.indices.faiss import is_installed
from retrieval.indices.refine import search_refined

_BLOCK = 1024
"""Photos that are looked up at a time."""

_MEMORY_BYTES = 8 << 30
_EFFORT = Effort(breadth=32)


def hard_negatives(
    photos: NDArray[np.float32],
    captions: NDArray[np.float32],
    first: NDArray[np.int64],
    *,
    neighbours: int,
) -> NDArray[np.int64]:
    """Find the photos that the encoder confuses with each photo, nearest first.

    By the sum of the similarities of mean captions to photos (both ways), of photos and of mean
    captions. The index is the one that a library of as many photos has: exact up to 50,000.

    Args:
        photos: (n, d) unit vectors.
        captions: (m, d) unit vectors, grouped by photo.
        first: (n + 1,) int64, photo i has the captions `first[i]` to `first[i + 1]`.
        neighbours: most that are wanted of each photo; at least 1.

    Returns:
        (n, min(neighbours, n - 1)) int64, rows of photos.
    """
    count = min(neighbours, len(photos) - 1)
    means = np.add.reduceat(captions, first[:-1]) / np.diff(first)[:, None]
    lengths = np.linalg.norm(means, axis=1, keepdims=True)
    alike = means / np.maximum(lengths, 1e-12)
    # The sum is an inner product of joined vectors. The last dimension makes all of them as long.
    rest = np.sqrt(np.maximum(1 - lengths**2, 0))
    rows = np.hstack([photos, means, alike, rest]) / np.sqrt(3)
    queries = np.hstack([means + photos, photos, alike, np.zeros_like(rest)])
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    stored = rows.astype(np.float16)
    index = _index(stored)
    near = np.empty((len(photos), count), np.int64)
    for start in range(0, len(photos) if count else 0, _BLOCK):
        block = queries[start : start + _BLOCK].astype(np.float32)
        _, found = search_refined(index, stored, block, count + 1, _EFFORT)
        own = np.arange(start, start + len(block))
        # The photo itself goes last, and then away.
        order = np.argsort(found == own[:, None], axis=1, kind="stable")
        near[start : start + len(block)] = np.take_along_axis(found, order, 1)[:, :count]
    return near


def _index(rows: Rows) -> VectorIndex:
    factory = choose(len(rows), rows.shape[1], _MEMORY_BYTES).factory
    if factory is None or not is_installed():
        return ExactIndex.open(Path(), rows, "")
    from retrieval.indices.faiss.ivf import FactoryIndex

    index = FactoryIndex(factory, rows)
    index.add(rows)
    return index
