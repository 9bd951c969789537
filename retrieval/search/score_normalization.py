"""What a query's similarities are set against: those with a fixed sample of the library."""

import cachetools
import numpy as np
from numpy.typing import NDArray

from retrieval.catalog import Modality
from retrieval.embeddings import Rows
from retrieval.search.relevance import sample_rows

_KEPT_SAMPLES = 8


class Backgrounds:
    """Samples of the rows of one space, kept by how many rows they are drawn from."""

    def __init__(self) -> None:
        self._kept: cachetools.LRUCache[tuple[Modality, int], NDArray[np.float32]] = (
            cachetools.LRUCache(_KEPT_SAMPLES)
        )

    def similarities(
        self, vectors: NDArray[np.float32], modality: Modality, rows: Rows
    ) -> NDArray[np.float32]:
        """Cosines of (q, d) unit queries with the sample of the (n, d) rows, (q, m) float32."""
        key = (modality, len(rows))
        sample = self._kept.get(key)
        if sample is None:
            sample = np.asarray(rows)[sample_rows(len(rows))].astype(np.float32)
            self._kept[key] = sample
        found: NDArray[np.float32] = vectors @ sample.T
        return found
