"""A catalog in a schema of a PostgreSQL database.

Readers see one state throughout (REPEATABLE READ) and never wait. Only one transaction writes at a
time: it holds an advisory lock, and so sees all that is committed (READ COMMITTED). The library's
only writer holds another one, for as long as it is connected.
"""

import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import gethostname
from typing import Any

import numpy as np
import sqlalchemy as sa
import xxhash
from numpy.typing import NDArray

from retrieval.catalog import column_condition
from retrieval.catalog.dialects.base import Condition, Dialect, columns_for_driver
from retrieval.catalog.dialects.postgresql import matching, text_index
from retrieval.catalog.dialects.postgresql.connection import new_engine
from retrieval.catalog.dialects.postgresql.errors import explain
from retrieval.catalog.dialects.postgresql.location import schema_of, shown
from retrieval.catalog.fulltext.words import Phrase, Term
from retrieval.catalog.schema import FILE_WORDS, ITEM_WORDS, Base
from retrieval.errors import LibraryError, LibraryLockedError, UsageError

STATE = "catalog_state"
"""A table of one row: how many commits there were, and which library the catalog is of."""

_BUSY_TIMEOUT_S = 10.0
_OLDEST_VERSION = (13, 0)
_OF_WRITER, _OF_TRANSACTION = 0x6D6D7301, 0x6D6D7302
"""Classes of advisory locks; the objects are schemas, by a hash of their names."""


class PostgreSQL(Dialect):
    """A schema of a PostgreSQL database, which the first transaction that writes creates."""

    def __init__(self, url: sa.URL) -> None:
        self._schema = schema_of(url)
        self.location = shown(url)
        self.has_password = bool(url.password)
        self._engine = new_engine(url)
        self._reading = self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._single = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._key = xxhash.xxh32_intdigest(self._schema.encode()) - 2**31
        self._is_ready = False
        self._observer: list[sa.Connection] = []
        """One connection, or none yet."""
        self._observer_lock = threading.Lock()
        self._writer: sa.Connection | None = None
        """What holds the lock of the library's only writer."""
        self._writer_lock = threading.Lock()
        # Commands leave a library open to the end of the process.
        weakref.finalize(self, _close, self._engine, self._observer)

    def exists(self) -> bool:
        """True if the schema exists."""
        query = sa.text("SELECT to_regnamespace(:schema) IS NOT NULL")
        with self._errors_explained(), self._single.connect() as connection:
            return bool(connection.scalar(query, {"schema": self._schema}))

    @contextmanager
    def connect(self, *, write: bool) -> Iterator[sa.Connection]:
        """Run a transaction on a connection of its own."""
        if not write:
            with self._errors_explained(), self._reading.begin() as connection:
                yield connection
            return
        with self._errors_explained(), self._engine.begin() as connection:
            self._require_writer()
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {round(_BUSY_TIMEOUT_S * 1000)}")
            self._lock_transactions(connection)
            if not self._is_ready:
                self._prepare(connection)
            yield connection
            if connection.in_transaction():
                connection.exec_driver_sql(
                    f"UPDATE {STATE} SET commits = commits + 1 "
                    "WHERE txid_current_if_assigned() IS NOT NULL"
                )
        self._is_ready = True

    def _lock_transactions(self, connection: sa.Connection) -> None:
        query = sa.text("SELECT pg_advisory_xact_lock(:kind, :schema)")
        connection.execute(query, {"kind": _OF_TRANSACTION, "schema": self._key})

    def _prepare(self, connection: sa.Connection) -> None:
        """Create what a catalog needs besides its tables, unless it is there."""
        if connection.scalar(sa.text("SELECT to_regclass(:name)"), {"name": STATE}):
            return
        version = connection.dialect.server_version_info
        if version is not None and version < _OLDEST_VERSION:
            raise UsageError(
                f"{self.location} is PostgreSQL {'.'.join(map(str, version))}. A catalog needs "
                f"{_OLDEST_VERSION[0]} or newer."
            )
        encoding = connection.scalar(sa.text("SHOW server_encoding"))
        if encoding != "UTF8":
            raise UsageError(
                f"{self.location} has the encoding {encoding}. A catalog needs a database of UTF8: "
                "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0."
            )
        there = sa.text("SELECT to_regnamespace(:schema) IS NOT NULL")
        if not connection.scalar(there, {"schema": self._schema}):
            connection.exec_driver_sql(f'CREATE SCHEMA "{self._schema}"')
        connection.exec_driver_sql(
            f'CREATE TABLE {STATE} (commits bigint NOT NULL, library text COLLATE "C" NOT NULL)'
        )
        connection.exec_driver_sql(f"INSERT INTO {STATE} VALUES (0, '')")
        for statement in matching.functions():
            connection.exec_driver_sql(statement)

    def claim(self, directory: Path) -> None:
        """Record of which library this is; raises UsageError where it is that of another one."""
        mine = f"{gethostname()}:{directory}"
        with self.connect(write=True) as connection:
            other = connection.scalar(sa.text(f"SELECT library FROM {STATE}"))
            if other not in {"", mine}:
                raise UsageError(
                    f"{self.location} is the catalog of another library already ({other}). Name "
                    "another schema: postgresql://HOST/DATABASE?schema=NAME."
                )
            connection.execute(sa.text(f"UPDATE {STATE} SET library = :mine"), {"mine": mine})

    def version(self) -> int:
        """Return how many commits there were."""
        with self._observer_lock, self._errors_explained():
            for is_last in (False, True):
                try:
                    if not self._observer:
                        self._observer.append(self._single.connect())
                    [observer] = self._observer
                    return int(
                        observer.exec_driver_sql(f"SELECT commits FROM {STATE}").scalar_one()
                    )
                except sa.exc.DBAPIError as error:
                    _release(self._observer)
                    if is_last or not error.connection_invalidated:
                        raise
        raise AssertionError

    @contextmanager
    def writer(self) -> Iterator[None]:
        """Hold an advisory lock on a connection of its own: the server frees it as that ends."""
        lock = {"kind": _OF_WRITER, "schema": self._key}
        with self._errors_explained():
            connection = self._single.connect()
        try:
            with self._errors_explained():
                query = sa.text("SELECT pg_try_advisory_lock(:kind, :schema)")
                is_free = connection.scalar(query, lock)
                holder = "" if is_free else self._holder(connection)
            if not is_free:
                raise LibraryLockedError(
                    f"Another process is writing to {self.location}{holder}. Searching goes on "
                    "meanwhile; wait until it has finished, then run this command again."
                )
            self._writer = connection
            yield
        finally:
            self._writer = None
            with suppress(sa.exc.SQLAlchemyError):  # the server frees it all the same
                connection.execute(sa.text("SELECT pg_advisory_unlock(:kind, :schema)"), lock)
            connection.invalidate()
            connection.close()

    def _holder(self, connection: sa.Connection) -> str:
        query = sa.text(
            "SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE granted "
            "AND locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = "
            "current_database()) AND classid::bigint = :kind AND objid::bigint = :schema"
        )
        key = {"kind": _OF_WRITER, "schema": self._key % 2**32}
        name = connection.scalar(query, key)
        return f" ({name.removeprefix('mmsearch, ')})" if name else ""

    def _require_writer(self) -> None:
        """Raise LibraryError where the connection was lost that held the lock of the writer."""
        with self._writer_lock:
            if self._writer is not None:
                self._writer.exec_driver_sql("SELECT 1")

    def find_damage(self, *, repair: bool = False) -> list[str]:
        """Read all tables, compare what refers to others, and the sizes of the text indices."""
        try:
            if repair:
                self._repair()
            with self.connect(write=False) as connection:
                found = [
                    f"records of {table.name} name others that are not there"
                    for table in Base.metadata.sorted_tables
                    if any(connection.scalar(query) for query in _orphans(table))
                ]
                for table in (FILE_WORDS, ITEM_WORDS):
                    kept = connection.exec_driver_sql(f"SELECT * FROM {table.name}_size").all()
                    if kept != [tuple(connection.execute(_size_of(table)).one())]:
                        found.append(f"the text index {table.name} does not agree with its texts")
                return found
        except LibraryError as error:
            return [str(error)]

    def _repair(self) -> None:
        """Make indices again, and count again."""
        names = [*Base.metadata.tables, FILE_WORDS.name, ITEM_WORDS.name]
        with self.connect(write=True) as connection:
            for name in names:
                connection.exec_driver_sql(f'REINDEX TABLE "{name}"')
            for table in (FILE_WORDS, ITEM_WORDS):
                documents, tokens = connection.execute(_size_of(table)).one()
                connection.exec_driver_sql(
                    f"UPDATE {table.name}_size SET documents = {documents}, tokens = {tokens}"
                )

    def seal(self, *, most_bytes: int | None = None) -> None:
        """Tell the planner how many rows there are now; the server has checksums of its own."""
        names = ", ".join(
            f'"{name}"' for name in (*Base.metadata.tables, FILE_WORDS.name, ITEM_WORDS.name)
        )
        with self._errors_explained(), self._single.connect() as connection:
            connection.exec_driver_sql(f"ANALYZE {names}")

    def close(self) -> None:
        """Close all connections."""
        with self._observer_lock:
            _close(self._engine, self._observer)

    @staticmethod
    def path_matches(path: Any, pattern: str) -> Condition:
        """Compare the path as text, composed, with a regular expression."""
        text = _call(matching.PATH_TEXT, _bytes_of(path))
        matched: Condition = text.op("~", is_comparison=True)(matching.path_expression(pattern))
        return matched

    @staticmethod
    def contains(text: Any, part: str) -> Condition:
        """Fold the text as Python does."""
        place = sa.func.strpos(_call(matching.FOLDED, text), column_condition.folded(part))
        return sa.func.coalesce(place, 0) > 0

    @staticmethod
    def holds(text: Any, part: str) -> Condition:
        """Look for its place."""
        return sa.func.strpos(text, part) > 0

    @staticmethod
    def name_matches(path: Any, pattern: str) -> Condition:
        """Compare bytes, as the dialect of SQLite does: a star matches slashes, too."""
        ends_so = pattern.startswith("*") and "*" not in pattern[1:]
        wanted = pattern if ends_so else f"*/{pattern}"
        written = wanted.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
        like = sa.literal(written.replace("*", "%").encode(), sa.LargeBinary)
        matched: Condition = _bytes_of(path).op("LIKE", is_comparison=True)(like)
        return matched

    @staticmethod
    def unindexed(column: Any) -> Any:
        """Leave it to the planner, which knows how many rows an index finds."""
        return column

    @staticmethod
    def truncated(number: Any) -> Any:
        """Cut off the fraction, where a cast would round."""
        return sa.cast(sa.func.trunc(number), sa.BigInteger)

    @staticmethod
    def read_integers(
        connection: sa.Connection, query: sa.Select[Any]
    ) -> tuple[NDArray[np.int64], ...]:
        """Let PostgreSQL join them as bytes: rows take ten times as long, be it by COPY."""
        rows = query.subquery()
        joined = connection.execute(sa.select(*map(_joined, rows.c))).one()
        return tuple(map(_numbers_in, joined))

    @staticmethod
    def read_groups(
        connection: sa.Connection, query: sa.Select[Any]
    ) -> list[tuple[int, NDArray[np.int64]]]:
        """Join the numbers as bytes, too."""
        first, second = query.selected_columns
        grouped = query.with_only_columns(first, _joined(second)).group_by(first)
        return [(value, _numbers_in(joined)) for value, joined in connection.execute(grouped)]

    @staticmethod
    def insert_rows(
        connection: sa.Connection, table: Any, names: Sequence[str], rows: Iterable[tuple[Any, ...]]
    ) -> None:
        """Convert values a column at a time, and send them by COPY."""
        clause: sa.TableClause = getattr(table, "__table__", table)
        columns = columns_for_driver(connection, clause, names, rows)
        if not columns:
            return
        driver = connection.connection.driver_connection
        assert driver is not None
        quote = connection.dialect.identifier_preparer.quote
        copied = ", ".join(map(quote, names))
        statement = f"COPY {quote(clause.name)} ({copied}) FROM STDIN"
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in zip(*columns, strict=True):
                copy.write_row(row)

    @staticmethod
    def create_text_index(connection: sa.Connection) -> None:
        """Create tables whose words have an inverted index."""
        for statement in text_index.creation():
            connection.exec_driver_sql(statement)

    @staticmethod
    def document_count(
        table: sa.TableClause, all_of: Sequence[Sequence[Phrase]] = (), most: int | None = None
    ) -> sa.Executable:
        """Count matches, or read how many documents there are."""
        return text_index.document_count(table, all_of, most)

    @staticmethod
    def documents_with(
        table: sa.TableClause,
        phrases: Sequence[Phrase],
        among: Sequence[Sequence[Sequence[Phrase]]],
    ) -> sa.Executable:
        """Match any of the phrases."""
        return text_index.documents_with(table, phrases, among)

    @staticmethod
    def text_scores(
        table: sa.TableClause, terms: Sequence[Term], *, any_of: Sequence[Term] = ()
    ) -> sa.Executable:
        """Score by BM25, as FTS5 does."""
        return text_index.text_scores(table, terms, any_of)

    @contextmanager
    def _errors_explained(self) -> Iterator[None]:
        import psycopg

        try:
            yield
        except sa.exc.DBAPIError as error:
            raise explain(self.location, error.orig or error) from error
        except psycopg.Error as error:  # of COPY
            raise explain(self.location, error) from error
        except sa.exc.TimeoutError as error:
            raise LibraryLockedError(
                f"All connections to {self.location} are in use. Try again."
            ) from error


def _close(engine: sa.Engine, connections: list[sa.Connection]) -> None:
    _release(connections)
    engine.dispose()


def _release(connections: list[sa.Connection]) -> None:
    while connections:
        with suppress(sa.exc.SQLAlchemyError):
            connections.pop().close()


def _bytes_of(path: Any) -> Any:
    return sa.type_coerce(path, sa.LargeBinary)


def _call(function: str, argument: Any) -> Any:
    return getattr(sa.func, function)(argument, type_=sa.Text)


def _joined(column: Any) -> Any:
    sent = sa.func.int8send(sa.cast(column, sa.BigInteger))
    return sa.func.string_agg(sent, sa.literal_column("''::bytea"), type_=sa.LargeBinary)


def _numbers_in(joined: bytes | None) -> NDArray[np.int64]:
    return np.frombuffer(joined or b"", ">i8").astype(np.int64)


def _orphans(table: sa.Table) -> Iterator[sa.Select[Any]]:
    """Select a record for each reference that names another one that is not there."""
    for key in table.foreign_keys:
        other = key.column.table.alias()
        yield (
            sa.select(sa.literal(1))
            .select_from(table)
            .where(~sa.exists().where(other.c[key.column.name] == key.parent))
            .limit(1)
        )


def _size_of(table: sa.TableClause) -> sa.TextClause:
    return sa.text(f"SELECT count(*), coalesce(sum(tokens), 0)::bigint FROM {table.name}")
