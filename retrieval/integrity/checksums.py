"""Checksums of the rows that earlier versions wrote without any."""

from collections.abc import Callable

import numpy as np

from retrieval.embeddings import (
    LOST,
    EmbeddingsFile,
    Rows,
    are_impossible,
    checksums_of,
)
from retrieval.encoders.base import Space
from retrieval.library import Library
from retrieval.media import Modality

_BLOCK_ROWS = 1 << 16
_UNIT_TOLERANCE = 0.02
"""Half precision leaves a unit vector within a thousandth."""


def are_no_vectors(rows: Rows) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return which of (n, d) rows are no unit vectors: not finite, zero, or too long or short."""
    bad = are_impossible(rows)
    values = np.where(bad[:, np.newaxis], np.float32(0), rows.astype(np.float32))
    norms = np.linalg.norm(values, axis=1)
    found: np.ndarray[tuple[int], np.dtype[np.bool_]] = bad | (abs(norms - 1) > _UNIT_TOLERANCE)
    return found


def add_missing_checksums(
    library: Library,
    space: Space,
    *,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> int:
    """Give the rows of a space that have no checksum one of what they hold now; returns how many.

    Rows that are no unit vectors are marked as lost. The caller holds the writer's lock. Killed at
    any instant, the next call goes on: checksums count when the catalog says so.
    """
    added = 0
    for modality in Modality:
        with library.catalog.snapshot() as snapshot:
            total = snapshot.row_count(space.id, modality)
            first = snapshot.checksum_count(space.id, modality)
        if first == total:
            continue
        file = library.embeddings(space, modality)
        rows = file.rows(total)
        for begin in range(first, total, _BLOCK_ROWS):
            if should_stop():
                return added
            block = np.asarray(rows[begin : begin + _BLOCK_ROWS])
            _write(file, block, begin)
            end = begin + len(block)
            with library.catalog.transaction() as transaction:
                transaction.set_checksum_count(space.id, modality, end)
            added += len(block)
            on_progress(end, total)
    return added


def _write(file: EmbeddingsFile, rows: Rows, first_row: int) -> None:
    checksums = checksums_of(rows)
    checksums[are_no_vectors(rows)] = LOST
    file.write_checksums(checksums, first_row)
