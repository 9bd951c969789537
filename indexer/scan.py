"""Walk the sources and compare with the catalog: added, changed, unchanged, gone."""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from retrieval.catalog import FailedFile, FileState, KnownFile
from retrieval.images import is_image_name

_LIBRARY_FILES = {"library.toml", "catalog.sqlite"}


@dataclass(frozen=True, slots=True)
class FoundFile:
    """An image file, by its name, as the walk met it."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Unlisted:
    """A directory (or file) that could not be looked at; what was known below it stays."""

    path: str
    reason: str


@dataclass
class Comparison:
    """What a run has to do. `known` holds what the catalog remembers of each path to read."""

    to_read: list[FoundFile] = field(default_factory=list)
    known: dict[str, KnownFile] = field(default_factory=dict)
    unchanged: int = 0
    still_failed: int = 0
    gone: list[str] = field(default_factory=list)
    unlisted: list[FailedFile] = field(default_factory=list)


def walk(root: str) -> Iterator[FoundFile | Unlisted]:
    """Find image files at or below a path, in a fixed order.

    A root that is a file is taken whatever its name. Names that begin with a dot are passed over,
    and so are libraries, which hold thumbnails; symbolic links to files are followed, those to
    directories are not, so no link can loop.
    """
    try:
        status = os.stat(root)  # noqa: PTH116 - names need not be valid text
    except OSError as error:
        yield Unlisted(root, _reason(error))
        return
    if not stat.S_ISDIR(status.st_mode):
        yield FoundFile(root, status.st_size, status.st_mtime_ns)
        return
    pending = [root]
    while pending:
        directory = pending.pop()
        try:
            with os.scandir(directory) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            yield Unlisted(directory, f"cannot be listed: {_reason(error)}")
            continue
        if {entry.name for entry in listed} >= _LIBRARY_FILES:
            continue
        visible = [entry for entry in listed if not entry.name.startswith(".")]
        pending.extend(e.path for e in reversed(visible) if e.is_dir(follow_symlinks=False))
        for entry in visible:
            if is_image_name(entry.name) and (found := _look_at(entry)):
                yield found


def compare(
    found: Iterable[FoundFile | Unlisted],
    known: Iterable[KnownFile],
    *,
    retry_failed: bool = False,
) -> Comparison:
    """Sort what was found into what must be read, what is unchanged, and what is gone.

    A file of the same size and modification time is unchanged; so is one that failed before, unless
    `retry_failed`. Nothing at or below a path that could not be listed counts as gone.
    """
    remembered = {file.path: file for file in known}
    result = Comparison()
    seen: set[str] = set()
    for entry in found:
        if entry.path in seen:
            continue
        seen.add(entry.path)
        if isinstance(entry, Unlisted):
            result.unlisted.append(FailedFile(entry.path, entry.reason))
            continue
        before = remembered.get(entry.path)
        if before and _is_unchanged(entry, before, retry_failed):
            result.unchanged += before.state is FileState.INDEXED
            result.still_failed += before.state is FileState.FAILED
            continue
        result.to_read.append(entry)
        if before:
            result.known[entry.path] = before
    unlisted = tuple(as_prefix(failed.path) for failed in result.unlisted)
    result.gone = [
        path
        for path, file in remembered.items()
        if path not in seen
        and file.state is not FileState.REMOVED
        and not path.startswith(unlisted)
    ]
    return result


def as_prefix(path: str) -> str:
    """What every path below this one begins with."""
    return path.rstrip(os.sep) + os.sep


def _look_at(entry: os.DirEntry[str]) -> FoundFile | Unlisted | None:
    try:
        status = entry.stat()
    except OSError as error:
        return Unlisted(entry.path, _reason(error))
    if not stat.S_ISREG(status.st_mode):
        return None
    return FoundFile(entry.path, status.st_size, status.st_mtime_ns)


def _is_unchanged(found: FoundFile, before: KnownFile, retry_failed: bool) -> bool:
    if (before.size, before.mtime_ns) != (found.size, found.mtime_ns):
        return False
    if before.state is FileState.FAILED:
        return not retry_failed
    return before.state is FileState.INDEXED and before.embedded


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
