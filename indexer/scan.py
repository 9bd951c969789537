"""Walk the sources and compare with the catalog: added, changed, unchanged, gone."""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from retrieval.catalog import FailedFile, FileState, KnownFile
from retrieval.images import is_image_name


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

    A root that is a file is taken whatever its name. Names that begin with a dot are passed over;
    symbolic links to files are followed, those to directories are not, so no link can loop.
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
        subdirectories = []
        for entry in listed:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    subdirectories.append(entry.path)
                elif is_image_name(entry.name) and not entry.is_dir():
                    status = entry.stat()
                    if stat.S_ISREG(status.st_mode):
                        yield FoundFile(entry.path, status.st_size, status.st_mtime_ns)
            except OSError as error:
                yield Unlisted(entry.path, _reason(error))
        pending.extend(reversed(subdirectories))


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
    unlisted: list[str] = []
    for entry in found:
        if isinstance(entry, Unlisted):
            unlisted.append(entry.path)
            result.unlisted.append(FailedFile(entry.path, entry.reason))
            continue
        if entry.path in seen:
            continue
        seen.add(entry.path)
        before = remembered.get(entry.path)
        if before is None or (before.size, before.mtime_ns) != (entry.size, entry.mtime_ns):
            result.to_read.append(entry)
        elif before.state is FileState.FAILED:
            if retry_failed:
                result.to_read.append(entry)
            else:
                result.still_failed += 1
        elif before.state is FileState.REMOVED or not before.embedded:
            result.to_read.append(entry)
        else:
            result.unchanged += 1
        if before is not None:
            result.known[entry.path] = before
    # An unreadable directory is itself on record as a failed path, and is gone once it can be read.
    hidden = {*unlisted}
    for path, file in remembered.items():
        if path in seen or path in hidden or file.state is FileState.REMOVED:
            continue
        if not any(path.startswith(below.rstrip(os.sep) + os.sep) for below in unlisted):
            result.gone.append(path)
    return result


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
