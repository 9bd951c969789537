"""Read the vectors of a library with their items, page by page."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.catalog import Item
from retrieval.embeddings import EmbeddingsFile, RowChecker
from retrieval.encoders.base import Space, Vectors
from retrieval.files import valid_text
from retrieval.filters import Filter
from retrieval.lance.library import table_of
from retrieval.lance.records import row_id_of
from retrieval.lance.vectors import vectors_at
from retrieval.library import Library
from retrieval.media import Modality

BATCH_ROWS = 4096


@dataclass(frozen=True, eq=False)
class StoredBatch:
    """Some items, by id; their unit vectors, (n, d) float32; what tables say of their files."""

    items: Sequence[Item]
    vectors: Vectors
    said: dict[str, dict[str, Any]]

    def records(self) -> list[dict[str, Any]]:
        """Return what is known of each item, in values that JSON has.

        `columns` joins what tables say of the file with the values of the item's own row.
        """
        return [record_of(item, self.said.get(item.path, {})) for item in self.items]


def record_of(item: Item, said: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of an item, in values that JSON has. said: by tables, of its file."""
    taken = item.taken_local
    return {
        "id": item.id,
        "path": valid_text(item.path),
        "kind": str(item.kind),
        "modality": str(item.modality),
        "part": item.part,
        "page": item.page,
        "time_s": item.time_s,
        "width": item.width,
        "height": item.height,
        "text": item.text,
        "taken_local": taken.isoformat() if taken else None,
        "taken_from": str(item.taken_from) if item.taken_from else None,
        "columns": {**said, **(item.columns or {})},
    }


def stored_items(
    library: Library,
    space: Space,
    *,
    where: Filter | None = None,
    modality: Modality | None = None,
    batch_rows: int = BATCH_ROWS,
) -> Iterator[list[Item]]:
    """Yield the items of a space that can be found, in the order of their ids, page by page."""
    after = 0
    while True:
        with library.catalog.snapshot() as snapshot:
            items = snapshot.items(
                space.id, where=where, modality=modality, after=after, limit=batch_rows
            )
        if not items:
            return
        after = items[-1].id
        yield items


def stored_vectors(
    library: Library,
    space: Space,
    *,
    where: Filter | None = None,
    modality: Modality | None = None,
    batch_rows: int = BATCH_ROWS,
) -> Iterator[StoredBatch]:
    """Yield the items of a space with their vectors; those that are damaged are left out.

    Args:
        library: the library.
        space: of the vectors.
        where: filter that the items must pass.
        modality: of the items; None: all.
        batch_rows: maximum number of items that are held at a time.
    """
    pages = stored_items(library, space, where=where, modality=modality, batch_rows=batch_rows)
    if library.is_table:
        yield from _of_table(library, pages)
        return
    readers = {one: _Reader(library.embeddings(space, one)) for one in Modality}
    for items in pages:
        ids = [item.id for item in items]
        with library.catalog.snapshot() as snapshot:
            places = snapshot.item_rows(space.id, ids)
            said = snapshot.said_of(sorted({item.path for item in items}))
            for one, reader in readers.items():
                reader.extend(
                    snapshot.row_count(space.id, one), snapshot.checksum_count(space.id, one)
                )
        vectors = np.zeros((len(items), space.dimension), np.float32)
        is_whole = np.zeros(len(items), np.bool_)
        for one, reader in readers.items():
            placed = [
                (number, places[item_id][1])
                for number, item_id in enumerate(ids)
                if item_id in places and places[item_id][0] is one
            ]
            if placed:
                numbers, rows = np.array(placed, np.int64).T
                vectors[numbers], is_whole[numbers] = reader.read(rows)
        yield _batch(items, vectors, is_whole, said)


def _of_table(library: Library, pages: Iterable[list[Item]]) -> Iterator[StoredBatch]:
    """Read the vectors of items from the table that they are in."""
    table = table_of(library)
    for items in pages:
        with library.catalog.snapshot() as snapshot:
            said = snapshot.said_of(sorted({item.path for item in items}))
        vectors, is_there = vectors_at(table, [row_id_of(item.id) for item in items])
        yield _batch(items, vectors.astype(np.float32), is_there, said)


def _batch(
    items: Sequence[Item],
    vectors: Vectors,
    is_whole: NDArray[np.bool_],
    said: dict[str, dict[str, Any]],
) -> StoredBatch:
    kept = vectors[is_whole]
    kept /= np.linalg.norm(kept, axis=1, keepdims=True)
    return StoredBatch([items[n] for n in np.flatnonzero(is_whole).tolist()], kept, said)


class _Reader:
    """Reads rows of one modality, and tells which are whole."""

    def __init__(self, file: EmbeddingsFile) -> None:
        self._file = file
        self._checker = RowChecker(file)
        self._rows = file.rows(0)

    def extend(self, count: int, checksum_count: int) -> None:
        if count > len(self._rows):
            self._rows = self._file.rows(count)
            self._checker.extend(self._rows, checksum_count)

    def read(self, numbers: NDArray[np.int64]) -> tuple[Vectors, NDArray[np.bool_]]:
        return self._rows[numbers].astype(np.float32), ~self._checker.are_damaged(numbers)
