import pytest

from retrieval.catalog.dialects.postgresql.errors import explain
from retrieval.errors import (
    DamagedLibraryError,
    LibraryError,
    LibraryLockedError,
    ReadOnlyLibraryError,
)

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")

LOCATION = "postgresql://me@host/db"


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("LockNotAvailable", LibraryLockedError, "locked by another process"),
        ("SerializationFailure", LibraryLockedError, "locked by another process"),
        ("ReadOnlySqlTransaction", ReadOnlyLibraryError, "may only be read"),
        ("InsufficientPrivilege", ReadOnlyLibraryError, "may only be read"),
        ("DiskFull", LibraryError, "no room left"),
        ("TooManyConnections", LibraryError, "too many connections"),
        ("ProgramLimitExceeded", LibraryError, "too large"),
        ("AdminShutdown", LibraryError, "Check that the server runs"),
        ("InvalidPassword", LibraryError, "PGPASSWORD"),
        ("InvalidCatalogName", LibraryError, "database are right"),
        ("DataCorrupted", DamagedLibraryError, "is damaged"),
        ("UndefinedTable", DamagedLibraryError, "is damaged"),
    ],
)
def test_an_error_says_what_to_do(name, kind, message):
    error = getattr(psycopg.errors, name)("the reason\nDETAIL: more")
    found = explain(LOCATION, error)
    assert type(found) is kind
    assert message in str(found)
    assert LOCATION in str(found)
    assert "DETAIL" not in str(found)


def test_a_server_that_does_not_answer_has_no_error_code():
    found = explain(LOCATION, psycopg.OperationalError("connection refused"))
    assert type(found) is LibraryError
    assert "connection refused" in str(found)
