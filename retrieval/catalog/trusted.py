"""Database servers that this program may connect to: those that the user has named.

A library from a stranger is data: it can name a catalog on any server, and a password that is meant
for another one (`PGPASSWORD`) would be sent there. So nothing is asked of a database that the user
never named, with `--catalog` or `mmsearch trust`, which are recorded for this user, or in
MMSEARCH_TRUSTED_CATALOGS.
"""

from pathlib import Path
from shlex import quote

from retrieval.catalog.dialects import is_url, open_dialect
from retrieval.errors import LibraryError, UsageError
from retrieval.objects.trusted_addresses import TrustedAddresses

CATALOGS = TrustedAddresses("MMSEARCH_TRUSTED_CATALOGS", "trusted-catalogs.json")
"""URLs of databases that the user has named."""


def given_catalog(given: str) -> str:
    """Return the URL of a catalog that somebody gave, spelled in one way.

    Raises UsageError for what is no URL of a database server, and for one with a password.
    """
    if not is_url(given):
        raise UsageError(
            "A catalog is named by the URL of a database: "
            "postgresql://USER@HOST/DATABASE?schema=NAME."
        )
    dialect = open_dialect(given)
    dialect.close()
    if dialect.file_names:
        raise UsageError("SQLite needs no URL: it is what libraries have without `--catalog`.")
    if dialect.has_password:
        raise UsageError(
            f"Leave the password out: the library would keep it. Name {dialect.location} and set "
            "PGPASSWORD, or write a line into ~/.pgpass."
        )
    return dialect.location


def require_trusted_catalog(url: str, library: Path) -> None:
    """Raise LibraryError for a catalog that a library names and the user never did."""
    if url in CATALOGS.all():
        return
    raise LibraryError(
        f"The library {library} has its catalog in {url[:300]}, which you have never named. "
        "Nothing was sent there. If you know where the library is from, allow it once: "
        f"`mmsearch trust {quote(url[:300])}` (for a service, set {CATALOGS.variable})."
    )
