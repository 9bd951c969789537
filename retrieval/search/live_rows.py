"""Which rows hold something that can be found, kept until the catalog changes."""

import numpy as np
from numpy.typing import NDArray

from retrieval.catalog import Catalog, Modality

_FEW = 0.5
"""Below this share, a search that heeds dead rows is likely to be repeated."""


class LiveRows:
    """Bitmaps of the rows of one space that are not of removed or changed files."""

    def __init__(self, catalog: Catalog, space_id: str) -> None:
        self._catalog = catalog
        self._space_id = space_id
        self._known: dict[Modality, tuple[int, NDArray[np.bool_]]] = {}

    def of(self, modality: Modality) -> NDArray[np.bool_]:
        """Which of the committed rows are live now, (n,) bool."""
        if (live := self._current(modality)) is None:
            version = self._catalog.version()  # before the snapshot, which may be of a later one
            with self._catalog.snapshot() as snapshot:
                live = snapshot.live_rows(self._space_id, modality)
            self._known[modality] = version, live
        return live

    def if_few(self, modality: Modality) -> NDArray[np.bool_] | None:
        """As `of`, where that is known already and most rows are dead; else None."""
        live = self._current(modality)
        return live if live is not None and live.mean() < _FEW else None

    def _current(self, modality: Modality) -> NDArray[np.bool_] | None:
        if modality not in self._known:
            return None
        version, live = self._known[modality]
        return live if version == self._catalog.version() else None
