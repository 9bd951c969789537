"""What a database must offer to hold a catalog, beyond standard SQL."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from retrieval.catalog.fulltext.words import Phrase, Term
from retrieval.errors import LibraryError

Condition = sa.ColumnElement[bool]


def lost_commits_message(location: str, lost: int) -> str:
    """Say that a database has lost commits, and what to do."""
    return (
        f"{location} is older than it was: the last {lost:,} of its changes are missing. Its "
        "write-ahead log was damaged or deleted, or an older copy took its place. `mmsearch index` "
        "reads again what is missing; remove again what came back, or restore the library from a "
        "backup. `mmsearch check --repair` then ends this warning"
    )


def columns_for_driver(
    connection: sa.Connection,
    table: sa.TableClause,
    names: Sequence[str],
    rows: Iterable[tuple[Any, ...]],
) -> list[Iterable[Any]]:
    """Turn rows of values as Python has them into columns of values as the driver takes them."""
    columns: list[Iterable[Any]] = list(zip(*rows, strict=True))
    for place, name in enumerate(names if columns else ()):
        kind = table.c[name].type.dialect_impl(connection.dialect)
        if processor := kind.bind_processor(connection.dialect):
            columns[place] = map(processor, columns[place])
    return columns


class Dialect(ABC):
    """An open database, and the SQL that only databases of its kind understand.

    Conditions are never NULL where the column is not.
    """

    location: str
    """Names the database in messages."""
    file_names: frozenset[str] = frozenset()
    """Files in the directory of the library; others of the database have names that begin so."""
    has_password: bool = False
    """Whether the URL that it was opened by has one."""
    warning: str | None = None
    """What readers cannot see of the database as it is now, and why."""

    @abstractmethod
    def __init__(self, url: sa.URL) -> None:
        """Prepare to use a database; connects later. Raises UsageError for an unusable URL."""

    def check_objects(self, tables: Collection[str]) -> None:  # noqa: B027 - few need it
        """Raise DamagedLibraryError for what a catalog from a stranger could hold beside tables.

        tables: the names of those that this version knows. Nothing to do where a catalog is no file
        that is sent around.
        """

    @abstractmethod
    def exists(self) -> bool:
        """True if the database exists; the first connection may create it."""

    @abstractmethod
    def connect(self, *, write: bool) -> AbstractContextManager[sa.Connection]:
        """Run a transaction: commit at the end, roll back on any exception.

        A reader sees one state throughout and never waits for a writer; a writer takes the write
        lock at the start. Raises LibraryLockedError when another transaction holds it for too long,
        DamagedLibraryError or LibraryError for other errors of the database.
        """

    @abstractmethod
    def version(self) -> int:
        """Return a number that changes with every commit, whoever makes it, while this lives.

        A reader that connects after the call sees that version or a later one.
        """

    @abstractmethod
    def writer(self) -> AbstractContextManager[None]:
        """Hold the lock of the library's only writer; the end of the process releases it.

        Raises LibraryLockedError at once when another process holds it.
        """

    @abstractmethod
    def find_damage(self, *, repair: bool = False) -> list[str]:
        """Check the whole database and return what is wrong, a sentence each.

        repair: first make again what follows from the rest, such as indices.
        """

    def claim(self, directory: Path) -> None:  # noqa: B027 - few need it
        """Record that this is the catalog of the library in a directory, which is new.

        Raises UsageError where it is that of another one. Nothing to do where a catalog lies in the
        directory of its library.
        """

    def lost_commits(self) -> int:
        """Count commits that were made, and that the database does not know of any more.

        0 where a database guards its own log.
        """
        return 0

    def seal(self, *, most_bytes: int | None = None) -> None:  # noqa: B027 - few need it
        """Keep a checksum of the database as it is now, which `find_damage` compares.

        most_bytes: leave it for a larger one, which takes its time and memory.
        """

    def back_up(self, file: Path) -> None:
        """Copy the database as it is at one instant to a new file, while others read and write.

        Raises LibraryError where a database has tools of its own for that.
        """
        raise LibraryError(
            f"{self.location} is not a file: `mmsearch backup` cannot copy it. Back it up with the "
            "tools of its database (`pg_dump --schema=NAME` for PostgreSQL), and copy the "
            "library's directory after it: what the catalog names is in there."
        )

    @abstractmethod
    def close(self) -> None:
        """Close all connections."""

    @staticmethod
    @abstractmethod
    def path_matches(path: Any, pattern: str) -> Condition:
        """Compare a column of paths with a glob; `path_glob` says what it means."""

    @staticmethod
    @abstractmethod
    def contains(text: Any, part: str) -> Condition:
        """Search a column of texts for a part, ignoring case; False for NULL."""

    @staticmethod
    @abstractmethod
    def holds(text: Any, part: str) -> Condition:
        """Search a column of texts for a part as it is written."""

    @staticmethod
    @abstractmethod
    def name_matches(path: Any, pattern: str) -> Condition:
        """Compare the names in a column of paths with ASCII characters and `*` for any."""

    @staticmethod
    @abstractmethod
    def unindexed(column: Any) -> Any:
        """Return a column as an expression that no index is used for."""

    @staticmethod
    @abstractmethod
    def truncated(number: Any) -> Any:
        """Return the integer part of a number, which is the nearer one to 0."""

    @staticmethod
    def distinct(column: Any) -> sa.Select[Any]:
        """Select the distinct values of a column, by its index; NULL may be among them.

        Takes time by the number of the values: looks for the least value above the last, where
        databases go through all rows for DISTINCT.
        """
        found = sa.select(sa.func.min(column).label("value")).cte(recursive=True)
        above = sa.select(sa.func.min(column)).where(column > found.c.value).scalar_subquery()
        found = found.union_all(sa.select(above).where(found.c.value.is_not(None)))
        return sa.select(found.c.value)

    @staticmethod
    @abstractmethod
    def read_integers(
        connection: sa.Connection, query: sa.Select[Any]
    ) -> tuple[NDArray[np.int64], ...]:
        """Run a query for many rows of integers that are never NULL; an (n,) array a column."""

    @staticmethod
    @abstractmethod
    def read_groups(
        connection: sa.Connection, query: sa.Select[Any]
    ) -> list[tuple[int, NDArray[np.int64]]]:
        """Run a query for many pairs of integers; returns the second ones of each first one."""

    @staticmethod
    @abstractmethod
    def insert_rows(
        connection: sa.Connection, table: Any, names: Sequence[str], rows: Iterable[tuple[Any, ...]]
    ) -> None:
        """Insert many rows, in a fraction of the time that SQLAlchemy takes for mappings.

        Args:
            connection: of a transaction.
            table: the table or its class.
            names: columns, in the order of the values.
            rows: values as Python has them.
        """

    @staticmethod
    @abstractmethod
    def create_text_index(connection: sa.Connection) -> None:
        """Create the tables `FILE_WORDS` and `ITEM_WORDS` of `schema`.

        They are written with plain INSERT and DELETE.
        """

    @staticmethod
    @abstractmethod
    def document_count(
        table: sa.TableClause, all_of: Sequence[Sequence[Phrase]] = (), most: int | None = None
    ) -> sa.Executable:
        """Count the documents of a table, in little time, or those that match.

        all_of: a document must hold one phrase of each. most: where to stop counting.
        """

    @staticmethod
    @abstractmethod
    def documents_with(
        table: sa.TableClause,
        phrases: Sequence[Phrase],
        among: Sequence[Sequence[Sequence[Phrase]]],
    ) -> sa.Executable:
        """Select the ids (rowid) of the documents that hold one of some phrases in any column.

        among: only documents that hold, of one of these, one phrase of each.
        """

    @staticmethod
    @abstractmethod
    def text_scores(
        table: sa.TableClause, terms: Sequence[Term], *, any_of: Sequence[Term] = ()
    ) -> sa.Executable:
        """Select the ids (rowid) and scores of documents that hold terms, best first.

        Args:
            table: `FILE_WORDS` or `ITEM_WORDS`; `WEIGHTS` has the weights of its columns.
            terms: What is searched for; each that a document holds adds to its score.
            any_of: Only documents that hold one of these, which are among the terms.

        Returns:
            Scores are BM25 or the like: positive, comparable within one query.
        """
