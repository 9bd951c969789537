"""The columns of a table, and what its schema says of the library.

`key` names an item for good: xxh3-128 of its path, modality and part. `file_key` names its file.
A file that has no item, as one that failed, has one row without modality and vector. What is known
of a file stands in each of its rows.
"""

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import xxhash

from retrieval.encoders.base import Space
from retrieval.errors import DamagedLibraryError, LibraryError, UsageError, import_errors_as

FORMAT_VERSION = 1

SPACE = "mmsearch.space"
FORMAT = "mmsearch.format"
IDENTITY = "mmsearch.id"
_SOURCE = "mmsearch.source."
"""Begins the name of what the schema says of a source; then its path in hexadecimal bytes."""

KEY = "key"
VECTOR = "vector"
LATER_COLUMNS = ("start_s", "end_s")
"""Columns that tables of earlier versions lack until they are written to again."""
BUCKETS = 1 << 16
"""Numbers of `bucket`, the hash of a content by which tables are divided."""

_MISSING = UsageError("Tables of Lance need extra packages: pip install 'mmsearch[cluster]'")


def arrow() -> Any:
    """Import pyarrow; raises UsageError, which says what to install, without it."""
    with import_errors_as(_MISSING):
        import pyarrow
    return pyarrow


def lance() -> Any:
    """Import Lance; raises UsageError, which says what to install, without it."""
    with import_errors_as(_MISSING):
        import lance
    return lance


def schema_of(space: Space, sources: Mapping[str, dict[str, Any] | None] | None = None) -> Any:
    """Return the Arrow schema of a table with the vectors of a space.

    sources: options by the path of each source; the words of folders begin with these.
    """
    pa = arrow()
    text, number, real = pa.string(), pa.int64(), pa.float64()
    kinds = {
        "file_key": text,
        "path": text,
        "path_bytes": pa.binary(),
        "folder": text,
        "name": text,
        "kind": text,
        "modality": text,
        "part": text,
        "page": number,
        "time_s": real,
        "width": number,
        "height": number,
        "text": text,
        "columns": text,
        "said": text,
        "cells": pa.list_(text),
        "content_hash": text,
        "bucket": pa.int32(),
        "size": number,
        "mtime_ns": number,
        "etag": text,
        "taken_local": number,
        "taken_at": number,
        "date": number,
        "date_source": text,
        "camera": text,
        "latitude": real,
        "longitude": real,
        "place": text,
        "duration_s": real,
        "described": text,
        "sidecars": number,
        "metadata_version": number,
        "is_complete": pa.bool_(),
        "words": text,
        "failure": text,
        "notes": pa.list_(text),
        "hidden": pa.bool_(),
        "collections": pa.list_(text),
        "digest": number,
        "start_s": real,
        "end_s": real,
    }
    # Lance finds by this that two writers insert the same row.
    primary = {"lance-schema:unenforced-primary-key": "true"}
    return pa.schema(
        [
            pa.field(KEY, text, nullable=False, metadata=primary),
            *(pa.field(name, kind) for name, kind in kinds.items()),
            pa.field(VECTOR, pa.list_(pa.float16(), space.dimension)),
        ],
        metadata={
            FORMAT: str(FORMAT_VERSION),
            SPACE: json.dumps(asdict(space)),
            IDENTITY: uuid.uuid4().hex,
            **metadata_of_sources(sources or {}),
        },
    )


def space_of(metadata: Mapping[bytes, bytes] | None, location: str) -> Space:
    """Read the space of a table from the metadata of its schema.

    Raises UsageError for a table that is no library, LibraryError for one of a newer version,
    DamagedLibraryError where its description is damaged.
    """
    found = metadata or {}
    if FORMAT.encode() not in found:
        raise UsageError(f"{location} is a Lance table, but none that mmsearch wrote as a library.")
    written = found[FORMAT.encode()].decode("utf-8", "replace")
    if written.isdecimal() and int(written) > FORMAT_VERSION:
        raise LibraryError(
            f"{location} was written by a newer version of mmsearch (format {written}; this "
            f"version supports {FORMAT_VERSION}). Upgrade with `pip install -U mmsearch`."
        )
    try:
        facts = json.loads(found[SPACE.encode()])
        expected = Space.__annotations__
        is_whole = facts.keys() == expected.keys() and all(
            type(facts[name]) is kind for name, kind in expected.items()
        )
        space = Space(**facts) if is_whole else None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        space = None
    if space is None:
        raise DamagedLibraryError(
            f"{location} does not say of which space its vectors are. Open an earlier version of "
            "it, or export the library again."
        )
    return space


def require_columns(schema: Any, space: Space, location: str) -> None:
    """Raise DamagedLibraryError for a table that lacks columns, or has others in their place."""
    found = {field.name: field.type for field in schema}
    for field in schema_of(space):
        if field.name in LATER_COLUMNS and field.name not in found:
            continue
        if found.get(field.name) != field.type:
            raise DamagedLibraryError(
                f"{location} has no column {field.name!r} of the type {field.type}. Open an "
                "earlier version of it, or export the library again."
            )


def metadata_of_sources(sources: Mapping[str, dict[str, Any] | None]) -> dict[str, str]:
    """Return what the schema says of sources with their options: one name each."""
    return {
        _SOURCE + os.fsencode(path).hex(): json.dumps(options) for path, options in sources.items()
    }


def sources_of(metadata: Mapping[bytes, bytes] | None) -> dict[str, dict[str, Any] | None]:
    """Read the sources of a table; raises DamagedLibraryError where they are damaged."""
    prefix = _SOURCE.encode()
    try:
        sources = {
            os.fsdecode(bytes.fromhex(name.removeprefix(prefix).decode())): json.loads(options)
            for name, options in (metadata or {}).items()
            if name.startswith(prefix)
        }
    except (ValueError, RecursionError):
        sources = {"": 0}
    if not all(isinstance(options, dict | None) for options in sources.values()):
        raise DamagedLibraryError("The sources that the table names are damaged.")
    return dict(sorted(sources.items()))


def key_of(path: str, modality: str | None, part: str) -> str:
    """Name an item by where it is; modality None: a file without items."""
    return xxhash.xxh3_128_hexdigest(
        b"\0".join((os.fsencode(path), (modality or "").encode(), part.encode()))
    )


def file_key_of(path: str) -> str:
    """Name a file by its path; letters and digits, as it stands in predicates."""
    return xxhash.xxh3_128_hexdigest(os.fsencode(path))


def bucket_of(content_hash: str | None, path: str) -> int:
    """Return the number, 0 to `BUCKETS` - 1, by which a file belongs to a part of a table.

    Files of the same content have the same.
    """
    return xxhash.xxh3_64_intdigest(os.fsencode(content_hash or path)) % BUCKETS
