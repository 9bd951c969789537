"""Follow a folder that was moved or renamed, or whose drive has another name now.

Nothing is embedded for that: paths are re-rooted in the catalog, in one transaction.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from retrieval.catalog import Catalog, FileState, KnownFile, Relocated
from retrieval.catalog.paths import is_at_or_below, is_there, reroot, separator_of
from retrieval.errors import NotFoundError, UnreadableFileError, UsageError
from retrieval.files import checksum_of_opened, has_home
from retrieval.objects.opening import open_path, status_of
from retrieval.objects.paths import given_uri, is_object

_MOST_HASHED = 64
"""Files that are hashed to tell whether those of the same name and size have the same content."""
_SHOWN_COLLISIONS = 3


@dataclass(frozen=True)
class Presence:
    """How much of a folder is at another place.

    files: that searches can find. there: with a file at the same relative path. same: of these, of
    the same size, and of the same modification time or, as far as a sample tells, content.
    """

    files: int
    there: int
    same: int

    @property
    def is_most(self) -> bool:
        """Return whether at least half of the folder is there."""
        return self.files > 0 and 2 * self.same >= self.files


@dataclass(frozen=True)
class Relocation:
    """A relocation, done or planned. relocated, hidden: numbers of files, 0 if only planned."""

    old: str
    new: str
    presence: Presence
    relocated: int = 0
    hidden: int = 0


def presence_at(files: Iterable[KnownFile], old: str, new: str) -> Presence:
    """Look for the files known at or below `old` at or below `new`; reads a sample of them."""
    count = there = same = 0
    of_same_size: list[tuple[str, str]] = []
    for file in files:
        if file.state is not FileState.INDEXED:
            continue
        count += 1
        path = reroot(file.path, old, new)
        try:
            status = status_of(path)
        except (OSError, UnreadableFileError, ValueError):
            continue
        there += 1
        if status.st_size != file.size or file.content_hash is None:
            continue
        if status.st_mtime_ns == file.mtime_ns:
            same += 1
        else:
            of_same_size.append((path, file.content_hash))
    sample = of_same_size[:: -(-len(of_same_size) // _MOST_HASHED) or 1]
    equal = sum(_hash(path) == content_hash for path, content_hash in sample)
    if sample:
        same += len(of_same_size) * equal // len(sample)
    return Presence(count, there, same)


def plan_relocation(
    catalog: Catalog, old: str | os.PathLike[str], new: str | os.PathLike[str], *, force: bool
) -> Relocation:
    """Check that what is known at or below `old` may be re-rooted to `new`.

    Args:
        catalog: Catalog of the library.
        old: Path as the library knows it, also of another system (`D:\\Photos`); nothing needs to
            be there.
        new: Where it is now.
        force: Also without any of the files there, or over other files known there.

    Raises:
        NotFoundError: The library knows nothing at `old`, or nothing is at `new`.
        UsageError: None of the files are at `new`, or other files are known there.
    """
    target = _absolute(new)
    with catalog.snapshot() as snapshot:
        given = given_uri(old) or os.fspath(old)
        source = given.rstrip(separator_of(given)) or given
        files = [*snapshot.files_below([source], "")]
        if not files and source not in snapshot.sources():
            source = _absolute(old)
            files = [*snapshot.files_below([source], "")]
        known = [path for path in snapshot.sources() if is_at_or_below(path, source)]
        if not files and not known:
            raise NotFoundError(
                f"The library knows nothing at {source}. `mmsearch status` lists its sources."
            )
        found = [file for file in files if file.state is FileState.INDEXED]
        at_target = snapshot.content_hashes([reroot(file.path, source, target) for file in found])
    if source == target:
        raise UsageError(f"{source} is the old path and the new one.")
    if not (os.path.lexists(target) or is_object(target)) and not force:
        raise NotFoundError(f"There is nothing at {target}. `--force` relocates all the same.")
    presence = presence_at(files, source, target)
    if presence.files and not presence.there and not force:
        raise UsageError(
            f"None of the {presence.files:,} files that are known in {source} is at {target}. Give "
            "the folder that has the same files below it, or `--force`."
        )
    moving = {file.path for file in files}
    collisions = [
        path
        for file in found
        if (path := reroot(file.path, source, target)) in at_target
        and path not in moving
        and at_target[path] != file.content_hash
    ]
    if collisions and not force:
        raise UsageError(
            f"The library knows other files at {len(collisions):,} of the new paths: "
            f"{', '.join(collisions[:_SHOWN_COLLISIONS])}. `--force` keeps those, and hides the "
            "old ones."
        )
    return Relocation(source, target, presence)


def relocate(
    catalog: Catalog, library: Path, old: str, new: str, *, keep_source: bool = False
) -> Relocated:
    """Re-root what is known at or below `old` to `new`; needs the right to write.

    keep_source: `old` stays a source, without files.
    """
    with catalog.transaction() as transaction:
        options = transaction.source_options()
        done = transaction.relocate(old, new)
        if keep_source and old in options:
            transaction.add_sources({old: options[old]})
        below = [path for path in transaction.sources() if is_at_or_below(path, new)]
        transaction.place_sources({path: way_beside(library, path) for path in below})
    return done


def find_moved_beside(catalog: Catalog, library: Path) -> list[tuple[str, str]]:
    """Find sources that were moved together with their library: old and new paths.

    Such a source is not where it was, but is where it was as seen from the library, with at least
    half of its files.
    """
    with catalog.snapshot() as snapshot:
        beside = snapshot.sources_beside()
        moved: list[tuple[str, str]] = []
        for old, way in beside.items():
            if is_there(old):
                continue
            new = os.path.normpath(os.path.join(_real(library), way))  # noqa: PTH118
            if new == old or not is_there(new):
                continue
            if any(is_at_or_below(old, above) for above, _ in moved):
                continue
            if presence_at(snapshot.files_below([old], ""), old, new).is_most:
                moved.append((old, new))
    return moved


def way_beside(library: Path, source: str) -> str | None:
    """Return the way from a library's directory to a source that is likely to move with it.

    None unless there is something at the source, and a folder that holds both is neither the root
    of the file system nor the user's home, nor above that.
    """
    if is_object(source) or not is_there(source):
        return None
    here, there = _real(library), _real(source)
    try:
        common = os.path.commonpath([here, there])
    except ValueError:  # two drives
        return None
    if has_home() and is_at_or_below(_real(Path.home()), common):
        return None
    return os.path.relpath(there, here)


def _absolute(path: str | os.PathLike[str]) -> str:
    if (uri := given_uri(path)) is not None:
        return uri
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - as links are named


def _real(path: str | os.PathLike[str]) -> str:
    return os.path.realpath(path)


def _hash(path: str) -> str | None:
    try:
        with open_path(path) as file:
            return checksum_of_opened(file)
    except (OSError, UnreadableFileError):
        return None
