"""API keys: identity and scopes of a client. Only digests of the secrets are stored."""

import hashlib
import hmac
import logging
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TextIO

from retrieval.errors import UsageError

_LEAST_SECRET = 16
_CHECK_S = 1.0
_FORM = "NAME:SCOPES:SECRET, such as phone:read:... or admin:read,write:..."

_log = logging.getLogger("mmsearch")


class Scope(StrEnum):
    """Permission of a key: search and view (read), or change the library (write)."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True)
class Client:
    """An authenticated client.

    name: name of the key; None if no keys are configured. only: mark of the one file that it may
    read, of a ticket; None: any.
    """

    name: str | None
    scopes: frozenset[Scope]
    only: str | None = None


ANYONE = Client(None, frozenset(Scope))
"""Any client of a service without keys."""


class KeyRing:
    """The keys that a service accepts. An empty ring accepts anyone."""

    def __init__(self, clients_by_digest: Iterable[tuple[bytes, Client]] = ()) -> None:
        self._clients = list(clients_by_digest)

    def __bool__(self) -> bool:
        return bool(self._clients)

    def __iter__(self) -> Iterator[tuple[bytes, Client]]:
        """Yield the digest of each secret with its client."""
        return iter(self._clients)

    def client_of(self, secret: str) -> Client | None:
        """Find the client of a secret, in constant time."""
        digest = _digest(secret)
        found = None
        for known, client in self._clients:
            if hmac.compare_digest(known, digest):
                found = client
        return found


class KeyStore:
    """The keys of a service, read again when their file changes.

    A change that cannot be read is logged, and the keys before it stay valid.

    text, file: as of `read_keys`, whose errors the first reading raises.
    """

    def __init__(self, text: str, file: Path | None) -> None:
        self._text = text
        self._file = file
        self._state = _state_of(file)
        self._ring = read_keys(text, file)
        self._checked = time.monotonic()

    def __bool__(self) -> bool:
        return bool(self._ring)

    @property
    def ring(self) -> KeyRing:
        """The keys of now."""
        if self._file is not None and time.monotonic() >= self._checked + _CHECK_S:
            self._checked = time.monotonic()
            if _state_of(self._file) != self._state:
                self.reload()
        return self._ring

    def client_of(self, secret: str) -> Client | None:
        """Find the client of a secret, with the keys of now."""
        return self.ring.client_of(secret)

    def reload(self) -> None:
        """Read the keys again now."""
        self._state = _state_of(self._file)
        try:
            self._ring = read_keys(self._text, self._file)
        except UsageError as error:
            _log.warning("The API keys were not reloaded, those before stay valid: %s", error)
        else:
            _log.info("The API keys were reloaded.")


def _state_of(file: Path | None) -> tuple[int, ...] | None:
    """Describe a version of a file; None if there is none."""
    try:
        found = file.stat() if file is not None else None
    except OSError:
        return None
    return found and (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def read_keys(text: str, file: Path | None) -> KeyRing:
    """Read keys from the environment (`text`) and from a file: one per line, `#` for comments.

    Raises UsageError for a missing file or an invalid line, which is never shown.
    """
    lines = [(f"API key {number} of MMSEARCH_API_KEYS", word) for number, word in _words(text)]
    if file is not None:
        try:
            content = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise UsageError(f"The API keys in {file} cannot be read: {reason}.") from error
        lines += [
            (f"{file}, line {number}", line.strip())
            for number, line in enumerate(content.splitlines(), start=1)
            if line.strip() and not line.strip().startswith("#")
        ]
        if not lines:
            raise UsageError(f"There is no API key in {file}. The format of a line is {_FORM}.")
    ring = [_parse(place, line) for place, line in lines]
    names = [client.name for _, client in ring]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"Two API keys have the name {name}.")
    return KeyRing(ring)


def may_be_read_by_others(file: Path) -> bool:
    """Check whether other users of this machine can read a file (POSIX permissions)."""
    return os.name == "posix" and bool(file.stat().st_mode & 0o077)


def keep_private(output: TextIO) -> bool:
    """Let only its owner read the file that an output is redirected to.

    Returns whether others could read it; False for a terminal or a pipe.
    """
    try:
        status = os.fstat(output.fileno())
        if os.name != "posix" or not stat.S_ISREG(status.st_mode) or not status.st_mode & 0o077:
            return False
        os.fchmod(output.fileno(), 0o600)
    except (OSError, ValueError):  # another user's file, or no file at all
        return False
    return True


def new_key(name: str = "me") -> str:
    """Generate the line of a new key with all scopes."""
    return f"{name}:{','.join(Scope)}:{secrets.token_urlsafe(32)}"


def _words(text: str) -> Iterable[tuple[int, str]]:
    return enumerate(text.split(), start=1)


def _parse(place: str, line: str) -> tuple[bytes, Client]:
    name, _, rest = line.partition(":")
    scopes, _, secret = rest.partition(":")
    chosen = {scope.strip() for scope in scopes.split(",")}
    if not name or not secret or not chosen <= set(Scope):
        raise UsageError(f"{place} is not of the form {_FORM}.")
    if len(secret) < _LEAST_SECRET or not secret.isascii() or not secret.isprintable():
        raise UsageError(
            f"{place}: the secret of {name} must have at least {_LEAST_SECRET} ASCII characters. "
            "Generate one with `mmsearch serve --new-key`."
        )
    return _digest(secret), Client(name, frozenset(Scope(scope) for scope in chosen))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
