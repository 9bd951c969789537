"""Add vectors that were made elsewhere to a space of a library, with what is known of their items.

A vector belongs to an item of the library where its path and part name one, else to a file that is
there and is recorded by it, else to an item of no file, whose path is `vectors:NAME/ID`. All of
them survive later runs of the indexer: no source is above an item of no file, and what is said of
files is kept as the annotations of a table, `vectors:payload`.
"""

import itertools
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from indexer.sources import absolute
from retrieval.catalog import FileEntry, FileUpdate, ItemEntry, Snapshot, Transaction
from retrieval.catalog.paths import is_virtual
from retrieval.catalog.schema import SIDECARS_NOT_READ
from retrieval.encoders.base import Space, Vectors
from retrieval.encoders.given import name_of_given
from retrieval.errors import LibraryError, UsageError
from retrieval.files import GIVEN, checksum_of_file, valid_text
from retrieval.lance.copies import writer_of_own
from retrieval.library import Library
from retrieval.media import NO_METADATA, UNTRUSTED_MTIME, MediaKind, Modality
from retrieval.media.registry import format_of_indexed

PAYLOAD_TABLE = f"{GIVEN}payload"
"""The table, of no file, that says of files what was added with them."""

BATCH_ROWS = 4096
MOST_NAMED = 1000
"""Of the vectors that were left out, those that are named."""
_MOST_ID = 1000
_KINDS = {
    Modality.IMAGE: MediaKind.IMAGE,
    Modality.TEXT: MediaKind.TEXT,
    Modality.AUDIO: MediaKind.AUDIO,
}


@dataclass(frozen=True, slots=True)
class GivenItem:
    """What is known of a vector.

    id: names the item in its space, if there is no path. path: of the file that it is of; one that
    is not there names the item. part: which item of the file. columns: more that is known of it,
    for filters and answers; other fields as those of `Item`.
    """

    id: str
    path: str | None = None
    modality: Modality = Modality.IMAGE
    part: str = ""
    text: str | None = None
    page: int | None = None
    time_s: float | None = None
    width: int | None = None
    height: int | None = None
    columns: dict[str, Any] | None = None


@dataclass
class Added:
    """What was added.

    item_ids: of the items, in the order of their vectors; None: left out. skipped: the first
    vectors that were left out, by name, and why.
    """

    item_ids: list[int | None] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Return how many vectors were added."""
        return sum(item_id is not None for item_id in self.item_ids)

    @property
    def skipped_count(self) -> int:
        """Return how many vectors were left out."""
        return len(self.item_ids) - self.count


def add_vectors(
    library: Library,
    space: Space,
    batches: Iterable[tuple[Sequence[GivenItem], NDArray[Any]]],
    *,
    folder: str | os.PathLike[str] | None = None,
    on_progress: Callable[[int], None] = lambda _count: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Added:
    """Add vectors to a space, batch by batch; each is there as a whole or not at all.

    An item that is there already gets its new vector.

    Args:
        library: the library to write to.
        space: the space of the vectors; it is added to the library if it is new.
        batches: items with their vectors, (n, d) numbers of any length: they are scaled to it.
        folder: where relative paths begin. (default: the current directory)
        on_progress: called with the number of vectors that were looked at.
        should_stop: asked after each batch.

    Returns:
        What was added, and which vectors were not: those that are not finite, or zero.

    Raises:
        UsageError: vectors of another dimension than the space, or not as many as items.
        LibraryLockedError: another process is writing.
        LibraryError: the library cannot be written.
    """
    added = Added()
    base = os.fspath(folder) if folder is not None else ""
    with writer_of_own(library):
        if space.id not in library.space_ids():
            library.add_space(space)
        for items, vectors in batches:
            _add_batch(library, space, items, vectors, base, added)
            on_progress(len(added.item_ids))
            if should_stop():
                break
        library.catalog.dialect.seal()
    return added


def annotate_files(library: Library, columns_by_path: Mapping[str, dict[str, Any]]) -> None:
    """Say something of files, by their absolute paths, in place of what was added before."""
    with library.writer(), library.catalog.transaction() as transaction:
        _annotate(transaction, library.space(), columns_by_path)


def clean_columns(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return what JSON and filters know: NumPy's numbers as numbers, dates as texts, no NaN.

    Raises TypeError for a value of another type.
    """
    return {
        valid_text(str(name)): clean
        for name, value in columns.items()
        if (clean := _clean(name, value)) is not None
    }


def _clean(name: object, value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return valid_text(value)
    if isinstance(value, date):
        # Of pandas: a time that is none.
        return None if value != value else value.isoformat()  # noqa: PLR0124
    if isinstance(value, list | tuple | set):
        return [clean for one in value if (clean := _clean(name, one)) is not None]
    if isinstance(value, Mapping):
        return clean_columns(value)
    raise TypeError(
        f"{name} is {value!r:.60}, {type(value).__name__}: what is known of an item is a text, a "
        "number, true or false, a date, or a list of these."
    )


def _add_batch(
    library: Library,
    space: Space,
    items: Sequence[GivenItem],
    vectors: NDArray[Any],
    folder: str,
    added: Added,
) -> None:
    units, is_good = unit_vectors(vectors, space.dimension, len(items))
    good = np.flatnonzero(is_good).tolist()
    for place in np.flatnonzero(~is_good).tolist()[: MOST_NAMED - len(added.skipped)]:
        reason = "all values are 0" if np.isfinite(vectors[place]).all() else "not finite"
        added.skipped.append((items[place].path or items[place].id, reason))
    with library.catalog.snapshot() as snapshot:
        places = _Places.of(space, [items[place] for place in good], folder, snapshot)
        ends = {modality: snapshot.row_count(space.id, modality) for modality in Modality}
    # The last one of those that name the same item counts.
    last = {key: number for number, key in enumerate(places.keys)}
    by_modality: dict[Modality, list[int]] = {}
    for number in last.values():
        by_modality.setdefault(places.keys[number][1], []).append(number)
    rows: dict[int, int] = {}
    for modality, numbers in by_modality.items():
        try:
            wanted = [good[number] for number in numbers]
            library.embeddings(space, modality).write(units[wanted], ends[modality])
        except OSError as error:
            raise LibraryError(
                f"{library.path} cannot be written: {error.strerror}. What was added before is "
                "kept."
            ) from error
        rows |= dict(zip(numbers, itertools.count(ends[modality]), strict=False))
    with library.catalog.transaction() as transaction:
        for modality, numbers in by_modality.items():
            transaction.extend_rows(space.id, modality, ends[modality], len(numbers))
        _record(transaction, space, places, rows)
        ids = transaction.items_in(sorted({key[0] for key in places.keys}))
    found: list[int | None] = [None] * len(items)
    for place, key in zip(good, places.keys, strict=True):
        found[place] = ids[key]
    added.item_ids += found


def unit_vectors(
    vectors: NDArray[Any], dimension: int, count: int
) -> tuple[Vectors, NDArray[np.bool_]]:
    """Scale vectors to unit length, (n, d) float32; also return which can be, (n,) bool.

    Raises UsageError for another shape than (count, dimension), and for what are no numbers.
    """
    array = np.asarray(vectors)
    if array.dtype.kind not in "fiu":
        raise UsageError(f"Vectors are numbers, not {array.dtype}.")
    if array.shape != (count, dimension):
        raise UsageError(
            f"The vectors have the shape {array.shape}; for {count:,} items in a space of "
            f"{dimension:,} dimensions it is ({count}, {dimension})."
        )
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        array = array.astype(np.float64)
        # First by the largest, so that squares of very large and small values are finite.
        scaled = array / np.abs(array).max(axis=1, initial=0, keepdims=True)
        units = (scaled / np.linalg.norm(scaled, axis=1, keepdims=True)).astype(np.float32)
    return units, np.isfinite(units).all(axis=1)


@dataclass(frozen=True)
class _Places:
    """Where the items of a batch are in the catalog.

    keys: path, modality and part of each. known: ids of those that are there, by key. files: those
    that they are in, by path. new: paths of those that the catalog does not have.
    """

    items: Sequence[GivenItem]
    keys: list[tuple[str, Modality, str]]
    known: Mapping[tuple[str, Modality, str], int]
    files: Mapping[str, FileEntry]
    new: frozenset[str]

    @classmethod
    def of(
        cls, space: Space, items: Sequence[GivenItem], folder: str, snapshot: Snapshot
    ) -> "_Places":
        """Find them."""
        name = name_of_given(space) if space.is_given else space.id
        named = [_spelled(item.path, folder) for item in items]
        files = snapshot.indexed_at(sorted({path for path in named if path}))
        keys = []
        for item, path in zip(items, named, strict=True):
            if not path:
                place = _virtual(name, item.id)
            elif path in files or is_virtual(path) or Path(path).is_file():
                place = path
            else:
                place = _virtual(name, item.path or "")
            keys.append((place, item.modality, item.part))
        modality_of = {path: modality for path, modality, _ in keys}
        files |= snapshot.indexed_at(sorted(modality_of.keys() - files.keys()))
        new = {p: _entry(p, m) for p, m in modality_of.items() if p not in files}
        known = snapshot.items_in(sorted(modality_of.keys() - new.keys()))
        return cls(items, keys, known, files | new, frozenset(new))


def _record(
    transaction: Transaction, space: Space, places: _Places, rows: Mapping[int, int]
) -> None:
    """Name rows in the catalog, by the numbers of their items."""
    kept: dict[Modality, dict[int, int]] = {}
    updates: dict[str, FileUpdate] = {}
    said: dict[str, dict[str, Any]] = {}
    for number, row in rows.items():
        item, key = places.items[number], places.keys[number]
        path, is_of_file = key[0], not is_virtual(key[0])
        if is_of_file and item.columns:
            said[path] = said.get(path, {}) | item.columns
        if is_of_file and (item_id := places.known.get(key)) is not None:
            kept.setdefault(item.modality, {})[item_id] = row
            continue
        entry = ItemEntry(
            item.modality,
            row,
            item.part,
            item.width,
            item.height,
            item.page,
            item.time_s,
            item.text,
            None if is_of_file else item.columns,
        )
        file, is_new = places.files[path], path in places.new
        # A picture is one item; what else a file has, a run of the indexer finds.
        is_whole = is_new and is_of_file and file.kind is MediaKind.IMAGE and not item.part
        update = updates.get(path) or FileUpdate(file, (), is_new, is_whole)
        updates[path] = replace(update, items=[*update.items, entry])
    for modality, of_modality in kept.items():
        transaction.set_rows(space.id, modality, of_modality)
    transaction.record_files(space.id, list(updates.values()))
    if said:
        _annotate(transaction, space, said)


def _annotate(
    transaction: Transaction, space: Space, columns_by_path: Mapping[str, dict[str, Any]]
) -> None:
    if PAYLOAD_TABLE not in transaction.indexed_at([PAYLOAD_TABLE]):
        table = _entry(PAYLOAD_TABLE, Modality.TEXT, MediaKind.TABLE)
        transaction.record_files(space.id, [FileUpdate(table, is_complete=False)])
    transaction.annotate(PAYLOAD_TABLE, columns_by_path)


def _virtual(name: str, item_id: str) -> str:
    """Name an item that is of no file."""
    if not item_id or len(item_id) > _MOST_ID:
        raise UsageError(f"The id of an item is a text of 1 to {_MOST_ID:,} characters.")
    return item_id if is_virtual(item_id) else f"{GIVEN}{name}/{item_id.lstrip('/')}"


def _spelled(path: str | None, folder: str) -> str | None:
    if not path or is_virtual(path):
        return path
    return absolute(os.path.join(folder, path))  # noqa: PTH118 - names need not be valid text


def _entry(path: str, modality: Modality, kind: MediaKind | None = None) -> FileEntry:
    """Describe a new file, with its content's checksum, or an item of no file."""
    if is_virtual(path):
        digest = f"given-{xxhash.xxh3_128_hexdigest(os.fsencode(path))}"
        return FileEntry(path, kind or _KINDS[modality], 0, UNTRUSTED_MTIME, digest)
    try:
        status = Path(path).stat()
        digest = checksum_of_file(Path(path))
    except OSError as error:
        raise LibraryError(f"{valid_text(path)} cannot be read: {error.strerror}.") from error
    kind = format_of_indexed(path).kind
    known = status.st_size, status.st_mtime_ns, digest, NO_METADATA
    # Its metadata is read by the next run of the indexer that meets it.
    return FileEntry(path, kind, *known, SIDECARS_NOT_READ)
