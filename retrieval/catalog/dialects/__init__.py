"""Databases that can hold a catalog: one module each, behind `base.Dialect`."""

import os

import sqlalchemy as sa

from retrieval.catalog.dialects.base import Dialect
from retrieval.catalog.dialects.sqlite import SQLite
from retrieval.errors import UsageError

DIALECTS = ("sqlite", "postgresql")
"""SQLAlchemy's names of the databases."""


def is_url(location: str | os.PathLike[str]) -> bool:
    """Return whether a catalog is named by the URL of a database, and not as a file."""
    return isinstance(location, str) and "://" in location


def dialect_of(connection: sa.Connection) -> type[Dialect]:
    """Return the dialect of a connection's database."""
    return _dialect(connection.dialect.name)


def _dialect(name: str) -> type[Dialect]:
    if name == "sqlite":
        return SQLite
    from retrieval.catalog.dialects.postgresql.dialect import PostgreSQL  # few need it

    return PostgreSQL


def open_dialect(location: str | os.PathLike[str]) -> Dialect:
    """Open the path of an SQLite file, or a database by its SQLAlchemy URL.

    Raises UsageError for a URL that cannot be parsed or names an unsupported database.
    """
    try:
        if is_url(location):
            url = sa.make_url(str(location))
        else:
            url = sa.URL.create("sqlite", database=os.fspath(location))
    except (sa.exc.ArgumentError, ValueError) as error:
        raise UsageError(f"Invalid database URL: {error}") from error
    name = url.get_backend_name()
    if name not in DIALECTS:
        raise UsageError(
            f"Unsupported database {name!r} for a catalog. Supported: {', '.join(DIALECTS)}."
        )
    return _dialect(name)(url)
