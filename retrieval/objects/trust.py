"""Servers that this program may connect to: those that the user has named.

A library from a stranger is data: it can name sources anywhere, also inside the network of whoever
opens it. Nothing is asked of a source that the user never named, with `mmsearch index`, `mmsearch
trust` or `--index-below`, all of which are recorded for this user, or in MMSEARCH_TRUSTED_SOURCES.
"""

import errno
import json
import os
import re
from contextlib import suppress
from pathlib import Path

import platformdirs

from retrieval.files import write_atomically
from retrieval.objects.paths import given_uri

_BETWEEN_URIS = re.compile(r"\s+(?=[A-Za-z0-9]+://)")
"""Keys of a store may hold blanks."""
VARIABLE = "MMSEARCH_TRUSTED_SOURCES"
"""Environment variable: trusted URIs, separated by blanks. Child processes have it, too."""


def record_file() -> Path:
    """Where the URIs are recorded that this user has named."""
    return platformdirs.user_config_path("mmsearch", appauthor=False) / "trusted-sources.json"


def trusted_uris() -> list[str]:
    """List the URIs that the user has named, sorted."""
    return sorted({*_recorded(), *_of_process()})


def is_trusted_uri(uri: str) -> bool:
    """Return whether a URI is a trusted one or lies below one."""
    return any(uri == each or uri.startswith(each + "/") for each in trusted_uris())


def trust_uri(uri: str) -> None:
    """Trust a URI from now on; where it cannot be recorded, in this process and its children."""
    if is_trusted_uri(uri):
        return
    os.environ[VARIABLE] = " ".join([*_of_process(), uri])
    with suppress(OSError):
        record_uri(uri)


def record_uri(uri: str) -> None:
    """Record a URI as trusted by this user; raises OSError where that is not possible."""
    try:
        _write({*_recorded(), uri})
    except RuntimeError as error:  # this user has no home
        raise OSError(errno.ENOENT, "this user has no home directory") from error


def distrust_uri(uri: str) -> bool:
    """Forget a URI; returns whether it was recorded. Raises OSError."""
    kept = [each for each in _of_process() if each != uri]
    if VARIABLE in os.environ:
        os.environ[VARIABLE] = " ".join(kept)
    recorded = _recorded()
    if uri not in recorded:
        return False
    _write(recorded - {uri})
    return True


def require_trusted_uri(uri: str) -> None:
    """Raise PermissionError for a URI that a library names and the user never did."""
    if not is_trusted_uri(uri):
        raise PermissionError(
            errno.EACCES,
            "it was not connected to, since you have never named it; if you know where this "
            "library is from, allow its source once with `mmsearch trust URI`, for a service "
            f"with {VARIABLE}",
        )


def _of_process() -> list[str]:
    uris = _BETWEEN_URIS.split(os.environ.get(VARIABLE, "").strip())
    return [uri for uri in map(given_uri, uris) if uri is not None]


def _recorded() -> set[str]:
    try:
        uris = json.loads(record_file().read_text(encoding="utf-8"))
        return {uri for uri in uris if isinstance(uri, str)}
    except (OSError, ValueError, TypeError, RuntimeError):
        return set()


def _write(uris: set[str]) -> None:
    file = record_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(sorted(uris), indent=1).encode(), durable=True)
