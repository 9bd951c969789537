"""Keep a library in step with a table, or with a part of it: what has changed, what is gone.

A copy has the ids of the table, so that all copies of a table, and the parts of one, name an item
alike. `tables.json` in the library says which version it has, and how far it has come to the next:
a run that is killed goes on there. What users do with items of the copy (collections, hidden ones)
is theirs: the table adds to it, and takes nothing away.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from retrieval.catalog import (
    FailedFile,
    FileEntry,
    FileState,
    FileUpdate,
    ItemEntry,
    Snapshot,
    Transaction,
)
from retrieval.catalog.paths import is_at_or_below
from retrieval.catalog.records import folded_name
from retrieval.catalog.schema import METADATA_VERSION
from retrieval.catalog.whole import StoredFile, StoredItem
from retrieval.embeddings import Rows, are_impossible
from retrieval.errors import DamagedLibraryError, NotFoundError, SpaceMismatchError, UsageError
from retrieval.files import write_atomically
from retrieval.lance.records import files_of, item_id_of
from retrieval.lance.schema import BUCKETS, file_key_of, key_of
from retrieval.lance.table import CHANGED_AT, CREATED_AT, ROW_ID, LanceTable
from retrieval.library import Library, create_library, library_exists, open_library
from retrieval.media import UNTRUSTED_MTIME, MediaKind, Modality

STATE_FILE = "tables.json"
BATCH_ROWS = 4096
_LONGEST_STATE = 1 << 20
_LARGEST_ERROR = 0.01
"""Of the length of a vector of half precision that should be 1."""
_UNKNOWN = -1
_SAID = "said-"
"""Begins the content hash of a table that is named, but is not in the copy."""


@dataclass(frozen=True)
class State:
    """How far a library is in step with a table.

    location: of the table. version: that the library has as a whole, 0: none. rows: of that version
    in this shard. target, done: the version that is being taken, and how many of its changed rows
    were. shard, shards: which of how many, by the hash of contents. keeps_ids: the library is a
    copy, and has the ids of the table.
    """

    location: str
    version: int = 0
    rows: int = 0
    target: int = 0
    done: int = 0
    shard: int = 0
    shards: int = 1
    keeps_ids: bool = True

    @property
    def predicate(self) -> str | None:
        """The rows of this shard; None: all."""
        if self.shards == 1:
            return None
        first, last = (BUCKETS * end // self.shards for end in (self.shard, self.shard + 1))
        return f"bucket >= {first} AND bucket < {last}"


@dataclass
class Copied:
    """What was done: rows taken, items and files that are gone; vectors left out, as damaged.

    version: that the library has now.
    """

    rows: int = 0
    removed: int = 0
    damaged: int = 0
    version: int = 0
    is_complete: bool = False


class TableCopy:
    """A library and the table that it is kept in step with.

    Use `open_copy` or `open_import` to get one.
    """

    def __init__(self, library: Library, table: LanceTable, state: State) -> None:
        self.library = library
        self.table = table
        self._state = state
        self._space = library.space(table.space.id)

    @property
    def version(self) -> int:
        """The version of the table that the library has as a whole; 0: none yet."""
        return self._state.version

    def is_outdated(self) -> bool:
        """Return whether the table has a newer version; raises LibraryError if it is away."""
        return self.table.newest_version != self._state.version

    def update(
        self,
        *,
        on_progress: Callable[[int, int], None] = lambda _done, _total: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> Copied:
        """Take what has changed in the table, up to its newest version.

        Args:
            on_progress: called with the rows that were taken, and their number.
            should_stop: asked after each batch; the next run goes on there.

        Returns:
            What was done.

        Raises:
            LibraryLockedError: another process is writing to the library.
            LibraryError: the store cannot be read, or the library cannot be written.
            DamagedLibraryError: the table holds what cannot be.
        """
        copied = Copied(version=self._state.version)
        with self.library.writer():
            self._choose_target()
            state = self._state
            if state.version != state.target:
                copied.is_complete = self._take(copied, on_progress, should_stop)
            else:
                copied.is_complete = True
            copied.version = self._state.version
        return copied

    def _choose_target(self) -> None:
        """Go to the version that an earlier run has begun with, else to the newest."""
        state = self._state
        if state.target != state.version:
            try:
                self.table = self.table.at(state.target)
            except NotFoundError:  # it is not kept any more
                pass
            else:
                return
        self.table.refresh()
        if state.version and self.table.was_rewritten_since(state.version):
            self._save(version=0, rows=_UNKNOWN)
        self._save(target=self.table.version, done=0)

    def _take(
        self,
        copied: Copied,
        on_progress: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> bool:
        state, table = self._state, self.table
        self._take_sources()
        changed = _both(state.predicate, f"{CHANGED_AT} > {state.version}")
        total = table.count(changed)
        on_progress(state.done, total)
        names = [*table.dataset.schema.names, ROW_ID]
        batches = table.scan(names, changed, batch_rows=BATCH_ROWS, offset=state.done)
        for batch in batches:
            self._record(batch, copied)
            copied.rows += batch.num_rows
            self._save(done=self._state.done + batch.num_rows)
            on_progress(self._state.done, total)
            if should_stop():
                return False
        rows = table.count(state.predicate)
        added = table.count(_both(state.predicate, f"{CREATED_AT} > {state.version}"))
        # In a shard, as many may have come from another one as are gone.
        if rows != state.rows + added or (state.shards > 1 and total > added):
            copied.removed = self._remove_gone()
        with self.library.catalog.transaction() as transaction:
            transaction.hand_over_to_copies()
        self.library.catalog.dialect.seal()
        self._save(version=state.target, rows=rows, done=0)
        return True

    def _save(self, **changes: Any) -> None:
        self._state = replace(self._state, **changes)
        states = read_states(self.library.path) | {self.table.identity: self._state}
        content = json.dumps({name: asdict(state) for name, state in states.items()}, indent=1)
        write_atomically(self.library.path / STATE_FILE, content.encode())

    def _take_sources(self) -> None:
        sources = self.table.sources
        with self.library.catalog.transaction() as transaction:
            known = transaction.source_options()
            new = {path: options for path, options in sources.items() if path not in known}
            transaction.add_sources(new)
            if self._state.keeps_ids:
                for path in known.keys() - sources.keys():
                    if not any(is_at_or_below(source, path) for source in sources):
                        transaction.remove_sources_below(path)

    def _record(self, batch: Any, copied: Copied) -> None:
        """Record some rows of the table, vectors first."""
        files, damaged = _without_damaged(files_of(batch))
        copied.damaged += damaged
        with self.library.catalog.snapshot() as snapshot:
            places = self._write_vectors(files, snapshot)
            updates = [_update_of(file, places) for file in files if file.failure is None]
            updates += _missing_tables(files, snapshot)
            known = snapshot.items_in([file.file.path for file in files])
        item_ids = {
            (file.file.path, item.entry.modality, item.entry.part): item.id
            for file in files
            for item in file.items
        }
        keeps_ids = self._state.keeps_ids
        space_id = self._space.id
        with self.library.catalog.transaction() as transaction:
            for modality, (first, count) in places.written.items():
                transaction.extend_rows(space_id, modality, first, count)
            if keeps_ids:
                other = [i for key, i in known.items() if item_ids.get(key, i) != i]
                transaction.delete_items(other)
                wanted = [i for key, i in item_ids.items() if known.get(key) != i]
                _require_free(transaction, wanted, self.library.path)
            said = {file.file.path: file.said for file in files if file.failure is None}
            transaction.record_files(
                space_id, updates, said=said, item_ids=item_ids if keeps_ids else None
            )
            transaction.record_failures(
                [
                    FailedFile(file.file.path, file.failure, file.file.size, file.file.mtime_ns)
                    for file in files
                    if file.failure is not None
                ]
            )
            transaction.set_metadata_versions(
                {
                    file.file.path: file.metadata_version
                    for file in files
                    if file.failure is None and file.metadata_version != METADATA_VERSION
                }
            )
            _collect(transaction, files)

    def _write_vectors(self, files: Sequence[StoredFile], snapshot: Snapshot) -> "_Places":
        """Write the vectors that the library lacks; returns where each is."""
        hashes = {file.file.content_hash for file in files if file.items}
        known = snapshot.rows_of_contents(self._space.id, hashes)
        places = _Places()
        for modality in Modality:
            embeddings = self.library.embeddings(self._space, modality)
            first = snapshot.row_count(self._space.id, modality)
            present = embeddings.rows(first)
            new: list[Any] = []
            for file in files:
                for item in file.items:
                    if item.entry.modality is not modality:
                        continue
                    assert item.vector is not None
                    content = (file.file.content_hash, modality, item.entry.part)
                    row = known.get(content)
                    # Copies of a file share a row, unless somebody gave one another vector.
                    if row is None or not _is_at(item.vector, row, present, new):
                        row = known[content] = first + len(new)
                        new.append(item.vector)
                    places.rows[file.file.path, modality, item.entry.part] = row
            if new:
                embeddings.write(np.stack(new), first)
                places.written[modality] = (first, len(new))
        return places

    def _remove_gone(self) -> int:
        """Remove the items and files that the table does not have; returns their number."""
        state, space_id = self._state, self._space.id
        has_item = _both(state.predicate, "modality IS NOT NULL")
        without = _both(state.predicate, "modality IS NULL")
        kept_empty = set(self.table.read(["file_key"], without).column(0).to_pylist())
        sources = list(self.table.sources)

        def is_of_table(path: str) -> bool:
            return state.keeps_ids or any(is_at_or_below(path, source) for source in sources)

        with self.library.catalog.snapshot() as snapshot:
            places = snapshot.item_places(space_id)
            empty = [
                file.path
                for file in snapshot.files_without_items(space_id)
                if not file.content_hash.startswith(_SAID)
            ]
        if state.keeps_ids:
            row_ids = self.table.read([ROW_ID], has_item).column(0).to_numpy()
            kept = set(map(item_id_of, row_ids.tolist()))
            gone = {i: path for i, path, _, _ in places if i not in kept}
        else:
            keys = set(self.table.read(["key"], has_item).column(0).to_pylist())
            gone = {
                i: path
                for i, path, modality, part in places
                if is_of_table(path) and key_of(path, modality, part) not in keys
            }
        left = {path for i, path, _, _ in places if i not in gone}
        files = [*(set(gone.values()) - left), *filter(is_of_table, empty)]
        removed = [path for path in files if file_key_of(path) not in kept_empty]
        with self.library.catalog.transaction() as transaction:
            if state.keeps_ids:
                transaction.delete_items(gone)
            else:
                transaction.delete_items(i for i, path in gone.items() if path in left)
            transaction.mark_removed(removed)
            if state.keeps_ids:  # as if it had never been there
                transaction.forget_words(removed)
        return len(gone) + len(removed)


@dataclass
class _Places:
    """Rows of items by path, modality and part; what was written: first row and number."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, Modality, str], int] = {}
        self.written: dict[Modality, tuple[int, int]] = {}


def open_copy(
    table: LanceTable,
    directory: str | os.PathLike[str] | Library,
    *,
    shard: tuple[int, int] = (0, 1),
) -> TableCopy:
    """Open the copy of a table in a directory, or begin one.

    Args:
        table: the table.
        directory: of the copy, a library that nothing else writes to; or this library, opened.
        shard: which shard of how many, counted from 0, by the hash of contents.

    Raises:
        UsageError: the directory holds a library that is no copy of this shard of the table.
    """
    number, shards = shard
    if not 0 <= number < shards <= BUCKETS:
        raise UsageError(f"There is no shard {number} of {shards}: the first is 0.")
    path = directory.path if isinstance(directory, Library) else Path(directory)
    wanted = State(table.location, shard=number, shards=shards)
    if not library_exists(path):
        library = create_library(path, table.space)
        copy = TableCopy(library, table, wanted)
        copy._save()
        return copy
    library = directory if isinstance(directory, Library) else open_library(path, upgrade=True)
    state = read_states(path).get(table.identity)
    if state is None and _is_empty(library) and library.space() == table.space:
        state = wanted  # which was killed when it began
    if state is None or not state.keeps_ids:
        raise UsageError(
            f"{path} is a library, but no copy of {table.location}. Choose another directory for "
            "the copy, or add to this library with `mmsearch import`."
        )
    if (state.shard, state.shards) != (number, shards):
        raise UsageError(
            f"{path} is a copy of shard {state.shard} of {state.shards}, not of shard {number} of "
            f"{shards}. Choose another directory."
        )
    return TableCopy(library, table, replace(state, location=table.location))


def open_import(
    table: LanceTable,
    directory: str | os.PathLike[str] | Library,
    *,
    new_space: bool = False,
) -> TableCopy:
    """Open the library that a table is imported into, or create it.

    The library may have files of its own, and gets ids of its own.

    Args:
        table: the table.
        directory: of the library; or this library, opened.
        new_space: add the space of the table, if the library lacks it.

    Raises:
        SpaceMismatchError: the library has no such space.
        UsageError: the library is a copy of the table.
    """
    path = directory.path if isinstance(directory, Library) else Path(directory)
    if isinstance(directory, Library):
        library = directory
    elif library_exists(path):
        library = open_library(path, upgrade=True)
    else:
        library = create_library(path, table.space)
    if table.space.id not in library.space_ids():
        if not new_space:
            raise SpaceMismatchError(
                f"{table.location} has vectors of the encoder {table.space.encoder!r} (space "
                f"{table.space.id}), which {path} has none of. Vectors of two spaces cannot be "
                "compared: add a second space with `--space new`, or import into a new library."
            )
        library.add_space(table.space)
    state = read_states(path).get(table.identity, State(table.location, keeps_ids=False))
    if state.keeps_ids:
        raise UsageError(
            f"{path} is a copy of {table.location}, which `mmsearch copy` keeps in step. Import "
            "into another library."
        )
    return TableCopy(library, table, replace(state, location=table.location))


def read_states(directory: Path) -> dict[str, State]:
    """Read how far a library is in step with tables, by their identities."""
    file = directory / STATE_FILE
    try:
        with file.open("rb") as stream:
            stored = json.loads(stream.read(_LONGEST_STATE))
        states = {name: State(**one) for name, one in stored.items()}
        is_whole = all(
            type(value) is type(getattr(State(""), name))
            for state in states.values()
            for name, value in asdict(state).items()
        )
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        is_whole = False
    if not is_whole:
        raise DamagedLibraryError(
            f"{file} is damaged. Delete it to import the table again, or make a new copy of the "
            "table in another directory."
        )
    return states


def writer_of_own(library: Library) -> AbstractContextManager[None]:
    """Hold the writer lock of a library that takes items from anywhere.

    Raises UsageError for a copy of a table, and LibraryLockedError as `Library.writer` does.
    """
    require_own(library)
    return library.writer()


def require_own(library: Library) -> None:
    """Raise UsageError for a copy of a table, which takes its items and files from there only."""
    for state in read_states(library.path).values():
        if state.keeps_ids:
            raise UsageError(
                f"{library.path} is a copy of {state.location}, and follows it. Change the table, "
                "or import it into a library of your own: `mmsearch import "
                f"{state.location} --library NEW_DIR`."
            )


def _is_empty(library: Library) -> bool:
    with library.catalog.snapshot() as snapshot:
        return not snapshot.sources() and not snapshot.extents()


def _both(first: str | None, second: str) -> str:
    return second if first is None else f"{first} AND {second}"


def _without_damaged(files: list[StoredFile]) -> tuple[list[StoredFile], int]:
    """Leave out items whose vectors no encoder gives; returns how many those were."""
    items = [(place, item) for place, file in enumerate(files) for item in file.items]
    if not items:
        return files, 0
    vectors = np.stack([item.vector for _, item in items if item.vector is not None])
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1)
    is_damaged = are_impossible(vectors) | ~(abs(lengths - 1) < _LARGEST_ERROR)
    if not is_damaged.any():
        return files, 0
    kept: dict[int, list[StoredItem]] = {place: [] for place in range(len(files))}
    for (place, item), damaged in zip(items, is_damaged.tolist(), strict=True):
        if not damaged:
            kept[place].append(item)
    whole = [
        replace(file, items=kept[place], is_complete=len(kept[place]) == len(file.items))
        for place, file in enumerate(files)
    ]
    return whole, int(np.count_nonzero(is_damaged))


def _is_at(vector: Any, row: int, present: Rows, new: Sequence[Any]) -> bool:
    there = present[row] if row < len(present) else new[row - len(present)]
    return bool(np.asarray(there).tobytes() == vector.tobytes())


def _update_of(file: StoredFile, places: _Places) -> FileUpdate:
    entries: list[ItemEntry] = [
        replace(
            item.entry,
            row=places.rows[file.file.path, item.entry.modality, item.entry.part],
        )
        for item in file.items
    ]
    return FileUpdate(file.file, entries, is_complete=file.is_complete, notes=file.notes)


def _missing_tables(files: Sequence[StoredFile], snapshot: Snapshot) -> Iterator[FileUpdate]:
    """Yield the tables that say something of files, and that the library does not know (yet)."""
    named = {of for file in files for of, _ in file.said} - {file.file.path for file in files}
    known: Mapping[str, FileState] = snapshot.states_of(sorted(named))
    for path in sorted(named):
        if known.get(path) is not FileState.INDEXED:
            content = _SAID + xxhash.xxh3_128_hexdigest(os.fsencode(path))
            yield FileUpdate(FileEntry(path, MediaKind.TABLE, 0, UNTRUSTED_MTIME, content))


def _require_free(transaction: Transaction, item_ids: Sequence[int], directory: Path) -> None:
    if transaction.paths_of_items(item_ids):
        raise UsageError(
            f"{directory} has items that the table does not have: something else has written to "
            "the copy. Make a new one in another directory."
        )


def _collect(transaction: Transaction, files: Sequence[StoredFile]) -> None:
    """Hide items, and add them to collections, as the table says."""
    marked = [file for file in files if any(i.hidden or i.collections for i in file.items)]
    if not marked:
        return
    ids = transaction.items_in([file.file.path for file in marked])
    hidden: list[int] = []
    collected: dict[str, list[int]] = {}
    for file in marked:
        for item in file.items:
            item_id = ids[file.file.path, item.entry.modality, item.entry.part]
            if item.hidden:
                hidden.append(item_id)
            for name in item.collections:
                collected.setdefault(name, []).append(item_id)
    if hidden:
        transaction.hide_items(hidden)
    known = {folded_name(one.name): one.id for one in transaction.collections()}
    for name, item_ids in collected.items():
        collection = known.get(folded_name(name))
        if collection is None:
            collection = transaction.create_collection(name)
        transaction.collect(collection, item_ids)
