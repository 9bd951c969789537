"""Say what an error of PostgreSQL means for a library, and what to do."""

from retrieval.errors import (
    DamagedLibraryError,
    LibraryError,
    LibraryLockedError,
    ReadOnlyLibraryError,
)

_NO_ACCESS = ("28", "3D", "42501")
_NO_ROOM = ("53100", "53200")
_TOO_MANY = "53300"
_LOCKED = ("55P03", "40001", "40P01")
_READ_ONLY = ("25006", "42501")
_TOO_LONG = "54"
_CUT_OFF = ("08", "57P")


def explain(location: str, error: BaseException) -> LibraryError:
    """Return the error of a library that an error of its database is.

    Args:
        location: the URL without a password.
        error: of psycopg; its message has no password.
    """
    import psycopg

    code = getattr(error, "sqlstate", None) or ""
    reason = str(error).strip().split("\n")[0][:300] or type(error).__name__
    if code.startswith(_LOCKED):
        return LibraryLockedError(
            f"{location} is locked by another process. Wait for it to finish and try again."
        )
    if code in _READ_ONLY:
        return ReadOnlyLibraryError(
            f"{location} may only be read here: {reason}. Nothing was changed. Connect as a user "
            "who may write, and to the primary server."
        )
    if code in _NO_ROOM:
        return LibraryError(
            f"The server of {location} has no room left: {reason}. What was committed is kept; "
            "run the same command again."
        )
    if code == _TOO_MANY:
        return LibraryError(
            f"{location} has too many connections: {reason}. Close some, or raise "
            "max_connections of the server."
        )
    if code.startswith(_TOO_LONG):
        return LibraryError(f"The query is too long for {location}: {reason}.")
    is_cut_off = isinstance(error, psycopg.OperationalError) and not code
    if is_cut_off or code.startswith((*_CUT_OFF, *_NO_ACCESS)):
        return LibraryError(
            f"Cannot use the catalog {location}: {reason}. Check that the server runs and can be "
            "reached, and that user, password (PGPASSWORD or ~/.pgpass) and database are right. "
            "What was committed is kept."
        )
    return DamagedLibraryError(
        f"{location} is damaged: {reason}. Nothing was overwritten. Restore it from a backup of "
        "its server, or index the sources into a new library (`--library NEW_DIR`)."
    )
