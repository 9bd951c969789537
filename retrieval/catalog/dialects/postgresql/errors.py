"""Say what an error of PostgreSQL means for a library, and what to do."""

from retrieval.errors import (
    DamagedLibraryError,
    LibraryError,
    LibraryLockedError,
    ReadOnlyLibraryError,
)

_UNREACHABLE = (
    LibraryError,
    (
        "Cannot use the catalog {location}: {reason}. Check that the server runs and can be "
        "reached, and that user, password (PGPASSWORD or ~/.pgpass) and database are right. What "
        "was committed is kept."
    ),
)
_MEANINGS: dict[tuple[str, ...], tuple[type[LibraryError], str]] = {
    ("55P03", "40001", "40P01"): (
        LibraryLockedError,
        "{location} is locked by another process. Wait for it to finish and try again.",
    ),
    ("25006", "42501"): (
        ReadOnlyLibraryError,
        "{location} may only be read here: {reason}. Nothing was changed. Connect as a user who "
        "may write, and to the primary server.",
    ),
    ("53100", "53200"): (
        LibraryError,
        "The server of {location} has no room left: {reason}. What was committed is kept; run the "
        "same command again.",
    ),
    ("53300",): (
        LibraryError,
        "{location} has too many connections: {reason}. Close some, or raise max_connections of "
        "its server.",
    ),
    ("54",): (LibraryError, "This is too large for {location}: {reason}."),
    ("08", "28", "3D", "57P"): _UNREACHABLE,
}
"""By the first characters of the error codes of PostgreSQL."""

_DAMAGED = (
    DamagedLibraryError,
    (
        "{location} is damaged: {reason}. Nothing was overwritten. Restore it from a backup of its "
        "server, or index the sources into a new library (`--library NEW_DIR`)."
    ),
)


def explain(location: str, error: BaseException) -> LibraryError:
    """Return the error of a library that an error of its database is.

    Args:
        location: the URL without a password.
        error: of psycopg; its message has no password.
    """
    import psycopg

    code = getattr(error, "sqlstate", None) or ""
    reason = str(error).strip().split("\n")[0][:300] or type(error).__name__
    is_cut_off = isinstance(error, psycopg.OperationalError) and not code
    kind, message = _UNREACHABLE if is_cut_off else _DAMAGED
    for codes, meaning in _MEANINGS.items():
        if code and code.startswith(codes):
            kind, message = meaning
    return kind(message.format(location=location, reason=reason))
