"""Open, check, upgrade, read and write a catalog."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from retrieval.catalog.dialects import open_dialect
from retrieval.catalog.schema import SCHEMA_REVISION, Base
from retrieval.catalog.snapshot import Snapshot
from retrieval.catalog.transaction import Transaction
from retrieval.errors import DamagedLibraryError, LibraryError


class Catalog:
    """The catalog of one library. Threads may share it; each snapshot has its own connection.

    location: the path of an SQLite file, or an SQLAlchemy URL. Raises UsageError for a URL of an
    unsupported database.
    """

    def __init__(self, location: str | os.PathLike[str]) -> None:
        self.dialect = open_dialect(location)

    def check_schema(self, *, upgrade: bool = False) -> None:
        """Raise if this version cannot read the catalog; `upgrade` an older one instead."""
        if not self.dialect.exists():
            raise DamagedLibraryError(
                f"{self.dialect.location} is missing. Restore it from a backup, or index the "
                "sources into a new library (`--library NEW_DIR`); the vectors alone do not say "
                "what they show."
            )
        self.dialect.check_objects(Base.metadata.tables)
        revision = self._revision()
        if revision is None:
            raise self._not_a_catalog()
        if revision > SCHEMA_REVISION:
            raise LibraryError(
                f"{self.dialect.location} was written by a newer version of mmsearch (schema "
                f"{revision}; this version knows {SCHEMA_REVISION}). Upgrade with `pip install -U "
                "mmsearch`."
            )
        if revision < SCHEMA_REVISION and upgrade:
            self.migrate()
        elif revision < SCHEMA_REVISION:
            raise LibraryError(
                f"{self.dialect.location} was written by an older version of mmsearch. Run any "
                "`mmsearch index` on the library to upgrade it."
            )

    def migrate(self) -> None:
        """Create the schema, or upgrade an older one to this version.

        Raises DamagedLibraryError rather than touch a database that is not a catalog.
        """
        if self.dialect.exists():
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
        with self.dialect.connect(write=True) as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Read consistently; never waits for the writer."""
        with self.dialect.connect(write=False) as connection:
            yield Snapshot(connection, self.dialect)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Write; commits at the end, rolls back on any exception."""
        with self.dialect.connect(write=True) as connection:
            yield Transaction(connection, self.dialect)

    def close(self) -> None:
        """Close all connections."""
        self.dialect.close()

    def _not_a_catalog(self) -> DamagedLibraryError:
        return DamagedLibraryError(
            f"{self.dialect.location} is not a catalog of mmsearch (it has no schema version). "
            "Nothing was changed. Restore it from a backup, or choose another directory with "
            "`--library DIR`."
        )

    def _has_tables(self) -> bool:
        with self.dialect.connect(write=False) as connection:
            return bool(sa.inspect(connection).get_table_names())

    def _revision(self) -> str | None:
        with self.dialect.connect(write=False) as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            revision = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
            return None if revision is None else str(revision)
