"""A catalog in an SQLite file, with FTS5 for full-text search.

WAL mode: readers never wait for the writer. A write takes the write lock at its start
(BEGIN IMMEDIATE), so that two writers meet at once and not at commit.
"""

import json
import os
import re
import socket
import sqlite3
import threading
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
import xxhash
from numpy.typing import NDArray
from sqlalchemy import event
from sqlalchemy.sql.elements import UnaryExpression
from sqlalchemy.sql.operators import custom_op

from retrieval.catalog import column_condition, path_glob
from retrieval.catalog.dialects.base import (
    Condition,
    Dialect,
    columns_for_driver,
    lost_commits_message,
)
from retrieval.catalog.dialects.commit_record import (
    CommitRecord,
    read_record,
    record_path,
    write_record,
)
from retrieval.catalog.fulltext.words import Phrase, Term
from retrieval.catalog.schema import FILE_WORDS, ITEM_WORDS, WEIGHTS
from retrieval.errors import (
    DamagedLibraryError,
    LibraryError,
    LibraryLockedError,
    ReadOnlyLibraryError,
    UsageError,
)
from retrieval.files import follow_folder

_WRITER_LOCK = "writer.lock"
_WRITER_NOTE = "writer.json"

_BUSY_TIMEOUT_S = 10

_MOST_OBJECTS = 1000
"""Tables and indices in a file; a catalog has fewer than 100."""

_DEFENCES = {
    "SQLITE_DBCONFIG_DEFENSIVE": True,
    "SQLITE_DBCONFIG_ENABLE_TRIGGER": False,
    "SQLITE_DBCONFIG_ENABLE_VIEW": False,
    "SQLITE_DBCONFIG_TRUSTED_SCHEMA": False,
}
"""How SQLite advises to open files from strangers (sqlite.org/security.html); Python 3.12."""


class SQLite(Dialect):
    """An SQLite file; the writer's lock is a file beside it."""

    def __init__(self, url: sa.URL) -> None:
        if url.database in {None, "", ":memory:"} or url.query:
            raise UsageError("Name the file of an SQLite catalog, without options: sqlite:///PATH.")
        self.location = str(url.database)
        self._path = Path(self.location)
        self.file_names = frozenset({self._path.name, _WRITER_LOCK, _WRITER_NOTE})
        self._url = url
        self._is_read_only = self._path.exists() and not os.access(self._path.parent, os.W_OK)
        self._opened: _Opened | None = None
        """What a reader without the right to write has opened."""
        self._reopened = 0
        if not self._is_read_only:
            self._engine = _engine(url, _configure_writable_connection)
        self._observer: sa.PoolProxiedConnection | None = None
        self._observer_lock = threading.RLock()

    def exists(self) -> bool:
        """True if the file exists."""
        return self._path.exists()

    def check_objects(self, tables: Collection[str]) -> None:
        """Refuse views, triggers, other virtual tables and computed columns of a file."""
        with self.connect(write=False) as connection:
            found = connection.exec_driver_sql(
                "SELECT type, name, substr(sql, 1, 10000) FROM sqlite_master LIMIT ?",
                (_MOST_OBJECTS + 1,),
            ).all()
            if len(found) > _MOST_OBJECTS:
                raise self._explain("it holds too many tables")
            for kind, name, sql in found:
                if not _is_known(kind, name, sql):
                    raise self._explain(
                        f"it holds the {kind} {str(name)[:80]!r}, which is not ours"
                    )
            for table in tables:
                columns = connection.exec_driver_sql(
                    "SELECT name FROM pragma_table_xinfo(?) WHERE hidden", (table,)
                )
                if column := columns.scalar():
                    raise self._explain(f"{table} has the computed column {str(column)[:80]!r}")

    @contextmanager
    def connect(self, *, write: bool) -> Iterator[sa.Connection]:
        """Run a transaction on a connection of its own."""
        if write and self._is_read_only:
            raise ReadOnlyLibraryError(
                f"{self.location} may only be read here: nothing was changed. Ask its owner, or "
                "check the permissions of the library's directory."
            )
        if write and not self._path.exists():
            # SQLite gives the files that it makes beside it the same permissions.
            with suppress(OSError):
                self._path.touch()
                follow_folder(self._path)
        recorded = None
        with self._errors_explained(), self._current_engine().begin() as connection:
            opened = self._opened
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
                before = _changes(connection)
                yield connection
                if write and connection.in_transaction() and _changes(connection) != before:
                    recorded = self._count_commit(connection)
            finally:
                if opened and opened.is_immutable and _stat(self._path) != opened.file:
                    raise LibraryLockedError(
                        f"{self.location} was changed by its owner while it was read. Try again."
                    )

        if recorded is not None:
            write_record(self._path, recorded)

    def _count_commit(self, connection: sa.Connection) -> CommitRecord:
        """Count a commit that is about to be made; commits that are lost stay counted."""
        commits = _commits(connection)
        connection.exec_driver_sql(f"PRAGMA user_version={commits + 1}")
        record = read_record(self._path)
        return CommitRecord(max(commits, record.commits if record else 0) + 1)

    def lost_commits(self) -> int:
        """Compare the catalog's count of commits with that of the file beside it."""
        record = read_record(self._path)  # first: the catalog's own count only grows
        if record is None:
            return 0
        with self.connect(write=False) as connection:
            commits = _commits(connection)
        return 0 if self.warning else max(0, record.commits - commits)

    def seal(self, *, most_bytes: int | None = None) -> None:
        """Keep a checksum of the pages, unless it has one already, or has lost commits."""
        record = read_record(self._path)
        if self._is_read_only or (record and record.checksum):
            return
        with self.connect(write=False) as connection:
            commits = _commits(connection)
            if (record is None or record.commits <= commits) and (
                most_bytes is None or _size_of(connection) <= most_bytes
            ):
                with suppress(MemoryError):
                    write_record(self._path, CommitRecord(commits, _checksum(connection)))

    def _differs_from_its_checksum(self) -> bool:
        record = read_record(self._path)
        if record is None or record.checksum is None:
            return False
        with self.connect(write=False) as connection, suppress(MemoryError):
            return _commits(connection) == record.commits and (
                _checksum(connection) != record.checksum
            )
        return False

    def version(self) -> int:
        """Return SQLite's count of the commits of all connections but the one that asks."""
        with self._observer_lock, self._errors_explained():
            engine = self._current_engine()
            if self._observer is None:
                self._observer = engine.raw_connection()
            cursor = self._observer.cursor()
            cursor.execute("PRAGMA data_version")
            [version] = cursor.fetchone() or (0,)
            cursor.close()
            # Of a connection of its own each time, it may begin again.
            return int(version) + (self._reopened << 32)

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

    def find_damage(self, *, repair: bool = False) -> list[str]:
        """Ask SQLite, which compares structure, indices and rules, and FTS5, which needs to write.

        Where nothing can be written now, the text index is not compared with its texts.
        """
        if repair:
            self._repair()
        found = []
        try:
            if lost := self.lost_commits():
                found.append(lost_commits_message(self.location, lost))
            if self._differs_from_its_checksum():
                found.append(
                    "its content is not what was written (its checksum differs): it was damaged on "
                    "the disk, or an earlier version of mmsearch has written to it. If nothing "
                    "else is told of it, paths, texts or dates may be wrong. `mmsearch index "
                    "--refresh-metadata` reads them again, and `--repair` takes it as it is"
                )
            with self.connect(write=False) as connection:
                told = connection.exec_driver_sql("PRAGMA integrity_check(20)").scalars().all()
                found += [str(line) for line in told if line != "ok"]
                broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
                for name in sorted({str(table) for table, *_ in broken}):
                    found.append(f"records of {name} name others that are not there")
        except DamagedLibraryError as error:
            return [*found, str(error)]
        for table in (FILE_WORDS, ITEM_WORDS):
            try:
                self._ask_text_index(table, "integrity-check")
            except DamagedLibraryError:
                found.append(f"the text index {table.name} does not agree with its texts")
            except LibraryError:
                continue
        if not found:
            with suppress(LibraryError):
                self.seal()
        return found

    def _repair(self) -> None:
        """Make indices again, and take the rest as it is from now on."""
        with suppress(DamagedLibraryError), self.connect(write=True) as connection:
            connection.exec_driver_sql("REINDEX")
        for table in (FILE_WORDS, ITEM_WORDS):
            with suppress(DamagedLibraryError):
                self._ask_text_index(table, "rebuild")
        with suppress(OSError):  # what was told is taken as it is from now on
            record_path(self._path).unlink(missing_ok=True)

    def _ask_text_index(self, table: sa.TableClause, command: str) -> None:
        with self.connect(write=True) as connection:
            connection.exec_driver_sql(
                f"INSERT INTO {table.name}({table.name}) VALUES('{command}')"
            )
            if command == "integrity-check":  # nothing was changed, though SQLite counts it
                connection.rollback()

    def back_up(self, file: Path) -> None:
        """Copy it with SQLite's backup API, in one step, and flush it to the disk."""
        with self._errors_explained():
            copy = sqlite3.connect(file)
            source = self._engine.raw_connection()
            try:
                connection = source.driver_connection
                assert isinstance(connection, sqlite3.Connection)
                connection.backup(copy)
            finally:
                source.close()
                copy.close()

    def close(self) -> None:
        """Close all connections."""
        with self._observer_lock:
            if self._observer is not None:
                self._observer.close()
                self._observer = None
            if self._opened is not None or not self._is_read_only:
                self._engine.dispose()

    def _current_engine(self) -> sa.Engine:
        """Return the engine; a reader without the right to write opens the file again if it must.

        SQLite needs a file beside the catalog to see what others write, and cannot create it where
        it may not write. While a writer has it open, the file is there and is used. Otherwise the
        catalog is read as immutable: nobody writes then. Each way ends when the other begins.
        """
        if not self._is_read_only:
            return self._engine
        with self._observer_lock:
            if self._opened is None or self._opened.is_outdated(self._path):
                if self._opened is not None:
                    self.close()
                    self._reopened += 1
                self._engine, self._opened = self._open_for_reading()
            return self._engine

    def _open_for_reading(self) -> "tuple[sa.Engine, _Opened]":
        file, wal = _stat(self._path), _stat(_wal_of(self._path))
        self.warning = None
        if wal is not None:
            engine = _engine(_read_only(self._url, self._path), _configure_connection)
            try:
                with engine.connect() as connection:
                    connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
                return engine, _Opened(file, wal, is_immutable=False)
            except sa.exc.OperationalError as error:
                engine.dispose()
                self.warning = (
                    f"{self.location} may only be read here, and what its owner has added last "
                    f"cannot be ({error.orig}): it is found as soon as the owner's `mmsearch` has "
                    "ended in good order."
                )
        url = _read_only(self._url, self._path, immutable="1")
        return _engine(url, _configure_connection), _Opened(file, wal, is_immutable=True)

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
    def truncated(number: Any) -> Any:
        """Cast it."""
        return sa.cast(number, sa.BigInteger)

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
    def insert_rows(
        connection: sa.Connection, table: Any, names: Sequence[str], rows: Iterable[tuple[Any, ...]]
    ) -> None:
        """Convert values a column at a time, and give the driver the rows as tuples."""
        clause: sa.TableClause = getattr(table, "__table__", table)
        columns = columns_for_driver(connection, clause, names, rows)
        if not columns:
            return
        statement = sa.insert(clause).values({name: sa.bindparam(name) for name in names})
        compiled = statement.compile(dialect=connection.dialect)
        in_order = [columns[names.index(name)] for name in compiled.positiontup or ()]
        connection.exec_driver_sql(str(compiled), list(zip(*in_order, strict=True)))

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
            "backup (`mmsearch restore`), try `sqlite3 catalog.sqlite .recover`, or index the "
            "sources into a new library (`--library NEW_DIR`)."
        )


def _changes(connection: sa.Connection) -> int:
    """Return how many rows a connection has changed since it was opened."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver.total_changes


def _commits(connection: sa.Connection) -> int:
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())


def _size_of(connection: sa.Connection) -> int:
    pages, size = (
        int(connection.exec_driver_sql(f"PRAGMA {name}").scalar_one())
        for name in ("page_count", "page_size")
    )
    return pages * size


def _checksum(connection: sa.Connection) -> str:
    """Compute xxh3-128 of all pages as a transaction sees them, those of the log included.

    SQLite reads them: to open and close its file beside it would drop its locks (POSIX). Raises
    MemoryError above 2 GB.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return xxhash.xxh3_128_hexdigest(driver.serialize())


_Stat = tuple[int, int, int]
"""Inode, size, and time in ns of the last change of a file."""


@dataclass(frozen=True)
class _Opened:
    """How a reader without the right to write has opened a catalog, and its files then.

    wal: the write-ahead log, which is there only while somebody has the catalog open.
    """

    file: _Stat | None
    wal: _Stat | None
    is_immutable: bool

    def is_outdated(self, path: Path) -> bool:
        """Tell whether it must be opened again to see changes; SQLite itself follows a log."""
        file, wal = _stat(path), _stat(_wal_of(path))
        if self.is_immutable:
            return file != self.file or (wal and wal[0]) != (self.wal and self.wal[0])
        return (file and file[0], wal and wal[0]) != (
            self.file and self.file[0],
            self.wal and self.wal[0],
        )


def _wal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _stat(path: Path) -> _Stat | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _engine(url: sa.URL, configure: Callable[[Any, object], None]) -> sa.Engine:
    engine = sa.create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_S})
    event.listen(engine, "connect", configure)
    return engine


def _read_only(url: sa.URL, path: Path, **options: str) -> sa.URL:
    return url.set(
        database=path.absolute().as_uri(), query={"mode": "ro", "uri": "true", **options}
    )


def _read_note(note: Path) -> str:
    try:
        holder = json.loads(note.read_text(encoding="utf-8"))
        return f" (process {holder['pid']} on {holder['host']})"
    except (OSError, ValueError, KeyError):
        return ""


def _configure_connection(connection: Any, _record: object) -> None:
    # SQLAlchemy, not the driver, opens transactions: the driver would defer the write lock.
    connection.isolation_level = None
    for setting, value in _DEFENCES.items():
        if hasattr(connection, "setconfig") and hasattr(sqlite3, setting):
            connection.setconfig(getattr(sqlite3, setting), value)
    connection.execute("PRAGMA trusted_schema=OFF").close()
    connection.execute("PRAGMA cell_size_check=ON").close()
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


def _is_known(kind: object, name: object, sql: object) -> bool:
    """Return whether an object of a file is a plain table, an index, or a full-text table of ours.

    Views and triggers compute whatever their author likes, and so do virtual tables.
    """
    if kind not in {"table", "index"}:
        return False
    if not re.match(r"\s*CREATE\s+VIRTUAL", str(sql), re.IGNORECASE):
        return True
    own = {FILE_WORDS.name, ITEM_WORDS.name}
    return name in own and re.search(r"\bUSING\s+fts5\s*\(", str(sql), re.IGNORECASE) is not None


def _numbers_in(text: str | None) -> NDArray[np.int64]:
    if not text:
        return np.empty(0, np.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it ends at what is no number
        numbers = np.fromstring(text, np.int64, sep=",")
    if len(numbers) != text.count(",") + 1:
        raise ValueError("a value that is no integer")
    return numbers


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
