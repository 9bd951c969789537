"""Write a library into a table: all of its files and items, in one space, and what has changed.

The table gets what it lacks, and loses what the library had: files below the library's sources, or
removed from it. What other libraries or jobs have written to the same table stays. Nothing is
embedded.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retrieval.catalog import FileState, Snapshot
from retrieval.catalog.paths import is_at_or_below
from retrieval.catalog.whole import StoredFile, StoredItem
from retrieval.embeddings import RowChecker
from retrieval.encoders.base import Space
from retrieval.errors import DamagedLibraryError
from retrieval.lance.records import table_of
from retrieval.lance.snapshot import path_of
from retrieval.lance.table import LanceTable
from retrieval.library import Library
from retrieval.media import Modality

_FILES_AT_ONCE = 1000
_ROWS_A_COMMIT = 20_000
_KEYS_A_COMMIT = 5000
_KEY_DIGITS = 16
"""Of `file_key`, by which files are compared here: 64 bits, as several million may be known."""


@dataclass
class Exported:
    """What was done: files written and files that were as the library has them; files deleted.

    items: of the library. damaged: items left out, as their vectors are damaged. version: of the
    table.
    """

    written: int = 0
    unchanged: int = 0
    deleted: int = 0
    items: int = 0
    damaged: int = 0
    version: int = 0
    is_complete: bool = False


def export_library(
    library: Library,
    location: str | os.PathLike[str],
    space: Space | None = None,
    *,
    on_progress: Callable[[int], None] = lambda _files: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Exported:
    """Bring a table in step with a library; it is created where there is none.

    Every commit leaves whole files. A run that ends early is continued by the next one.

    Args:
        library: the library, which is read as it is at the beginning.
        location: `lance:DIR`, `lance+s3://BUCKET/PREFIX`.
        space: of the vectors. (default: the library's default space)
        on_progress: called with the number of files that were looked at.
        should_stop: asked before each commit.

    Returns:
        What was done.

    Raises:
        SpaceMismatchError: the table has vectors of another space.
        UsageError: there is something else at the location, or packages are missing.
        LibraryError: the store cannot be written.
    """
    chosen = space or library.space()
    done = Exported()
    with library.catalog.snapshot() as snapshot:
        options = snapshot.source_options()
        table = LanceTable.create(location, chosen, options)
        table.set_sources(_sources(table, options, snapshot, chosen))
        known = _Known.of(table)
        batch = _Batch(table, chosen, list(options))
        for files in _files(library, chosen, snapshot, done):
            batch.add(files, known)
            if batch.is_full and not should_stop():
                done.written += batch.commit()
            on_progress(done.written + known.unchanged)
            if should_stop():
                break
        else:
            done.written += batch.commit()
            done.deleted = _delete_gone(table, known, list(options), snapshot)
            done.is_complete = True
    done.unchanged, done.version = known.unchanged, table.version
    return done


class _Known:
    """The files of a table, by a part of their keys, and a checksum of each over its rows."""

    def __init__(self, keys: NDArray[np.uint64], digests: NDArray[np.uint64]) -> None:
        self._keys, places = np.unique(keys, return_inverse=True)
        self._digests = np.zeros(len(self._keys), np.uint64)
        np.add.at(self._digests, places, digests)
        self._is_there = np.zeros(len(self._keys), np.bool_)
        self.unchanged = 0

    @classmethod
    def of(cls, table: LanceTable) -> "_Known":
        """Read them."""
        keys, digests = [], []
        for rows in table.scan(["file_key", "digest"], in_order=False):
            keys.append(_numbers(rows.column("file_key")))
            digests.append(_sums_of(rows))
        none = [np.empty(0, np.uint64)]
        return cls(np.concatenate(keys or none), np.concatenate(digests or none))

    def find(self, keys: NDArray[np.uint64]) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
        """Return which files the table has, with their checksums; these are not gone."""
        if not len(self._keys):
            return np.zeros(len(keys), np.bool_), np.zeros(len(keys), np.uint64)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        is_known = self._keys[places] == keys
        self._is_there[places[is_known]] = True
        return is_known, self._digests[places]

    @property
    def gone(self) -> NDArray[np.uint64]:
        """The files that were not asked for."""
        return self._keys[~self._is_there]


class _Batch:
    """Files that are written in one commit."""

    def __init__(self, table: LanceTable, space: Space, sources: Sequence[str]) -> None:
        self._table = table
        self._space = space
        self._sources = sources
        self._rows: list[Any] = []
        self._changed: list[str] = []
        self._files = 0

    @property
    def is_full(self) -> bool:
        """Return whether there is enough for a commit."""
        return sum(len(rows) for rows in self._rows) >= _ROWS_A_COMMIT

    def add(self, files: Sequence[StoredFile], known: _Known) -> None:
        """Take those that the table lacks, or has otherwise."""
        rows = table_of(files, self._space, self._sources)
        names = rows.column("file_key").to_pylist()
        firsts, places = np.unique(np.array(names), return_inverse=True)
        digests = np.zeros(len(firsts), np.uint64)
        np.add.at(digests, places, _sums_of(rows))
        keys = np.array([int(name[:_KEY_DIGITS], 16) for name in firsts], np.uint64)
        is_known, before = known.find(keys)
        is_wanted = ~is_known | (before != digests)
        known.unchanged += int(np.count_nonzero(~is_wanted))
        self._files += int(np.count_nonzero(is_wanted))
        self._changed += firsts[is_known & is_wanted].tolist()
        chosen = rows.filter(is_wanted[places])
        if len(chosen):
            self._rows.append(chosen)

    def commit(self) -> int:
        """Write them; returns their number."""
        if not self._rows:
            return 0
        from retrieval.lance.schema import arrow

        self._table.replace_files(self._changed, arrow().concat_tables(self._rows))
        count, self._files = self._files, 0
        self._rows, self._changed = [], []
        return count


def _sums_of(rows: Any) -> NDArray[np.uint64]:
    return np.asarray(rows.column("digest").to_numpy(zero_copy_only=False), np.int64).view(
        np.uint64
    )


def _numbers(names: Any) -> NDArray[np.uint64]:
    return np.array([int(name[:_KEY_DIGITS], 16) for name in names.to_pylist()], np.uint64)


def _files(
    library: Library, space: Space, snapshot: Snapshot, done: Exported
) -> Iterator[list[StoredFile]]:
    """Yield files with the vectors of their items, page by page."""
    readers = {}
    for modality in Modality:
        file = library.embeddings(space, modality)
        rows = file.rows(snapshot.row_count(space.id, modality))
        checker = RowChecker(file)
        checker.extend(rows, snapshot.checksum_count(space.id, modality))
        readers[modality] = (rows, checker)
    after = 0
    while True:
        after, files = snapshot.stored_files(space.id, after=after, limit=_FILES_AT_ONCE)
        if not files:
            return
        vectors: dict[tuple[Modality, int], NDArray[np.float16]] = {}
        for modality, (rows, checker) in readers.items():
            wanted = {
                item.entry.row
                for file in files
                for item in file.items
                if item.entry.modality is modality
            }
            numbers = np.array(sorted(wanted), np.int64)
            if len(numbers) and numbers[-1] >= len(rows):
                raise DamagedLibraryError(
                    f"The catalog of {library.path} names rows that its embeddings lack. Run "
                    "`mmsearch check`."
                )
            whole = numbers[~checker.are_damaged(numbers)]
            for row, vector in zip(whole.tolist(), np.asarray(rows[whole]), strict=True):
                vectors[modality, row] = vector
        yield [_with_vectors(file, vectors, done) for file in files]


def _with_vectors(
    file: StoredFile, vectors: dict[tuple[Modality, int], NDArray[np.float16]], done: Exported
) -> StoredFile:
    items: list[StoredItem] = []
    for item in file.items:
        vector = vectors.get((item.entry.modality, item.entry.row))
        if vector is None:
            done.damaged += 1
        else:
            items.append(replace(item, vector=vector))
    done.items += len(items)
    return replace(
        file, items=items, is_complete=file.is_complete and len(items) == len(file.items)
    )


def _sources(
    table: LanceTable, options: dict[str, dict[str, Any] | None], snapshot: Snapshot, space: Space
) -> dict[str, dict[str, Any] | None]:
    """Join the sources of the table with those of the library, less those that this had."""
    kept = {
        path: others
        for path, others in table.sources.items()
        if path in options or next(snapshot.files_below([path], space.id), None) is None
    }
    return kept | options


def _delete_gone(
    table: LanceTable, known: _Known, sources: Sequence[str], snapshot: Snapshot
) -> int:
    """Delete the files that the library had; returns their number."""
    gone = set(known.gone.tolist())
    if not gone:
        return 0
    found: dict[str, str] = {}
    for rows in table.scan(["file_key", "path", "path_bytes"], in_order=False):
        numbers = _numbers(rows.column("file_key")).tolist()
        for number, row in zip(numbers, rows.to_pylist(), strict=True):
            if number in gone:
                found[row["file_key"]] = path_of(row)
    removed = snapshot.states_of(sorted(set(found.values())))
    chosen = [
        key
        for key, path in found.items()
        if removed.get(path) is FileState.REMOVED
        or any(is_at_or_below(path, source) for source in sources)
    ]
    for begin in range(0, len(chosen), _KEYS_A_COMMIT):
        table.delete_files(chosen[begin : begin + _KEYS_A_COMMIT])
    return len(chosen)
