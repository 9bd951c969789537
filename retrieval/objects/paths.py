"""Paths of objects: told from those of files, spelled in one way, taken apart."""

import os
import re
from urllib.parse import unquote

from retrieval.errors import UsageError

SCHEMES = ("s3", "gs", "az", "http", "https")
SHARD_ENDING = ".tar"

_URI = re.compile(r"(s3|gs|az|https?)://(?=[^/])", re.IGNORECASE)
_GIVEN = re.compile(r"(s3|gs|az|https?):/{1,2}(?=[^/])", re.IGNORECASE)
"""As `_URI`, or as `Path` spells one, which knows of no doubled slashes."""
_IN_SHARD = re.compile(r"\.tar/(?=.)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def is_uri(path: str) -> bool:
    """Return whether a path is that of an object outside of this machine."""
    return _URI.match(path) is not None


def is_object(path: str) -> bool:
    """Return whether a path is that of an object, and not of a file of this machine."""
    return is_uri(path) or shard_of(path) is not None


def is_web(path: str) -> bool:
    """Return whether a path is that of an object on a web server."""
    return path.startswith(("http://", "https://"))


def given_uri(path: str | os.PathLike[str]) -> str | None:
    """Return the URI that somebody gave as a path, spelled in one way; None for other paths.

    Scheme and host are in lower case, and no slash is at the end. Raises UsageError for an address
    that cannot be a source: with a user name or password, with a query, which of signed addresses
    is a credential, and with names that are no place (`..`).
    """
    given = os.fspath(path)
    found = _GIVEN.match(given)
    if found is None:
        return None
    scheme = found.group(1).lower()
    authority, slash, rest = given[found.end() :].partition("/")
    shown = f"{scheme}://{authority.rpartition('@')[2]}{slash}{rest.partition('?')[0]}"
    if "@" in authority:
        raise UsageError(
            f"{shown} has a user name or a password before it, which a library would keep. Give "
            "the address without; credentials come from the environment."
        )
    if is_web(f"{scheme}://") and ("?" in given or "#" in given):
        raise UsageError(
            f"{shown} was given with a query or a fragment, which cannot be a source: signed "
            "addresses hold credentials, and end. Give the address of a folder or file without it."
        )
    names = [name for name in rest.split("/") if name]
    meant = [unquote(name) if is_web(f"{scheme}://") else name for name in names]
    if (
        _CONTROL.search(given + "".join(meant))
        or {".", ".."}.intersection(meant)
        or any("/" in name for name in meant)
    ):
        raise UsageError(f"{shown!r} is no address of a folder or file.")
    if is_web(f"{scheme}://"):
        authority = authority.lower()
    return f"{scheme}://" + "/".join([authority, *names])


def is_ambiguous(uri: str) -> bool:
    """Return whether a client may ask for another place than the one below which a URI lies.

    Clients resolve `..`, also where it is written with percent signs or control characters.
    """
    if not is_web(uri):
        return not {".", ".."}.isdisjoint(uri.split("/"))
    try:
        given_uri(uri)
    except UsageError:
        return True
    return False


def parent_of(uri: str) -> str | None:
    """Return the URI of the folder that an object is in; None of a bucket or host itself."""
    above, _, name = uri.rpartition("/")
    return above if name and is_uri(above) else None


def shard_of(path: str) -> tuple[str, str] | None:
    """Split the path of a member into those of its shard and the member's name; None for others.

    A folder of this machine that is named like a shard is a folder. Whether what a URI names so is
    a shard, only its server knows.
    """
    root = _URI.match(path)
    start = path.find("/", root.end()) if root else 0
    found = _IN_SHARD.search(path, start) if start >= 0 else None
    if found is None:
        return None
    shard = path[: found.end() - 1]
    if root is None and os.path.isdir(shard):  # noqa: PTH112 - names need not be valid text
        return None
    return shard, path[found.end() :]


def is_shard(path: str) -> bool:
    """Return whether a path has the name of a shard."""
    return path.lower().endswith(SHARD_ENDING)
