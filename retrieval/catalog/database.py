"""The database of a catalog: opened, checked, upgraded, read and written.

SQLite in WAL mode: readers never wait for the writer. A write takes the write lock at its start
(BEGIN IMMEDIATE), so that two writers meet at once and not at commit.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from retrieval.catalog import filtering
from retrieval.catalog.schema import SCHEMA_REVISION
from retrieval.catalog.snapshot import Snapshot
from retrieval.catalog.transaction import Transaction
from retrieval.errors import DamagedLibraryError, LibraryError, LibraryLockedError

_BUSY_TIMEOUT_S = 10


class Catalog:
    """The catalog of one library. Threads may share it; each snapshot has its own connection."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_read_only = _is_at_rest_on_a_read_only_disk(path)
        if self.is_read_only:
            # Reading too would write a file beside it, unless SQLite knows that nothing changes.
            url = sa.URL.create(
                "sqlite",
                database=path.absolute().as_uri(),
                query={"immutable": "1", "mode": "ro", "uri": "true"},
            )
        else:
            url = sa.URL.create("sqlite", database=str(path))
        self._engine = sa.create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_S})
        configure = _configure_connection if self.is_read_only else _configure_writable_connection
        event.listen(self._engine, "connect", configure)
        event.listen(self._engine, "begin", _begin)
        self._observer: sa.PoolProxiedConnection | None = None
        self._observer_lock = threading.Lock()

    def check_schema(self, *, upgrade: bool = False) -> None:
        """Raise if the catalog is not one that this version can read; `upgrade` an older one."""
        if not self.path.exists():
            raise DamagedLibraryError(
                f"{self.path} is missing. Restore it from a backup, or index the sources into a "
                "new library (`--library NEW_DIR`); the vectors alone do not say what they show."
            )
        revision = self._revision()
        if revision is None:
            raise self._not_a_catalog()
        if revision > SCHEMA_REVISION:
            raise LibraryError(
                f"{self.path} was written by a newer version of mmsearch (schema {revision}; this "
                f"version knows {SCHEMA_REVISION}). Upgrade with `pip install -U mmsearch`."
            )
        if revision < SCHEMA_REVISION and upgrade:
            self.migrate()
        elif revision < SCHEMA_REVISION:
            raise LibraryError(
                f"{self.path} was written by an older version of mmsearch. Run any `mmsearch "
                "index` on the library to upgrade it."
            )

    def migrate(self) -> None:
        """Create the schema, or bring an older one to this version.

        Raises DamagedLibraryError rather than touch a database that is not a catalog.
        """
        if self.path.exists():
            revision = self._revision()
            if revision == SCHEMA_REVISION:
                return
            if revision is None and self._has_tables():
                raise self._not_a_catalog()
        from alembic import command
        from alembic.config import Config

        config = Config()
        scripts = str(Path(__file__).parent / "migrations")
        config.set_main_option("script_location", scripts.replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        with self._connect(write=True) as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Read consistently; never waits for the writer."""
        with self._connect(write=False) as connection:
            yield Snapshot(connection)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Write; commits at the end, rolls back on any exception."""
        with self._connect(write=True) as connection:
            yield Transaction(connection)

    def version(self) -> int:
        """A number that changes with every commit, whoever makes it, while this object lives.

        A snapshot taken after the call shows that version or a later one.
        """
        with self._observer_lock:
            try:
                if self._observer is None:
                    # SQLite counts the commits of all connections but the one that asks.
                    self._observer = self._engine.raw_connection()
                cursor = self._observer.cursor()
                cursor.execute("PRAGMA data_version")
                [version] = cursor.fetchone() or (0,)
                cursor.close()
                return int(version)
            except (sa.exc.DatabaseError, sqlite3.DatabaseError) as error:
                raise self._explain(str(error)) from error

    def close(self) -> None:
        """Close all connections."""
        with self._observer_lock:
            if self._observer is not None:
                self._observer.close()
                self._observer = None
        self._engine.dispose()

    def _not_a_catalog(self) -> DamagedLibraryError:
        return DamagedLibraryError(
            f"{self.path} is not a catalog of mmsearch (it has no schema version). Nothing was "
            "changed. Restore it from a backup, or choose another directory with `--library DIR`."
        )

    def _has_tables(self) -> bool:
        with self._connect(write=False) as connection:
            return bool(sa.inspect(connection).get_table_names())

    def _revision(self) -> str | None:
        with self._connect(write=False) as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            revision = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
            return None if revision is None else str(revision)

    @contextmanager
    def _connect(self, *, write: bool) -> Iterator[sa.Connection]:
        try:
            with self._engine.connect() as connection:
                connection.execution_options(write=write)
                with connection.begin():
                    yield connection
        except sa.exc.DatabaseError as error:
            raise self._explain(str(error.orig)) from error
        except sqlite3.DatabaseError as error:  # from the hook that configures a connection
            raise self._explain(str(error)) from error

    def _explain(self, reason: str) -> LibraryError:
        if "locked" in reason or "busy" in reason:
            return LibraryLockedError(
                f"{self.path} is locked by another process. Wait for it to finish and try again."
            )
        if "full" in reason:
            return LibraryError(
                f"No space left on the disk of {self.path}. Free some and run the same command "
                "again: what was committed is kept."
            )
        if "disk I/O error" in reason:
            return LibraryError(
                f"{self.path} cannot be read or written: disk I/O error. There may be no space "
                "left on its disk, or the disk fails. What was committed is kept; run the same "
                "command again."
            )
        if "readonly" in reason or "unable to open" in reason:
            return LibraryError(
                f"{self.path} cannot be opened or written: {reason}. Check the permissions. A "
                "library on a read-only disk can be searched only if it was closed in good order."
            )
        return DamagedLibraryError(
            f"{self.path} is damaged: {reason}. Nothing was overwritten. Restore it from a backup, "
            "try `sqlite3 catalog.sqlite .recover`, or index the sources into a new library "
            "(`--library NEW_DIR`)."
        )


def _is_at_rest_on_a_read_only_disk(path: Path) -> bool:
    """Whether nobody can write a catalog, nor has left anything in its log."""
    log = path.with_name(f"{path.name}-wal")
    return path.exists() and not os.access(path.parent, os.W_OK) and not log.exists()


def _configure_connection(connection: Any, _record: object) -> None:
    # SQLAlchemy, not the driver, opens transactions: the driver would defer the write lock.
    connection.isolation_level = None
    filtering.add_functions(connection)


def _configure_writable_connection(connection: Any, record: object) -> None:
    _configure_connection(connection, record)
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    write = connection.get_execution_options().get("write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
