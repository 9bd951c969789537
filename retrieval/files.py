"""Atomic and durable writes of files, checksums behind them, their names and permissions."""

import os
import re
import stat
import tempfile
import tomllib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import file_digest
from pathlib import Path
from typing import Any, BinaryIO

import platformdirs
import xxhash

from retrieval.errors import DamagedLibraryError, UsageError

PRIVATE_FOLDER = 0o700
"""Permissions of a directory that only its owner may use."""
SHARED_FOLDER = 0o2770
"""Permissions of a directory that its group may use; what is made in it gets its group."""

UNFINISHED_SUFFIX = ".new"
"""Suffix of a file that is being written; a killed process may leave one behind."""

GIVEN = "vectors:"
"""Begins the encoder's name of a space whose vectors were added, and the paths of items that are of
no file."""

_MOST_TOML_BYTES = 1 << 16


def read_toml(file: Path) -> dict[str, Any]:
    """Read a small TOML file that may be from a stranger, in bounded time.

    Raises OSError where it cannot be read, ValueError where it is no such file.
    """
    if file.exists() and not file.is_file():  # opening a named pipe would wait for its writer
        raise ValueError("it is not a regular file")
    with file.open("rb") as stream:
        content = stream.read(_MOST_TOML_BYTES + 1)
    if len(content) > _MOST_TOML_BYTES:
        raise ValueError(f"it is larger than {_MOST_TOML_BYTES:,} bytes")
    try:
        return tomllib.loads(content.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def require_plain_name(name: str) -> str:
    """Return a name that stands in a catalog, if it is a file name and no path.

    Raises DamagedLibraryError for any other: a library from a stranger may not lead out of it.
    """
    if re.fullmatch(r"[\w-][\w.-]{0,199}", name, re.ASCII) is None:
        raise DamagedLibraryError(
            f"The library's catalog has {name[:80]!r} where the name of a file belongs. Nothing "
            "was read or written. Restore the library from a backup, or index the sources into a "
            "new one (`--library NEW_DIR`)."
        )
    return name


_SEAL = b"xxh3"
_SEAL_BYTES = len(_SEAL) + 16


def valid_text(path: str) -> str:
    """Escape bytes of a file name that are not valid UTF-8, since JSON has no raw bytes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def expand_home(path: Path) -> Path:
    """Replace `~` and `~USER` at the beginning of a path; raises ValueError if it has no home."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError(
            f"{path} cannot be resolved: there is no such home directory. Write the whole path"
        ) from None


def has_home() -> bool:
    """Return whether this user has a home directory: one of a container may have none."""
    return os.path.expanduser("~") != "~"  # noqa: PTH111 - a Path raises


def user_data_directory() -> Path:
    """Return the directory for data of this user; raises UsageError without a home directory."""
    try:
        return Path(platformdirs.user_data_dir("mmsearch", appauthor=False))
    except RuntimeError:
        raise UsageError(
            "This user has no home directory, so there is no default library. Name one with "
            "`--library DIR` or MMSEARCH_LIBRARY, or set HOME."
        ) from None


def user_cache_directory() -> Path:
    """Return the directory for caches of this user: without a home directory, a temporary one."""
    try:
        return platformdirs.user_cache_path("mmsearch", appauthor=False)
    except RuntimeError:
        return temporary_home() / ".cache" / "mmsearch"


def temporary_home() -> Path:
    """Return a directory that stands for a missing home: of this user alone, and the same again."""
    directory = Path(tempfile.gettempdir()) / f"mmsearch-{os.geteuid()}"
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
    except OSError:
        return directory  # nothing can be written: caches stay empty
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022:
        return directory
    return Path(tempfile.mkdtemp(prefix="mmsearch-"))  # another user was faster with the name


def write_atomically(file: Path, content: bytes, *, durable: bool = False) -> None:
    """Replace or create a file atomically; options as of `replacing`."""
    with replacing(file, durable=durable) as unfinished:
        unfinished.write_bytes(content)


@contextmanager
def replacing(file: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path in the same directory, which replaces the file at the end.

    durable: content and name survive a power cut (fsync). After an exception the file is unchanged.
    """
    unfinished = file.with_name(f"{file.name}.{uuid.uuid4().hex[:8]}{UNFINISHED_SUFFIX}")
    try:
        yield unfinished
        follow_folder(unfinished)
        if durable:
            with unfinished.open("r+b") as stream:
                os.fsync(stream.fileno())
        unfinished.replace(file)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    if durable:
        flush_names(file.parent)


def sealed(content: bytes) -> bytes:
    """Append a checksum to the content of a file: 4 bytes that say so, and xxh3-128."""
    return content + _SEAL + xxhash.xxh3_128_digest(content)


def unsealed(stored: bytes) -> bytes | None:
    """Return what was `sealed`; None if it is damaged or never was."""
    content, seal = stored[:-_SEAL_BYTES], stored[-_SEAL_BYTES:]
    return content if seal == _SEAL + xxhash.xxh3_128_digest(content) else None


def checksum_of_file(file: str | os.PathLike[str]) -> str:
    """Compute xxh3-128 of a file, in hexadecimal; raises OSError."""
    with open(file, "rb") as stream:  # noqa: PTH123 - names need not be valid text
        return checksum_of_opened(stream)


def checksum_of_opened(file: BinaryIO) -> str:
    """Compute xxh3-128 of an open file from where it is read next, in hexadecimal."""
    return file_digest(file, xxhash.xxh3_128).hexdigest()  # type: ignore[arg-type]


def make_directories(folder: Path) -> None:
    """Create a directory and those above it that are missing; their names survive a power cut.

    They get the permissions of the directory they are in, as of `follow_folder`.
    """
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for created in reversed(missing):
        with suppress(FileExistsError):  # another process was faster
            created.mkdir()
            follow_folder(created)
        flush_names(created.parent)


def flush_names(folder: Path) -> None:
    """Write the names in a directory to disk (fsync), so that they survive a power cut."""
    if os.name == "posix":  # Windows cannot open directories
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def follow_folder(path: Path) -> None:
    """Let a new file or directory be used by nobody who may not use the directory it is in.

    In one that is shared (set-group-ID, see `SHARED_FOLDER`) it gets the same permissions, whatever
    the umask. Does nothing on file systems without permissions, or for another user's file.
    """
    if os.name != "posix":
        return
    with suppress(OSError):
        own, folder = path.stat().st_mode, path.parent.stat().st_mode
        allowed = stat.S_IMODE(folder) if stat.S_ISDIR(own) else folder & 0o666
        if not folder & stat.S_ISGID:
            allowed &= own
        if allowed != stat.S_IMODE(own):
            path.chmod(allowed)


def set_permissions(folder: Path, mode: int) -> None:
    """Set the permissions of a directory, and of all that is in it accordingly.

    Leaves what belongs to other users as it is.
    """
    if os.name != "posix":
        return
    for path in [folder, *folder.rglob("*")]:
        with suppress(OSError):
            if not path.is_symlink():
                path.chmod(mode if path.is_dir() else mode & 0o666)
