"""Read the vectors of a table: of some rows, and of all pictures, for what compares them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retrieval.errors import UsageError
from retrieval.lance.library import table_of
from retrieval.lance.predicates import all_of
from retrieval.lance.records import vectors_of
from retrieval.lance.schema import VECTOR
from retrieval.lance.snapshot import IS_READ, rows_in
from retrieval.lance.table import ROW_ID, LanceTable
from retrieval.library import Library

MOST_PICTURES = 2_000_000
"""They are compared in memory."""


def vectors_at(
    table: LanceTable, rows: Sequence[int]
) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """Read the vectors of some rows, (n, d), and which of them are there, (n,)."""
    vectors = np.zeros((len(rows), table.space.dimension), np.float16)
    is_there = np.zeros(len(rows), np.bool_)
    if len(rows):
        found = table.read((ROW_ID, VECTOR), rows_in(rows))
        place_of = {row: place for place, row in enumerate(rows)}
        places = [place_of[row] for row in found.column(ROW_ID).to_pylist()]
        vectors[places], is_there[places] = vectors_of(found), True
    return vectors, is_there


def distinct_pictures(
    library: Library, *, frames: bool
) -> tuple[NDArray[np.int64], list[str], NDArray[np.float16]]:
    """Read one picture of each content, all in memory.

    frames: include frames and pages.

    Returns:
        Rows, (n,), ascending; content hashes; vectors, (n, d).

    Raises:
        UsageError: there are more than `MOST_PICTURES`.
    """
    table = table_of(library)
    pictures = all_of([IS_READ, "modality = 'image'", None if frames else "part = ''"])
    count = table.count(pictures)
    if count > MOST_PICTURES:
        raise UsageError(
            f"{count:,} images are too many to compare each with each. --exact-only finds "
            "identical files of a library of any size."
        )
    rows, hashes, vectors, seen = [], [], [], set()
    for batch in table.scan((ROW_ID, "content_hash", "part", VECTOR), pictures):
        of_batch = vectors_of(batch)
        named = batch.select([ROW_ID, "content_hash", "part"]).to_pylist()
        for place, one in enumerate(named):
            if (key := (one["content_hash"], one["part"])) not in seen:
                seen.add(key)
                rows.append(int(one[ROW_ID]))
                hashes.append(str(one["content_hash"]))
                vectors.append(of_batch[place])
    order = np.argsort(np.array(rows, np.int64), kind="stable")
    found = np.stack(vectors) if vectors else np.empty((0, table.space.dimension), np.float16)
    return (
        np.array(rows, np.int64)[order],
        [hashes[place] for place in order.tolist()],
        found[order],
    )
