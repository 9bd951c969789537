"""Database servers that this program may connect to: those that the user has named.

A library from a stranger is data: it can name a catalog on any server, and a password that is meant
for another one (`PGPASSWORD`) would be sent there. So nothing is asked of a database that the user
never named, with `--catalog` or `mmsearch trust`, which are recorded for this user, or in
MMSEARCH_TRUSTED_CATALOGS.
"""

import json
import os
from contextlib import suppress
from pathlib import Path
from shlex import quote

import platformdirs

from retrieval.catalog.dialects import is_url, open_dialect
from retrieval.errors import LibraryError, UsageError
from retrieval.files import write_atomically

VARIABLE = "MMSEARCH_TRUSTED_CATALOGS"
"""Environment variable: trusted URLs, separated by blanks. Child processes have it, too."""


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


def record_file() -> Path:
    """Where the URLs are recorded that this user has named."""
    return platformdirs.user_config_path("mmsearch", appauthor=False) / "trusted-catalogs.json"


def trusted_catalogs() -> list[str]:
    """List the URLs that the user has named, sorted."""
    return sorted({*_recorded(), *_of_process()})


def trust_catalog(url: str) -> None:
    """Trust a URL from now on; where it cannot be recorded, in this process and its children."""
    if url in trusted_catalogs():
        return
    os.environ[VARIABLE] = " ".join([*_of_process(), url])
    with suppress(OSError, RuntimeError):  # the last: this user has no home
        _write({*_recorded(), url})


def distrust_catalog(url: str) -> bool:
    """Forget a URL; returns whether it was recorded. Raises OSError."""
    if VARIABLE in os.environ:
        os.environ[VARIABLE] = " ".join(each for each in _of_process() if each != url)
    recorded = _recorded()
    if url not in recorded:
        return False
    _write(recorded - {url})
    return True


def require_trusted_catalog(url: str, library: Path) -> None:
    """Raise LibraryError for a catalog that a library names and the user never did."""
    if url in trusted_catalogs():
        return
    raise LibraryError(
        f"The library {library} has its catalog in {url[:300]}, which you have never named. "
        "Nothing was sent there. If you know where the library is from, allow it once: "
        f"`mmsearch trust {quote(url[:300])}` (for a service, set {VARIABLE})."
    )


def _of_process() -> list[str]:
    return os.environ.get(VARIABLE, "").split()


def _recorded() -> set[str]:
    try:
        urls = json.loads(record_file().read_text(encoding="utf-8"))
        return {url for url in urls if isinstance(url, str)}
    except (OSError, ValueError, TypeError, RuntimeError):  # the last: no home, nested too deeply
        return set()


def _write(urls: set[str]) -> None:
    file = record_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(sorted(urls), indent=1).encode(), durable=True)
