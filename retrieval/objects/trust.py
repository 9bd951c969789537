"""Servers that this program may connect to: those that the user has named.

A library from a stranger is data: it can name sources anywhere, also inside the network of whoever
opens it. Nothing is asked of a source that the user never named, with `mmsearch index`, `mmsearch
trust` or `--index-below`, all of which are recorded for this user, or in MMSEARCH_TRUSTED_SOURCES.
"""

import errno

from retrieval.objects.paths import given_uri, is_ambiguous
from retrieval.objects.trusted_addresses import TrustedAddresses

SOURCES = TrustedAddresses("MMSEARCH_TRUSTED_SOURCES", "trusted-sources.json")
"""URIs of sources that the user has named."""


def is_trusted_uri(uri: str) -> bool:
    """Return whether a URI is a trusted one or lies below one, also where `..` has led."""
    if is_ambiguous(uri):
        return False
    trusted = (given_uri(each) for each in SOURCES.all())
    return any(uri == each or uri.startswith(f"{each}/") for each in trusted if each is not None)


def trust_uri(uri: str) -> None:
    """Trust a URI from now on; where that cannot be recorded, in this process and its children."""
    if not is_trusted_uri(uri):
        SOURCES.add(uri)


def require_trusted_uri(uri: str) -> None:
    """Raise PermissionError for a URI that a library names and the user never did."""
    if is_ambiguous(uri):
        raise PermissionError(
            errno.EACCES, "it was not connected to, since its address may lead elsewhere"
        )
    if not is_trusted_uri(uri):
        raise PermissionError(
            errno.EACCES,
            "it was not connected to, since you have never named it; if you know where this "
            "library is from, allow its source once with `mmsearch trust URI`, for a service "
            f"with {SOURCES.variable}",
        )
