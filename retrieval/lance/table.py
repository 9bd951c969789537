"""A library as one Lance table: open it, read a version of it, add, replace and delete rows.

Every change is one atomic commit, which makes the next version. Several processes may write at
once: Lance repeats what conflicts. The id of a row stays when the row is changed or moved by
compaction, and is never used again.
"""

import os
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from retrieval.encoders.base import Space
from retrieval.errors import LibraryError, NotFoundError, SpaceMismatchError, UsageError
from retrieval.lance.location import parse
from retrieval.lance.schema import (
    IDENTITY,
    KEY,
    LATER_COLUMNS,
    arrow,
    lance,
    metadata_of_sources,
    require_columns,
    schema_of,
    sources_of,
    space_of,
)

ROW_ID = "_rowid"
CHANGED_AT = "_row_last_updated_at_version"
"""A column of every row: the version in which it was added or last changed."""
CREATED_AT = "_row_created_at_version"
"""A column of every row: the version in which it was added."""

_CONFLICT_RETRIES = 30
_RETRY_TIMEOUT = timedelta(minutes=5)
_REWRITES = ("Restore", "Overwrite")
_NOT_FOUND = ("was not found", "not found", "does not exist", "No such file")

SCALAR_INDICES = {
    KEY: "BTREE",
    "file_key": "BTREE",
    "path": "BTREE",
    "bucket": "BTREE",
    "taken_local": "BTREE",
    "date": "BTREE",
    "content_hash": "BTREE",
    "modality": "BITMAP",
    "kind": "BITMAP",
    "cells": "LABEL_LIST",
}
"""The scalar indices of a table, by column."""
WORDS_INDEX: Mapping[str, Any] = {
    "base_tokenizer": "whitespace",
    "stem": False,
    "remove_stop_words": False,
    "ascii_folding": False,
    "lower_case": False,
    "with_position": True,
    "max_token_length": None,
}
"""Options of the full-text index: words stand in the table as the catalog splits them."""


@dataclass(frozen=True, slots=True)
class TableVersion:
    """A version of a table, when it was made, and how many rows it has."""

    version: int
    made_at: datetime
    rows: int


class LanceTable:
    """A version of a table. Threads may read it at once; `refresh` and writes move it on.

    Use `create` or `open` to get one.
    """

    def __init__(self, location: str, dataset: Any) -> None:
        self.location = location
        self.dataset = dataset
        self.space = space_of(dataset.schema.metadata, location)

    @classmethod
    def create(
        cls,
        location: str | os.PathLike[str],
        space: Space,
        sources: Mapping[str, dict[str, Any] | None] | None = None,
    ) -> Self:
        """Create an empty table, or open the one that is there.

        sources: of the library, with their options.

        Raises SpaceMismatchError for a table of another space, UsageError where there is a table
        that is no library, LibraryError where the store cannot be written.
        """
        uri, options = parse(location)
        schema = schema_of(space, sources)
        try:
            return cls._of_space(location, space)
        except NotFoundError:
            pass
        try:
            dataset = lance().write_dataset(
                schema.empty_table(), uri, enable_stable_row_ids=True, storage_options=options
            )
        except (OSError, ValueError, RuntimeError) as error:
            if "already exists" in str(error):  # another process was faster
                return cls._of_space(location, space)
            raise _failed(location, error) from error
        return cls(os.fspath(location), dataset)

    @classmethod
    def _of_space(cls, location: str | os.PathLike[str], space: Space) -> Self:
        table = cls.open(location)
        table.require_space(space)
        return table

    @classmethod
    def open(cls, location: str | os.PathLike[str], version: int | None = None) -> Self:
        """Open a table, in its newest version or an earlier one.

        Raises NotFoundError where there is none, or not this version; UsageError for a table that
        is no library, LibraryError where the store cannot be read.
        """
        uri, options = parse(location)
        package = lance()
        try:
            dataset = package.dataset(uri, version=version, storage_options=options)
        except (OSError, ValueError, RuntimeError) as error:
            if any(part in str(error) for part in _NOT_FOUND):
                what = "table" if version is None else f"version {version} of a table"
                raise NotFoundError(f"There is no {what} at {os.fspath(location)}.") from error
            raise _failed(location, error) from error
        table = cls(os.fspath(location), dataset)
        table._require_whole()
        if not dataset.has_stable_row_ids:
            raise UsageError(
                f"{table.location} was not written by mmsearch: its rows have no stable ids."
            )
        return table

    @property
    def version(self) -> int:
        """The version that is read."""
        return int(self.dataset.version)

    @property
    def newest_version(self) -> int:
        """The newest version of the table, which the store is asked for."""
        with self._errors():
            return int(self.dataset.latest_version)

    @property
    def identity(self) -> str:
        """What tells this table from another one that was made at the same place."""
        found = self.dataset.schema.metadata.get(IDENTITY.encode(), b"")
        return str(found.decode("ascii", "replace"))

    @property
    def sources(self) -> dict[str, dict[str, Any] | None]:
        """The sources of the library, with their options."""
        return sources_of(self.dataset.schema.metadata)

    def set_sources(self, sources: Mapping[str, dict[str, Any] | None]) -> None:
        """Say which sources the library has; changes nothing where these are known."""
        before, after = metadata_of_sources(self.sources), metadata_of_sources(sources)
        changes: dict[str, str | None] = {
            name: after.get(name)
            for name in before.keys() | after.keys()
            if before.get(name) != after.get(name)
        }
        attempt = 0
        while changes:
            try:
                self.dataset.update_schema_metadata(changes)
                break
            except (OSError, ValueError, RuntimeError) as error:
                attempt += 1
                # Of two writers at once one has to try again; Lance does so for rows only.
                if "concurrent transaction" not in str(error) or attempt == _CONFLICT_RETRIES:
                    raise _failed(self.location, error) from error
            time.sleep(random.random() * 0.05 * attempt)
            self.refresh()

    def require_space(self, space: Space) -> None:
        """Raise SpaceMismatchError unless the vectors are of a space."""
        if self.space != space:
            raise SpaceMismatchError(
                f"{self.location} has vectors of the encoder {self.space.encoder!r} (space "
                f"{self.space.id}), not of {space.encoder!r} (space {space.id}). Vectors of two "
                "spaces cannot be compared: choose another table, or the space with `--space ID`."
            )

    def at(self, version: int) -> Self:
        """Return another version of the table; raises NotFoundError for an unknown one."""
        return type(self).open(self.location, version)

    def versions(self) -> list[TableVersion]:
        """List the versions that are kept, the oldest first."""
        with self._errors():
            return [
                TableVersion(
                    one["version"], one["timestamp"], int(one["metadata"].get("total_rows", 0))
                )
                for one in self.dataset.versions()
            ]

    def refresh(self) -> bool:
        """Go to the newest version; returns whether it is another one."""
        before = self.version
        with self._errors():
            self.dataset.checkout_latest()
        self._require_whole()
        return self.version != before

    def _require_whole(self) -> None:
        """Raise DamagedLibraryError where columns are missing, UsageError for files elsewhere.

        Those of a shallow clone are elsewhere: who sends one could name any server or directory,
        which would be read as this user.
        """
        require_columns(self.dataset.schema, self.space, self.location)
        if self.dataset.base_paths():
            raise UsageError(
                f"{self.location} has files in other places, which are not read: it is a shallow "
                "clone, or not by mmsearch. Copy the table as a whole."
            )

    def was_rewritten_since(self, version: int) -> bool:
        """Return whether rows may have changed since a version without a sign of it.

        An earlier version was restored, or what was done is not known any more, as the versions in
        between were deleted. Takes a request to the store for each of them.
        """
        try:
            for one in range(version + 1, self.version + 1):
                done = self.dataset.read_transaction(one)
                if done is None or type(done.operation).__name__ in _REWRITES:
                    return True
        except (OSError, ValueError, RuntimeError):
            return True
        return False

    def append(self, rows: Any) -> None:
        """Add rows, an Arrow table of the schema, in one commit.

        Not idempotent: use `merge` where the rows may be there already.
        """
        self._add_later_columns()
        with self._errors():
            self.dataset = lance().write_dataset(rows, self.dataset, mode="append")

    def merge(self, rows: Any) -> None:
        """Add rows, or replace those of the same keys, which keep their ids, in one commit."""
        if rows.num_rows:
            self._add_later_columns()
            with self._errors():
                _until_committed(lambda: self._merging().execute(rows))

    def replace_files(self, file_keys: Sequence[str], rows: Any) -> None:
        """Let some files have these rows, and no others, in one commit.

        Rows of the same keys keep their ids. file_keys: of the files, as `file_key_of` gives them;
        a file without any of the rows is deleted.
        """
        if not rows.num_rows:
            self.delete_files(file_keys)
            return
        self._add_later_columns()
        with self._errors():
            merging = self._merging()
            if file_keys:
                merging = merging.when_not_matched_by_source_delete(of_files(file_keys))
            _until_committed(lambda: merging.execute(rows))

    def _add_later_columns(self) -> None:
        """Bring a table of an earlier version to the columns of this one, whose values are NULL."""
        known = schema_of(self.space)
        missing = [name for name in LATER_COLUMNS if name not in self.dataset.schema.names]
        if missing:
            with self._errors():
                self.dataset.add_columns(arrow().schema([known.field(name) for name in missing]))

    def known_columns(self, names: Sequence[str]) -> list[str]:
        """Leave out columns that a table of an earlier version lacks."""
        known = self.dataset.schema.names
        return [name for name in names if name not in LATER_COLUMNS or name in known]

    def _merging(self) -> Any:
        return (
            self.dataset.merge_insert(KEY)
            .when_matched_update_all()
            .when_not_matched_insert_all()
            .conflict_retries(_CONFLICT_RETRIES)
            .retry_timeout(_RETRY_TIMEOUT)
        )

    def delete_files(self, file_keys: Sequence[str]) -> None:
        """Delete the rows of some files."""
        if file_keys:
            self.delete(of_files(file_keys))

    def delete(self, predicate: str) -> None:
        """Delete the rows that pass a predicate, in one commit."""
        with self._errors():
            self.dataset.delete(
                predicate, conflict_retries=_CONFLICT_RETRIES, retry_timeout=_RETRY_TIMEOUT
            )

    def scan(
        self,
        columns: Sequence[str],
        predicate: str | None = None,
        *,
        batch_rows: int | None = None,
        offset: int = 0,
        in_order: bool = True,
    ) -> Iterator[Any]:
        """Yield rows that pass a predicate as Arrow batches.

        Args:
            columns: may name `_rowid`, `CHANGED_AT` and `CREATED_AT`.
            predicate: of the rows; None: all.
            batch_rows: maximum number of rows of a batch; None: by Lance.
            offset: how many of the rows to leave out first.
            in_order: as the rows lie in the table, which stays the same in a version.
        """
        with self._errors():
            yield from self.dataset.scanner(
                columns=self.known_columns(columns),
                filter=predicate,
                batch_size=batch_rows,
                offset=offset or None,
                scan_in_order=in_order,
            ).to_batches()

    def read(self, columns: Sequence[str], predicate: str | None = None) -> Any:
        """Return the rows that pass a predicate as an Arrow table; see `scan`."""
        with self._errors():
            return self.dataset.to_table(columns=self.known_columns(columns), filter=predicate)

    def count(self, predicate: str | None = None) -> int:
        """Count the rows that pass a predicate."""
        with self._errors():
            return int(self.dataset.count_rows(filter=predicate))

    def compact(self, *, target_rows: int = 1 << 20, keep: timedelta | None = None) -> None:
        """Join small fragments and drop deleted rows.

        keep: also delete the files of versions that are older than this; None: every version can
        still be opened.
        """
        with self._errors():
            self.dataset.optimize.compact_files(target_rows_per_fragment=target_rows)
            self.dataset.optimize.optimize_indices()
            if keep is not None:
                self.dataset.cleanup_old_versions(older_than=keep)
            self.dataset.checkout_latest()

    def create_indices(self) -> None:
        """Create the scalar indices and that of the words, or bring them up to date."""
        with self._errors():
            if not self.dataset.count_rows():
                return
            indices = self.dataset.describe_indices()
            known = {column for index in indices for column in index.field_names}
            for column, kind in SCALAR_INDICES.items():
                if column not in known:
                    self.dataset.create_scalar_index(column, kind)
            if "words" not in known:
                self.dataset.create_scalar_index("words", "INVERTED", **WORDS_INDEX)
            self.dataset.optimize.optimize_indices()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            raise _failed(self.location, error) from error

    errors = _errors
    """Errors of the store as LibraryError, for who asks `dataset` itself."""


def _until_committed(write: Callable[[], object]) -> None:
    """Repeat a write that lost every race for its commit: Lance itself tries for 30 seconds only.

    Nothing of such a write is in the table. write: puts rows in place of those of the same keys.
    """
    end = time.monotonic() + _RETRY_TIMEOUT.total_seconds()
    while True:
        try:
            write()
        except OSError as error:
            if "Too many concurrent writers" not in str(error) or time.monotonic() > end:
                raise
        else:
            return


def of_files(file_keys: Iterable[str]) -> str:
    """Return the predicate of the rows of some files, by `file_key_of`."""
    return f"file_key IN ({', '.join(map(quoted, file_keys))})"


def quoted(text: str) -> str:
    """Quote a text for a predicate; raises UsageError for one that no row can have."""
    if "\0" in text:
        raise UsageError("A text with a NUL character cannot be looked for.")
    return "'" + text.replace("'", "''") + "'"


def _failed(location: str | os.PathLike[str], error: Exception) -> LibraryError:
    reason = str(error).partition(", /")[0].strip().rstrip(".")[:300]
    return LibraryError(
        f"{os.fspath(location)} cannot be read or written: {reason}. What was committed before is "
        "kept; try again when the store can be reached."
    )
