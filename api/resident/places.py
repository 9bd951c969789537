"""Where the Unix sockets of running services are. Imports little: the terminal waits for it."""

import os
import socket
import stat
import struct

OFF = "MMSEARCH_RESIDENT"
"""Environment variable: `off` lets no command ask a running service."""

_LONGEST = 100
"""Bytes of the longest path of a socket: Linux takes 107, macOS 103."""
_CREDENTIALS = "3i"


def is_possible() -> bool:
    """Return whether this system has what is needed, and the user does not refuse it."""
    return (
        hasattr(socket, "AF_UNIX")
        and hasattr(os, "fork")
        and os.environ.get(OFF, "").lower() not in {"off", "0", "no", "never"}
    )


def runtime_directory() -> str | None:
    """Return the directory for sockets of this user alone; None if there can be none."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and os.path.isabs(base):
        directory = os.path.join(base, "mmsearch")
    else:
        temporary = os.environ.get("TMPDIR") or "/tmp"
        directory = os.path.join(temporary, f"mmsearch-run-{os.geteuid()}")
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        found = os.lstat(directory)
    except OSError:
        return None
    is_private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
    return directory if is_private and found.st_uid == os.geteuid() else None


def library_sockets(library: str, version: str) -> list[str]:
    """List where the socket of a library's service can be, the best place first.

    The version is a part of the name, so that a program never asks a service of another one.
    """
    import hashlib

    places = [os.path.join(library, f"service-{version}.sock")]
    if directory := runtime_directory():
        digest = hashlib.sha256(os.fsencode(os.path.realpath(library))).hexdigest()[:16]
        places.append(os.path.join(directory, f"library-{digest}-{version}.sock"))
    return [place for place in places if len(os.fsencode(place)) <= _LONGEST]


def listen(place: str) -> socket.socket | None:
    """Listen on a socket that this user alone can use; None if another process does.

    A socket that nobody listens on any more is replaced. Raises OSError where there can be none.
    """
    if os.path.lexists(place):
        found = os.lstat(place)
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
            raise FileExistsError(f"{place} is no socket of this user")
        if _has_listener(place):
            return None
        os.unlink(place)
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.bind(place)
        os.chmod(place, 0o600)
        listening.listen(64)  # nobody can connect before this
    except OSError:
        listening.close()
        raise
    return listening


def connect(place: str, timeout_s: float) -> socket.socket | None:
    """Connect to a socket of this user; None if nobody listens there."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout_s)
    try:
        found = os.lstat(place)
        # A link in a library of a stranger could lead to a socket of another library or program.
        if stat.S_ISSOCK(found.st_mode) and found.st_uid == os.geteuid():
            connection.connect(place)
            if is_of_this_user(connection):
                return connection
    except OSError:
        pass
    connection.close()
    return None


def _has_listener(place: str) -> bool:
    """Return whether a process listens on a socket; one that is too busy to answer does."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(place)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
        return True


def is_of_this_user(connection: socket.socket) -> bool:
    """Return whether the other end is a process of this user, as far as the system tells."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True  # the permissions of the socket have decided
    size = struct.calcsize(_CREDENTIALS)
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    user: int = struct.unpack(_CREDENTIALS, found)[1]
    return user == os.geteuid()
