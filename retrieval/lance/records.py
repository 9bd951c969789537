"""Files and their items as rows of a table, and back.

A path that is not valid UTF-8 stands escaped in `path`, and as its bytes in `path_bytes`.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from retrieval.catalog import FileDetails, FileEntry, Item, ItemEntry, TakenFrom, local_time
from retrieval.catalog.cells import cells_in
from retrieval.catalog.derived import date_of, folder_of
from retrieval.catalog.fulltext.index import MOST_ANNOTATIONS, Folders, words_of_file, words_of_item
from retrieval.catalog.records import require_types
from retrieval.catalog.whole import Said, StoredFile, StoredItem
from retrieval.encoders.base import Space
from retrieval.errors import DamagedLibraryError
from retrieval.files import valid_text
from retrieval.lance.schema import (
    KEY,
    LATER_COLUMNS,
    VECTOR,
    arrow,
    bucket_of,
    file_key_of,
    key_of,
    schema_of,
)
from retrieval.media import (
    UNTRUSTED_MTIME,
    MediaKind,
    Metadata,
    Modality,
    local_clock_seconds,
)

__all__ = [
    "DETAIL_COLUMNS",
    "ITEM_COLUMNS",
    "Said",
    "StoredFile",
    "StoredItem",
    "cell_of",
    "details_of",
    "files_of",
    "item_id_of",
    "items_of",
    "row_id_of",
    "said_in",
    "stored_file",
    "table_of",
    "vectors_of",
]

ITEM_COLUMNS = (
    *("path", "path_bytes", "kind", "modality", "content_hash", "size", "mtime_ns", "part"),
    *("width", "height", "page", "time_s", "text", "columns", "taken_local", "taken_at"),
    *LATER_COLUMNS,
)
"""What `items_of` reads, besides `_rowid`."""

_OF_METADATA = {
    "taken_at": "taken_at",
    "camera": "camera",
    "latitude": "latitude",
    "longitude": "longitude",
    "duration_s": "duration_s",
    "described": "text",
    "taken_local": "taken_local",
    "place": "place",
    "date_source": "date_source",
}
"""Columns by which metadata stands, with the fields of `Metadata`."""

DETAIL_COLUMNS = ("path", "path_bytes", "said", "notes", "size", "mtime_ns", *_OF_METADATA)
"""What `details_of` reads."""

_NOT_COMPARED = {VECTOR, "digest", KEY, "etag"}


def stored_file(file: FileEntry, items: Sequence[StoredItem], **known: Any) -> StoredFile:
    """Make a file that was just read of an entry as `record_files` of the catalog takes it.

    known: other fields of `StoredFile`.
    """
    metadata = file.metadata
    own = [(file.path, metadata.columns)] if metadata.columns else []
    local = metadata.taken_local
    if local is None and metadata.taken_at is not None:
        local = local_clock_seconds(metadata.taken_at)
    elif local is None and file.mtime_ns != UNTRUSTED_MTIME:
        local = local_clock_seconds(file.mtime_ns // 1_000_000_000)
    read = replace(file, metadata=replace(metadata, columns=None, taken_local=local))
    return StoredFile(read, items, [*own, *known.pop("said", ())], **known)


def table_of(files: Iterable[StoredFile], space: Space, sources: Iterable[str] = ()) -> Any:
    """Return files and their items as an Arrow table of the schema, a row an item.

    Args:
        files: the files.
        space: of the vectors.
        sources: paths of the library's sources, at which the words of folders begin.
    """
    pa = arrow()
    schema = schema_of(space).remove_metadata()
    folders = Folders(sources)
    rows = [row for file in files for row in _rows_of(file, folders)]
    columns = [pa.array([r[f.name] for r in rows], f.type) for f in list(schema)[:-1]]
    columns.append(_vectors(pa, [row[VECTOR] for row in rows], space.dimension))
    return pa.Table.from_arrays(columns, schema=schema)


def _rows_of(stored: StoredFile, folders: Folders) -> Iterator[dict[str, Any]]:
    file = stored.file
    path = valid_text(file.path)
    is_plain = file.path.isascii() or os.fsencode(file.path) == path.encode()
    said = [columns for _, columns in stored.said]
    metadata = file.metadata
    words = words_of_file(
        file.path, metadata.text, metadata.camera, metadata.place, said[:MOST_ANNOTATIONS], folders
    )
    known = {
        "file_key": file_key_of(file.path),
        "path": path,
        "path_bytes": None if is_plain else os.fsencode(file.path),
        "folder": folder_of(path),
        "name": path[len(folder_of(path)) :],
        "kind": str(file.kind),
        "said": _said_as_json(stored.said),
        "content_hash": file.content_hash or None,
        "bucket": bucket_of(file.content_hash, file.path),
        "size": file.size,
        "mtime_ns": file.mtime_ns,
        "etag": stored.etag,
        **{column: getattr(metadata, name) for column, name in _OF_METADATA.items()},
        "date": date_of(metadata.taken_at, file.mtime_ns),
        "sidecars": file.sidecars,
        "metadata_version": stored.metadata_version,
        "is_complete": stored.is_complete,
        "failure": stored.failure,
        "notes": list(stored.notes),
    }
    for item in stored.items or (None,):
        of_item = _of_item(item)
        columns = item.entry.columns if item else None
        cells = {cell for one in (*said, columns or {}) for cell in cells_in(one)}
        all_words = (*words, *words_of_item(of_item["text"], columns))
        row = {
            KEY: key_of(file.path, of_item["modality"], of_item["part"]),
            **known,
            **of_item,
            "cells": sorted(cell_of(*cell) for cell in cells),
            "words": " ".join(filter(None, all_words)) if item else None,
        }
        yield {**row, "digest": _digest(row)}


def _of_item(item: StoredItem | None) -> dict[str, Any]:
    if item is None:
        names = ("modality", "page", "time_s", "width", "height", "text", "columns", VECTOR)
        none = dict.fromkeys((*names, *LATER_COLUMNS))
        return {**none, "part": "", "hidden": False, "collections": []}
    entry = item.entry
    return {
        "modality": str(entry.modality),
        "part": entry.part,
        "page": entry.page,
        "time_s": entry.time_s,
        "start_s": entry.start_s,
        "end_s": entry.end_s,
        "width": entry.width,
        "height": entry.height,
        "text": entry.text,
        "columns": None if entry.columns is None else json.dumps(entry.columns),
        "hidden": item.hidden,
        "collections": list(item.collections),
        VECTOR: None if item.vector is None else np.ascontiguousarray(item.vector, np.float16),
    }


def cell_of(name: str, written: str) -> str:
    """Write a cell as `cells` has it: name and JSON value as a JSON list."""
    return f"[{json.dumps(name)}, {written}]"


def _said_as_json(said: Sequence[Said]) -> str | None:
    told = [{"of": os.fsencode(of).hex(), "columns": columns} for of, columns in said]
    return json.dumps(told) if told else None


def _digest(row: Mapping[str, Any]) -> int:
    """Compute a checksum, 64 bits with sign, of all that a row says."""
    told = [
        value
        for name, value in row.items()
        if name not in _NOT_COMPARED and not (name in LATER_COLUMNS and value is None)
    ]
    digest = xxhash.xxh3_64(repr(told).encode("utf-8", "surrogatepass"))
    if row[VECTOR] is not None:
        digest.update(row[VECTOR].tobytes())
    return int(digest.intdigest()) - 2**63


def _vectors(pa: Any, vectors: Sequence[NDArray[np.float16] | None], dimension: int) -> Any:
    values = np.zeros((len(vectors), dimension), np.float16)
    is_missing = np.array([vector is None for vector in vectors], np.bool_)
    for place, vector in enumerate(vectors):
        if vector is not None:
            values[place] = vector
    flat = pa.array(values.reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, dimension, mask=pa.array(is_missing))


def vectors_of(rows: Any) -> NDArray[np.float16]:
    """Return the vectors of rows as an array, (n, d) float16; of rows without one, zeros."""
    column = rows.column(VECTOR)
    if hasattr(column, "combine_chunks"):
        column = column.combine_chunks()
    dimension = column.type.list_size
    found = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, dimension)
    if not column.null_count:
        return np.asarray(found, np.float16)
    values = np.zeros((len(column), dimension), np.float16)
    values[~column.is_null().to_numpy(zero_copy_only=False)] = found
    return values


def files_of(rows: Any) -> list[StoredFile]:
    """Return the files of rows with all columns: an Arrow table or batch.

    Rows of a file need not follow each other. With `_rowid`, items have their ids. Raises
    DamagedLibraryError for values that cannot be.
    """
    vectors = vectors_of(rows)
    found: dict[str, tuple[StoredFile, list[StoredItem]]] = {}
    names = [name for name in rows.schema.names if name != VECTOR]
    with _damage_explained():
        for row, vector in zip(rows.select(names).to_pylist(), vectors, strict=True):
            path = _path(row)
            if path not in found:
                found[path] = (_file_of(row, path), [])
            if row["modality"] is not None:
                entry = require_types(_entry_of(row))
                collections = tuple(row["collections"] or ())
                item_id = item_id_of(row["_rowid"]) if "_rowid" in row else 0
                item = StoredItem(entry, vector, bool(row["hidden"]), collections, item_id)
                found[path][1].append(item)
    return [replace(stored, items=items) for stored, items in found.values()]


def items_of(rows: Any) -> list[Item]:
    """Return the items of rows that have one, with `ITEM_COLUMNS` and `_rowid`.

    Raises DamagedLibraryError for values that cannot be.
    """
    with _damage_explained():
        return [_item_of(row) for row in rows.to_pylist() if row["modality"] is not None]


def details_of(rows: Any) -> list[FileDetails]:
    """Return what is known of the file of each row, with `DETAIL_COLUMNS`.

    Raises DamagedLibraryError for values that cannot be.
    """
    with _damage_explained():
        return [_details_of(row) for row in rows.to_pylist()]


def item_id_of(row_id: int) -> int:
    """Return the id of an item by that of its row: ids count from 1."""
    return row_id + 1


def row_id_of(item_id: int) -> int:
    """Return the id of an item's row."""
    return item_id - 1


class _damage_explained:  # noqa: N801 - used as a function
    """Raise DamagedLibraryError for values that a table of ours cannot have."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        wrong = (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError)
        if isinstance(error, wrong):
            raise DamagedLibraryError(
                f"The table holds a value that cannot be there ({str(error)[:100]}). Nothing was "
                "changed. Open an earlier version of it, or export the library again."
            ) from error


def _path(row: Mapping[str, Any]) -> str:
    path = row["path"] if row["path_bytes"] is None else os.fsdecode(row["path_bytes"])
    if not isinstance(path, str) or not path or "\0" in path:
        raise ValueError(f"path {path!r:.40}")
    return path


def _columns(written: str | None) -> dict[str, Any] | None:
    columns = None if written is None else json.loads(written)
    if not isinstance(columns, dict | None):
        raise TypeError(f"columns {written!r:.40}")
    return columns


def _entry_of(row: Mapping[str, Any]) -> ItemEntry:
    known = {name: row[name] for name in ("width", "height", "page", "time_s", "text")}
    known |= {name: row.get(name) for name in LATER_COLUMNS}
    modality = Modality(row["modality"])
    return ItemEntry(modality, -1, row["part"], columns=_columns(row["columns"]), **known)


def _item_of(row: Mapping[str, Any]) -> Item:
    dated: tuple[Any, ...] = ()
    if row["taken_local"] is not None:
        has_date = row["taken_at"] is not None
        dated = (
            local_time(row["taken_local"]),
            TakenFrom.METADATA if has_date else TakenFrom.MTIME,
        )
    entry = _entry_of(row)
    item = Item(
        item_id_of(row["_rowid"]),
        _path(row),
        MediaKind(row["kind"]),
        entry.modality,
        row["content_hash"],
        row["size"],
        row["mtime_ns"],
        entry.part,
        entry.width,
        entry.height,
        entry.page,
        entry.time_s,
        entry.text,
        entry.columns,
        entry.start_s,
        entry.end_s,
        *dated,
    )
    return require_types(item)


def said_in(written: str | None) -> list[Said]:
    """Read what is said of a file as `said` has it.

    Raises ValueError, KeyError or TypeError where it is damaged.
    """
    found = []
    for one in json.loads(written) if written else ():
        if not isinstance(one["columns"], dict):
            raise TypeError("said")
        found.append((os.fsdecode(bytes.fromhex(one["of"])), one["columns"]))
    return found


def _metadata_of(row: Mapping[str, Any]) -> Metadata:
    return require_types(Metadata(**{name: row[column] for column, name in _OF_METADATA.items()}))


def _details_of(row: Mapping[str, Any]) -> FileDetails:
    metadata = _metadata_of(row)
    if metadata.taken_at is None:  # else it is this machine's, by the mtime
        metadata = replace(metadata, taken_local=None)
    said = [columns for _, columns in said_in(row["said"])]
    date = date_of(metadata.taken_at, row["mtime_ns"])
    return FileDetails(metadata, date, row["size"], said, list(row["notes"] or ()))


def _file_of(row: Mapping[str, Any], path: str) -> StoredFile:
    known = (row["size"], row["mtime_ns"], row["content_hash"] or "", _metadata_of(row))
    file = FileEntry(path, MediaKind(row["kind"]), *known, row["sidecars"])
    require_types(file)
    return StoredFile(
        file,
        (),
        tuple(said_in(row["said"])),
        tuple(row["notes"] or ()),
        row["failure"],
        row["is_complete"],
        row["metadata_version"],
        row["etag"],
    )
