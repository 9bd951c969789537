"""Connect to PostgreSQL, and let its columns hold and compare values as those of SQLite do.

Text is compared by code points (collation "C") and has any length. Integers have 64 bits, and one
that does not fit into a column is not in it, which is no error. NaN becomes NULL, and what text
cannot hold here (NUL) becomes U+FFFD.
"""

import math
import socket
from os import getpid
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects.postgresql.base import PGDDLCompiler, PGTypeCompiler

from retrieval.catalog.dialects.postgresql.location import schema_of
from retrieval.errors import UsageError, import_errors_as

CONNECT_TIMEOUT_S = 4
_MOST_CONNECTIONS = 32
_SETTINGS = {
    "client_encoding": "UTF8",
    "plan_cache_mode": "force_custom_plan",  # tables grow while a run lasts
    "jit": "off",  # it takes longer to compile a query of many expressions than to run it
    "standard_conforming_strings": "on",
    # A machine that is gone lets go of its locks within two minutes.
    "tcp_keepalives_idle": "60",
    "tcp_keepalives_interval": "15",
    "tcp_keepalives_count": "4",
}


class _Integer(sa.BigInteger):
    """An integer whose parameters have no type: PostgreSQL compares integers of all sizes."""


class _Types(PGTypeCompiler):
    def visit_INTEGER(self, type_: Any, **options: Any) -> str:  # noqa: N802
        return "BIGINT"

    def visit_VARCHAR(self, type_: Any, **options: Any) -> str:  # noqa: N802
        return "TEXT"


class _Tables(PGDDLCompiler):
    def get_column_specification(self, column: Any, **options: Any) -> str:
        written: str = super().get_column_specification(column, **options)  # type: ignore[no-untyped-call]
        return f'{written} COLLATE "C"' if isinstance(column.type, sa.String) else written


def new_engine(url: sa.URL) -> sa.Engine:
    """Prepare connections to the schema of a URL; raises UsageError without psycopg."""
    schema = schema_of(url)
    with import_errors_as(
        UsageError(
            "A catalog in PostgreSQL needs an extra package: pip install 'mmsearch[postgresql]'"
        )
    ):
        import psycopg
    options = {name: value for name, value in url.query.items() if name != "schema"}
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg", query=options),
        connect_args={
            "connect_timeout": int(str(options.get("connect_timeout", CONNECT_TIMEOUT_S))),
            "application_name": application_name(),
        },
        pool_pre_ping=True,
        max_overflow=_MOST_CONNECTIONS - 5,
    )
    engine.dialect.ddl_compiler = _Tables
    engine.dialect.type_compiler_instance = _Types(engine.dialect)
    engine.dialect.type_compiler = engine.dialect.type_compiler_instance  # of SQLAlchemy 1
    engine.dialect.colspecs = {
        **engine.dialect.colspecs,
        sa.Integer: _Integer,
        sa.BigInteger: _Integer,
    }

    @event.listens_for(engine, "connect")
    def configure(connection: psycopg.Connection[Any], _record: object) -> None:
        _register_values(connection)
        settings = {**_SETTINGS, "search_path": f'"{schema}"'}
        calls = ", ".join("set_config(%s, %s, false)" for _ in settings)
        pairs = [text for pair in settings.items() for text in pair]
        connection.execute(f"SELECT {calls}".encode(), pairs)
        connection.commit()

    return engine


def application_name() -> str:
    """Name this process, as the server shows it to others."""
    return f"mmsearch, process {getpid()} on {socket.gethostname()}"[:63]


def _register_values(connection: Any) -> None:
    from psycopg.types.numeric import FloatDumper
    from psycopg.types.string import StrDumperUnknown

    class Text(StrDumperUnknown):
        def dump(self, obj: str) -> Any:
            return super().dump(obj.replace("\0", "\ufffd") if "\0" in obj else obj)

    class Float(FloatDumper):
        def dump(self, obj: float) -> Any:
            return None if math.isnan(obj) else super().dump(obj)

    connection.adapters.register_dumper(str, Text)
    connection.adapters.register_dumper(float, Float)
