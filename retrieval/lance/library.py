"""A library that is a Lance table, opened where it is: it has what a `Library` has but a directory.

Thumbnails, tokens of rerankers and the like are caches of this machine, below the user's cache.
"""

import hashlib
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from functools import cached_property
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

from retrieval.catalog import Catalog
from retrieval.catalog.paths import is_at_or_below
from retrieval.catalog.transaction import Transaction
from retrieval.embeddings import EmbeddingsFile
from retrieval.encoders.base import Space
from retrieval.errors import LibraryGoneError, NotFoundError, UsageError
from retrieval.files import user_cache_directory
from retrieval.lance.location import parse
from retrieval.lance.predicates import any_of, at_or_below
from retrieval.lance.snapshot import LanceSnapshot, Memory, not_in_tables
from retrieval.lance.table import LanceTable
from retrieval.library import FORMAT_VERSION, Library, Manifest
from retrieval.media import Modality
from retrieval.rerankers.token_cache import TokenCache

_VERSIONED = re.compile(r"(.*)@(\d{1,18})", re.DOTALL)
_LOOK_AGAIN_S = 1.0
"""A table in a store is asked for newer versions no more often."""


THUMBNAIL_BYTES = 1_000_000_000
"""Maximum size of the thumbnails of a table that this machine keeps."""
_SLACK = 0.1
"""Share of the limit that may be written before the thumbnails are counted again."""


def drop_oldest(folder: Path, most_bytes: int) -> None:
    """Delete the files of a folder that were written first, until the others are small enough."""
    found = []
    for path in folder.glob("*"):
        with suppress(OSError):
            status = path.stat()
            found.append((status.st_mtime_ns, status.st_size, path))
    found.sort(reverse=True)
    for place, (_, size, _) in enumerate(found):
        most_bytes -= size
        if most_bytes < 0:
            for _, _, old in found[place:]:
                old.unlink(missing_ok=True)
            return


def with_slashes(location: str | os.PathLike[str]) -> str:
    """Return the location of a table as it was written, though `Path` has joined its slashes."""
    return re.sub(r"^(lance\+[a-z0-9]+):/+", r"\1://", os.fspath(location))


def split_version(location: str) -> tuple[str, int | None]:
    """Split a location such as `lance:DIR@3` into that of the table and the version."""
    found = _VERSIONED.fullmatch(location)
    return (found[1], int(found[2])) if found else (location, None)


def open_table(location: str | os.PathLike[str]) -> "LanceLibrary":
    """Open the library that a table is, at the version that the location names, else the newest.

    Raises NotFoundError where there is no table or no such version, UsageError for one that is no
    library, LibraryError where the store cannot be read.
    """
    place, version = split_version(with_slashes(location))
    try:
        table = LanceTable.open(place, version)
    except NotFoundError as error:
        if version is None:
            raise NotFoundError(
                f"There is no library at {place}. `mmsearch export --lance` writes one, and "
                f"`mmsearch index SOURCE --cluster local --library {place}` makes one."
            ) from error
        raise NotFoundError(
            f"{error} `mmsearch versions --library {place}` lists those that there are."
        ) from error
    return LanceLibrary(place, table, is_pinned=version is not None)


class TableDialect:
    """What callers ask of the database of a catalog: where it is, and which version."""

    warning: str | None = None

    def __init__(self, catalog: "TableCatalog") -> None:
        self._catalog = catalog
        self.location = catalog.location

    def version(self) -> int:
        """Return the version that the next snapshot is of."""
        return self._catalog.refresh()

    def writer(self) -> AbstractContextManager[None]:
        """Tell that what takes the lock of a library is not for a table."""
        raise UsageError(
            f"{self.location} is a table. `mmsearch index SOURCE --cluster local`, `mmsearch "
            "export --lance`, `mmsearch remove` and `mmsearch compact` write tables; all else that "
            "a library can be told is for a copy: `mmsearch serve --copy DIR`."
        )

    def lost_commits(self) -> int:
        """Return 0: a commit of a table is never lost."""
        return 0

    def __getattr__(self, name: str) -> Any:
        """Tell what a table does not have, where something else is asked of its database."""
        raise not_in_tables("database")


class TableCatalog(Catalog):
    """A table as a catalog, whose snapshots are versions of it.

    is_pinned: newer versions are not taken up. Threads may share it.
    """

    dialect: Any

    def __init__(self, table: LanceTable, *, is_pinned: bool) -> None:
        self.location = table.location
        self._is_pinned = is_pinned
        self._current: tuple[LanceTable, Memory] = table, Memory()
        self._looked_at = time.monotonic()
        self._lock = threading.Lock()
        self.dialect = TableDialect(self)

    @property
    def table(self) -> LanceTable:
        """The table at the version that snapshots are of."""
        return self._current[0]

    def refresh(self, *, now: bool = False) -> int:
        """Take up a newer version, if there is one; returns the version of snapshots.

        now: also where the store was asked a moment ago.
        """
        with self._lock:
            table = self._current[0]
            if self._is_pinned:
                return table.version
            is_local = "://" not in self.location
            since = time.monotonic() - self._looked_at
            if now or is_local or since > _LOOK_AGAIN_S:
                newest = table.newest_version
                self._looked_at = time.monotonic()
                if newest != table.version:
                    self._current = LanceTable.open(self.location), Memory()
            return self._current[0].version

    @contextmanager
    def snapshot(self) -> Iterator[LanceSnapshot]:
        """Read the version that was taken up last."""
        yield LanceSnapshot(*self._current)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Raise UsageError: what a transaction writes, a table does not have."""
        raise not_in_tables("collections, hidden items or saved searches that change")
        yield

    def check_schema(self, *, upgrade: bool = False) -> None:
        """Do nothing: opening a table checks its schema."""

    def close(self) -> None:
        """Do nothing: a table holds no connection."""


class LanceLibrary(Library):
    """A library in a Lance table. Use `open_table` to get one."""

    is_table = True

    def __init__(self, location: str, table: LanceTable, *, is_pinned: bool = False) -> None:
        self._location = location
        self.manifest = Manifest(
            FORMAT_VERSION, table.space.id, f"mmsearch {version_of('mmsearch')}"
        )
        self.is_pinned = is_pinned
        self.catalog: TableCatalog = TableCatalog(table, is_pinned=is_pinned)
        self._warnings = []
        self._passing_warnings = {}
        self._space = table.space
        self._lock = threading.Lock()
        # Those of earlier runs are counted at the first thumbnail.
        self._kept_bytes = THUMBNAIL_BYTES

    @property
    def table(self) -> LanceTable:
        """The table at the version that is searched."""
        return self.catalog.table

    @property
    def version(self) -> int:
        """The version that is searched."""
        return self.table.version

    @property
    def location(self) -> str:
        """Where the table is, as `open_library` takes it."""
        return f"{self._location}@{self.version}" if self.is_pinned else self._location

    @cached_property
    def path(self) -> Path:  # type: ignore[override]
        """Directory of what belongs to the opened table on this machine; it need not be there."""
        return self.cache / (f"version-{self.version}" if self.is_pinned else "newest")

    @cached_property
    def cache(self) -> Path:
        """Directory of what this machine remembers of the table; it can be made again."""
        uri, _ = parse(self._location)
        name = hashlib.sha256(uri.encode("utf-8", "surrogateescape")).hexdigest()[:24]
        return user_cache_directory() / "tables" / name

    @property
    def thumbnails(self) -> Path:
        """Directory of cached thumbnails."""
        return self.cache / "thumbnails"

    def kept_thumbnail(self, size: int) -> None:
        """Note that a thumbnail of some bytes was cached; above a limit, the oldest go.

        THUMBNAIL_BYTES: the limit.
        """
        with self._lock:
            self._kept_bytes += size
            if self._kept_bytes < THUMBNAIL_BYTES * _SLACK:
                return
            self._kept_bytes = 0
        drop_oldest(self.thumbnails, THUMBNAIL_BYTES)

    @cached_property
    def tokens(self) -> TokenCache:
        """Token cache of the rerankers, with a maximum size."""
        return TokenCache(self.cache / "tokens")

    def refresh(self) -> int:
        """Take up the newest version now; returns its number."""
        return self.catalog.refresh(now=True)

    def missing(self) -> LibraryGoneError | None:
        """Return None: a table that is gone is told when it is read."""
        return None

    def space_ids(self) -> list[str]:
        """Ids of the spaces: a table has one."""
        return [self._space.id]

    def space(self, space_id: str | None = None) -> Space:
        """Return the space of the table; raises UsageError for another id."""
        if space_id not in {None, self._space.id}:
            raise self._unknown_space((space_id or "")[:80])
        return self._space

    def add_space(self, space: Space) -> None:
        """Raise UsageError: a table has one space."""
        raise not_in_tables("second space")

    def space_directory(self, space: Space) -> Path:
        """Return the directory of what this machine has of the space, which need not be there."""
        return self.cache / "spaces" / space.id

    def embeddings(self, space: Space, modality: Modality) -> EmbeddingsFile:
        """Raise UsageError: the vectors are in the table."""
        raise not_in_tables("file of embeddings")

    def share(self) -> None:
        """Raise UsageError: who may read a store, its own settings say."""
        raise UsageError("Who may read a table, its store or directory says: set it there.")

    def compact(self, *, keep: timedelta | None = None) -> None:
        """Join what many commits left, drop deleted rows, and bring the indices up to date.

        keep: delete the versions that are older than this; None: all can still be opened.
        """
        self._require_newest()
        newest = LanceTable.open(self._location)
        newest.compact(keep=keep)
        newest.create_indices()
        self.refresh()

    def _require_newest(self) -> None:
        if self.is_pinned:
            raise UsageError(
                f"Version {self.version} of {self._location} was opened, and versions do not "
                "change: leave the @ and the number out."
            )

    def remove(self, paths: Sequence[str]) -> int:
        """Delete files and folders from the table, in one commit; returns the number of files.

        Sources among them are forgotten. Raises NotFoundError, and deletes nothing, where the table
        knows nothing of one; UsageError where it was opened at an earlier version.
        """
        self._require_newest()
        with self.catalog.snapshot() as snapshot:
            for path in paths:
                if not self.table.count(at_or_below(path)):
                    raise NotFoundError(f"{self.location} knows nothing at or below {path}.")
            wanted = any_of(at_or_below(path) for path in paths)
            [row] = snapshot.query("SELECT count(DISTINCT file_key) AS n", wanted)
        newest = LanceTable.open(self._location)
        left = {
            source: options
            for source, options in newest.sources.items()
            if not any(is_at_or_below(source, path) for path in paths)
        }
        newest.set_sources(left)
        newest.delete(wanted)
        self.refresh()
        return int(row["n"])


def table_of(library: Library) -> LanceTable:
    """Return the table that a library is, at the version that is searched.

    Raises UsageError for a library in a directory.
    """
    return as_table(library).table


def as_table(library: Library) -> LanceLibrary:
    """Return a library as the table that it is; raises UsageError for one in a directory."""
    if not isinstance(library, LanceLibrary):
        raise UsageError(
            f"{library.path} is a library in a directory; this is for tables: --library lance:DIR."
        )
    return library
