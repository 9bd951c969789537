"""Tickets: addresses of single files that need no API key, for a while.

A `<video>`, a link to a document and a download cannot send the header that holds the key, and
a key in an address would be copied with it. A ticket opens one file for reading until it expires,
its key is removed, or the service ends.
"""

import hashlib
import hmac
import math
import re
import secrets
import time
from urllib.parse import parse_qs

from starlette.types import Scope as ASGIScope

from api.http.middleware.keys import Client, KeyStore, Scope

VALID_S = 12 * 3600
"""How long a ticket is valid: a film that was paused goes on."""

_PATH = re.compile(r".*/items/[0-9]{1,18}/file", re.ASCII)
_TICKET = re.compile(r"([0-9]{1,12})\.([0-9a-f]{32})\.([0-9a-f]{64})", re.ASCII)


def mark_of(file: str) -> str:
    """Mark a file by its path: the id of a deleted item may become that of another file's item."""
    return hashlib.sha256(file.encode("utf-8", "surrogateescape")).hexdigest()[:32]


class Tickets:
    """Issues and checks the tickets of a service that has API keys."""

    def __init__(self, keys: KeyStore) -> None:
        self._keys = keys
        self._secret = secrets.token_bytes(32)

    def issue(self, client: Client, path: str, file: str) -> tuple[str, int]:
        """Make a ticket for a file, at a path of the service, and say when it expires.

        Returns the ticket, for the parameter `ticket`, and its end in seconds since 1970.
        """
        ends = math.ceil(time.time()) + VALID_S
        digests = (digest for digest, known in self._keys.ring if known.name == client.name)
        digest = next(digests, b"")  # of a key that was removed meanwhile: no ticket of its own
        mark = mark_of(file)
        return f"{ends}.{mark}.{self._sign(digest, path, ends, mark)}", ends

    def client_of(self, scope: ASGIScope) -> Client | None:
        """Return the client whose ticket a request for a file has, with the right to read alone."""
        if scope["method"] not in {"GET", "HEAD"} or not _PATH.fullmatch(scope["path"]):
            return None
        query = scope.get("query_string", b"").decode("latin-1")
        given = _TICKET.fullmatch(parse_qs(query).get("ticket", [""])[0])
        if given is None or int(given[1]) < time.time():
            return None
        found = None
        for digest, client in self._keys.ring:
            signed = self._sign(digest, scope["path"], int(given[1]), given[2])
            if hmac.compare_digest(signed, given[3]) and Scope.READ in client.scopes:
                found = Client(client.name, frozenset({Scope.READ}), given[2])
        return found

    def _sign(self, digest: bytes, path: str, ends: int, mark: str) -> str:
        message = f"{ends} {mark} {path}".encode("utf-8", "surrogateescape")
        return hmac.new(self._secret + digest, message, hashlib.sha256).hexdigest()
