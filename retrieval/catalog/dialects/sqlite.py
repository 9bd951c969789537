"""A catalog in an SQLite file, with FTS5 for full-text search.

WAL mode: readers never wait for the writer. A write takes the write lock at its start
(BEGIN IMMEDIATE), so that two writers meet at once and not at commit.
"""

import json
import os
import socket
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import event
from sqlalchemy.sql.elements import UnaryExpression
from sqlalchemy.sql.operators import custom_op

from retrieval.catalog import column_condition, path_glob
from retrieval.catalog.dialects.base import Condition, Dialect
from retrieval.catalog.fulltext.index import FILE_WORDS, ITEM_WORDS, WEIGHTS
from retrieval.catalog.fulltext.words import Phrase, Term
from retrieval.errors import DamagedLibraryError, LibraryError, LibraryLockedError, UsageError
from retrieval.files import follow_folder

_WRITER_LOCK = "writer.lock"
_WRITER_NOTE = "writer.json"

_BUSY_TIMEOUT_S = 10


class SQLite(Dialect):
    """An SQLite file; the writer's lock is a file beside it."""

    def __init__(self, url: sa.URL) -> None:
        if url.database in {None, "", ":memory:"} or url.query:
            raise UsageError("Name the file of an SQLite catalog, without options: sqlite:///PATH.")
        self.location = str(url.database)
        self._path = Path(self.location)
        self.file_names = frozenset({self._path.name, _WRITER_LOCK, _WRITER_NOTE})
        is_read_only = _is_read_only_without_wal(self._path)
        if is_read_only:
            # Reading too would write a file beside it, unless SQLite knows that nothing changes.
            url = url.set(
                database=self._path.absolute().as_uri(),
                query={"immutable": "1", "mode": "ro", "uri": "true"},
            )
        self._engine = sa.create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_S})
        configure = _configure_connection if is_read_only else _configure_writable_connection
        event.listen(self._engine, "connect", configure)
        self._observer: sa.PoolProxiedConnection | None = None
        self._observer_lock = threading.Lock()

    def exists(self) -> bool:
        """True if the file exists."""
        return self._path.exists()

    @contextmanager
    def connect(self, *, write: bool) -> Iterator[sa.Connection]:
        """Run a transaction on a connection of its own."""
        if write and not self._path.exists():
            # SQLite gives the files that it makes beside it the same permissions.
            with suppress(OSError):
                self._path.touch()
                follow_folder(self._path)
        with self._errors_explained(), self._engine.begin() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
            yield connection

    def version(self) -> int:
        """Return SQLite's count of the commits of all connections but the one that asks."""
        with self._observer_lock, self._errors_explained():
            if self._observer is None:
                self._observer = self._engine.raw_connection()
            cursor = self._observer.cursor()
            cursor.execute("PRAGMA data_version")
            [version] = cursor.fetchone() or (0,)
            cursor.close()
            return int(version)

    @contextmanager
    def writer(self) -> Iterator[None]:
        """Hold the lock file; a note beside it says who does."""
        import filelock

        directory = self._path.parent
        lock = filelock.FileLock(directory / _WRITER_LOCK)
        note = directory / _WRITER_NOTE
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise LibraryLockedError(
                f"Another process is writing to {directory}{_read_note(note)}. Searching goes "
                "on meanwhile; wait until it has finished, then run this command again."
            ) from None
        except OSError as error:
            raise LibraryError(
                f"{directory} cannot be written: {error.strerror}. Check the permissions, or "
                "name another library with `--library DIR`."
            ) from error
        try:
            with suppress(OSError):  # it only helps to explain a refusal
                holder = {"pid": os.getpid(), "host": socket.gethostname()}
                follow_folder(directory / _WRITER_LOCK)
                note.write_text(json.dumps(holder), encoding="utf-8")
                follow_folder(note)
            yield
        finally:
            note.unlink(missing_ok=True)
            lock.release()

    def close(self) -> None:
        """Close all connections."""
        with self._observer_lock:
            if self._observer is not None:
                self._observer.close()
                self._observer = None
        self._engine.dispose()

    @staticmethod
    def path_matches(path: Any, pattern: str) -> Condition:
        """Call `path_glob.matches`."""
        return sa.func.mmsearch_glob(pattern, path) == 1

    @staticmethod
    def contains(text: Any, part: str) -> Condition:
        """Call `_contains`."""
        return sa.func.mmsearch_contains(text, column_condition.folded(part)) == 1

    @staticmethod
    def holds(text: Any, part: str) -> Condition:
        """Look for its place."""
        return sa.func.instr(text, part) > 0

    @staticmethod
    def name_matches(path: Any, pattern: str) -> Condition:
        """Compare bytes at the end, or call SQLite's own GLOB, whose stars match slashes, too.

        Without a star at its beginning, it may take a part of the path for the name.
        """
        if pattern.startswith("*") and "*" not in pattern[1:]:
            ending = pattern[1:].encode()
            end = sa.func.substr(sa.type_coerce(path, sa.LargeBinary), -len(ending))
            return end == sa.literal(ending, sa.LargeBinary)
        return sa.func.glob(f"*/{pattern}", sa.cast(path, sa.Text)) == 1

    @staticmethod
    def unindexed(column: Any) -> Any:
        """Put a plus before it."""
        return UnaryExpression(column, operator=custom_op("+"), type_=column.type)

    @staticmethod
    def distinct(column: Any) -> sa.Select[Any]:
        """Look for the least value above the last: SQLite goes through all for DISTINCT."""
        found = sa.select(sa.func.min(column).label("value")).cte(recursive=True)
        above = sa.select(sa.func.min(column)).where(column > found.c.value).scalar_subquery()
        found = found.union_all(sa.select(above).where(found.c.value.is_not(None)))
        return sa.select(found.c.value)

    @staticmethod
    def read_integers(
        connection: sa.Connection, query: sa.Select[Any]
    ) -> tuple[NDArray[np.int64], ...]:
        """Let SQLite write them as text: an object a number takes several times as long."""
        rows = query.subquery()
        joined = sa.select(*(sa.func.group_concat(column) for column in rows.c))
        texts = connection.execute(joined).one()
        return tuple(map(_numbers_in, texts))

    @staticmethod
    def read_groups(
        connection: sa.Connection, query: sa.Select[Any]
    ) -> list[tuple[int, NDArray[np.int64]]]:
        """Read the numbers as text, too."""
        first, second = query.selected_columns
        grouped = query.with_only_columns(first, sa.func.group_concat(second)).group_by(first)
        return [(value, _numbers_in(text)) for value, text in connection.execute(grouped)]

    @staticmethod
    def create_text_index(connection: sa.Connection) -> None:
        """Create FTS5 tables whose tokenizer splits at spaces and leaves other scripts alone.

        They hold the words once more than the catalog does: FTS5 can drop a document from an index
        that does not only when given its words, and a later version may split these otherwise.
        """
        for table in (FILE_WORDS, ITEM_WORDS):
            columns = ", ".join(column.name for column in table.c if column.name != "rowid")
            connection.exec_driver_sql(
                f"CREATE VIRTUAL TABLE {table.name} USING fts5({columns}, tokenize = 'ascii')"
            )

    @staticmethod
    def document_count(
        table: sa.TableClause, all_of: Sequence[Sequence[Phrase]] = (), most: int | None = None
    ) -> sa.Executable:
        """Count matches, or the rows of FTS5's own table of sizes."""
        if not all_of:
            return sa.text(f"SELECT count(*) FROM {table.name}_docsize")
        if most is None:
            return _select_matches("count(*)", table, _all_of(all_of))
        return sa.text(
            f"SELECT count(*) FROM (SELECT 1 FROM {table.name} WHERE {table.name} MATCH "
            ":expression LIMIT :most)"
        ).bindparams(expression=_all_of(all_of), most=most)

    @staticmethod
    def documents_with(
        table: sa.TableClause,
        phrases: Sequence[Phrase],
        among: Sequence[Sequence[Sequence[Phrase]]],
    ) -> sa.Executable:
        """Match any of the phrases; where these are all that is wanted, only them."""
        expression = _any_phrase(phrases)
        if [phrases] not in among:
            expression += f" AND ({' OR '.join(map(_all_of, among))})"
        return _select_matches("rowid", table, expression)

    @staticmethod
    def text_scores(
        table: sa.TableClause, terms: Sequence[Term], *, any_of: Sequence[Term] = ()
    ) -> sa.Executable:
        """Score by BM25, which SQLite gives as negative numbers."""
        weights = ", ".join(map(str, WEIGHTS[table.name]))
        score = f"-bm25({table.name}, {weights})"
        expression = _any_of(terms)
        if any_of:
            # With each term twice, so that all keep their weights.
            others = [term for term in terms if term not in any_of]
            expression = f"{_any_of(any_of)} AND {_any_of([*any_of, *others, *others])}"
            score += " / 2"
        return _select_matches(
            f"rowid, {score} AS score", table, expression, "ORDER BY score DESC, rowid"
        )

    @contextmanager
    def _errors_explained(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DatabaseError as error:
            raise self._explain(str(error.orig)) from error
        except sqlite3.DatabaseError as error:  # from the hook that configures a connection
            raise self._explain(str(error)) from error

    def _explain(self, reason: str) -> LibraryError:
        if "locked" in reason or "busy" in reason:
            return LibraryLockedError(
                f"{self.location} is locked by another process. Wait for it to finish and try "
                "again."
            )
        if "full" in reason:
            return LibraryError(
                f"No space left on the disk of {self.location}. Free some and run the same command "
                "again: what was committed is kept."
            )
        if "disk I/O error" in reason:
            return LibraryError(
                f"{self.location} cannot be read or written: disk I/O error. There may be no space "
                "left on its disk, or the disk fails. What was committed is kept; run the same "
                "command again."
            )
        if "readonly" in reason or "unable to open" in reason:
            return LibraryError(
                f"{self.location} cannot be opened or written: {reason}. Check the permissions. A "
                "library on a read-only disk can be searched only if it was closed in good order."
            )
        return DamagedLibraryError(
            f"{self.location} is damaged: {reason}. Nothing was overwritten. Restore it from a "
            "backup, try `sqlite3 catalog.sqlite .recover`, or index the sources into a new "
            "library (`--library NEW_DIR`)."
        )


def _is_read_only_without_wal(path: Path) -> bool:
    """True if the catalog is read-only and has no WAL."""
    wal = path.with_name(f"{path.name}-wal")
    return path.exists() and not os.access(path.parent, os.W_OK) and not wal.exists()


def _read_note(note: Path) -> str:
    try:
        holder = json.loads(note.read_text(encoding="utf-8"))
        return f" (process {holder['pid']} on {holder['host']})"
    except (OSError, ValueError, KeyError):
        return ""


def _configure_connection(connection: Any, _record: object) -> None:
    # SQLAlchemy, not the driver, opens transactions: the driver would defer the write lock.
    connection.isolation_level = None
    for name, count, function in (
        ("mmsearch_glob", 2, path_glob.matches),
        ("mmsearch_contains", 2, _contains),
    ):
        connection.create_function(name, count, function, deterministic=True)


def _configure_writable_connection(connection: Any, record: object) -> None:
    _configure_connection(connection, record)
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _numbers_in(text: str | None) -> NDArray[np.int64]:
    return np.fromstring(text, np.int64, sep=",") if text else np.empty(0, np.int64)


def _contains(text: str | None, part: str) -> bool:
    return text is not None and part in column_condition.folded(text)


def _select_matches(
    columns: str, table: sa.TableClause, expression: str, order: str = ""
) -> sa.Executable:
    # Not built of SQLAlchemy's parts, which take longer than a search of a small library.
    return sa.text(
        f"SELECT {columns} FROM {table.name} WHERE {table.name} MATCH :expression {order}"
    ).bindparams(expression=expression)


def _any_of(terms: Sequence[Term]) -> str:
    return f"({' OR '.join(_any_phrase(term.phrases) for term in terms)})"


def _all_of(phrases: Sequence[Sequence[Phrase]]) -> str:
    return f"({' AND '.join(map(_any_phrase, phrases))})"


def _any_phrase(phrases: Sequence[Phrase]) -> str:
    """Write phrases in FTS5's language; they hold letters and digits only."""
    written = (f'"{words}" *' if is_prefix else f'"{words}"' for words, is_prefix in phrases)
    return f"({' OR '.join(written)})"
