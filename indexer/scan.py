"""Walk the sources and compare with the catalog: added, changed, unchanged, moved, gone."""

import errno
import functools
import os
import stat
import struct
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import xxhash

from indexer.ignore_files import IGNORE_FILE_NAME, IgnoreRules, rules_of_root, with_ignore_file
from retrieval.catalog import FailedFile, FileState, KnownFile
from retrieval.catalog.paths import below
from retrieval.catalog.schema import METADATA_VERSION
from retrieval.media import UNTRUSTED_MTIME, MediaKind
from retrieval.media.registry import format_of_indexed, kind_of
from retrieval.media.sidecars import SIDECAR_ENDINGS, SidecarNames

ALL_KINDS = frozenset(MediaKind)
LIBRARY_FILES = frozenset({"library.toml", "catalog.sqlite"})
"""A directory with files of all these names is a library."""
_DESCRIBED = frozenset({MediaKind.IMAGE, MediaKind.VIDEO, MediaKind.DOCUMENT})
"""The kinds of files that have metadata, and may have sidecars."""
_STATES = tuple(FileState)
_PACKED = struct.Struct("<qqB??qb")


@dataclass(frozen=True, slots=True)
class WalkOptions:
    """What a walk takes in.

    hidden: names that begin with a dot too. follow: enter symbolic links to directories.
    one_file_system: stay on the root's device. ignore_files: honour `.mmsearchignore`. kinds: the
    families of formats that are looked for.
    """

    hidden: bool = False
    follow: bool = False
    one_file_system: bool = False
    ignore_files: bool = True
    kinds: frozenset[MediaKind] = ALL_KINDS


DEFAULT_WALK = WalkOptions()


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file, of a kind by its name, as the walk met it. Bytes, and nanoseconds since 1970.

    sidecars: paths of the files that describe it, the most important first; sidecars_state: a
    number that changes with their names, sizes and times; None without any.
    """

    path: str
    size: int
    mtime_ns: int
    kind: MediaKind
    sidecars: tuple[str, ...] = ()
    sidecars_state: int | None = None


@dataclass(frozen=True, slots=True)
class Unlisted:
    """A directory (or file) that could not be looked at; what was known below it stays."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class EmptyRoot:
    """A root with nothing in it at all, as the place of a drive that is not mounted has."""

    path: str


@dataclass
class Comparison:
    """What a run has to do.

    to_read: new, changed, or not yet embedded, in the order of the walk. known: what the catalog
    remembers of each path to read. to_refresh: unchanged files whose metadata is to be read again,
    as their sidecars changed or somebody asked for it. gone: paths that are no longer there.
    maybe_moved: files that were indexed and are gone (now, or since an earlier run), by size in
    bytes and content hash, for the sizes of paths in `to_read` that the catalog has never heard of.
    """

    to_read: list[FoundFile] = field(default_factory=list)
    known: dict[str, KnownFile] = field(default_factory=dict)
    to_refresh: list[FoundFile] = field(default_factory=list)
    unchanged: int = 0
    still_failed: int = 0
    gone: list[str] = field(default_factory=list)
    unlisted: list[FailedFile] = field(default_factory=list)
    maybe_moved: dict[tuple[int, str], list[KnownFile]] = field(default_factory=dict)

    def take_moved(self, path: str, size: int, content_hash: str) -> KnownFile | None:
        """Take the gone file that a new path with this content was moved from, or None.

        Each is given once, so that of several copies only one takes its place. One that went away
        now comes before one that went away earlier, then one of the same name, then the first path.
        """
        candidates = self.maybe_moved.get((size, content_hash), [])
        if not candidates or path in self.known:
            return None
        name = os.path.basename(path)  # noqa: PTH119 - names need not be valid text
        moved = min(
            candidates,
            key=lambda file: (
                file.state is FileState.REMOVED,
                os.path.basename(file.path) != name,  # noqa: PTH119
                file.path,
            ),
        )
        candidates.remove(moved)
        return moved


def walk(
    root: str, options: WalkOptions = DEFAULT_WALK
) -> Iterator[FoundFile | Unlisted | EmptyRoot]:
    """Find files that can be indexed at or below a path, in a fixed order, each once.

    A directory's files come before its subdirectories; at most the names of the directories on the
    way are held. A root that is a file is taken whatever its name and kind, as an image unless it
    ends like another. Libraries, which hold thumbnails, are passed over, and so is what is neither
    file nor directory. Symbolic links to files are always followed. With `follow`, those to
    directories are entered after everything that is reached without them, and a directory that was
    already entered is not entered again: no link can loop, and what has a path
    without links is found under that one.
    """
    try:
        status = os.stat(root)  # noqa: PTH116 - names need not be valid text
    except OSError as error:
        yield Unlisted(root, _reason(error))
        return
    if not stat.S_ISDIR(status.st_mode):
        kind = format_of_indexed(root).kind
        folder, name = os.path.split(root)
        sidecars = _sidecar_names(folder).of(name) if kind in _DESCRIBED else ()
        yield _found(root, status, kind, [below(folder) + sidecar for sidecar in sidecars])
        return
    yield from _Walk(root, status.st_dev, options).entries()


def compare(
    found: Iterable[FoundFile | Unlisted | EmptyRoot],
    known: Iterable[KnownFile],
    *,
    retry_failed: bool = False,
    refresh_metadata: bool = False,
) -> Comparison:
    """Sort what was found into what must be read, what is unchanged, and what is gone.

    A file of the same size and modification time is unchanged; so is one that failed before, unless
    `retry_failed`. With `refresh_metadata` the metadata of unchanged files is to be read again: of
    those that an earlier version, or a run that was stopped, left with old metadata, or of all
    where there are none. A known time of -1 is that of no file: it is read again. Nothing below a
    path that could not be listed counts as gone, and nothing below a root that is empty all at
    once. No path may be found twice.
    """
    remembered = {file.path: _pack(file) for file in known}
    result = Comparison()
    empty_roots: set[str] = set()
    asked: dict[bool, list[FoundFile]] = {True: [], False: []}
    for entry in found:
        if isinstance(entry, EmptyRoot):
            empty_roots.add(_as_place(entry.path))
            continue
        packed = remembered.pop(entry.path, None)
        before = _unpack(entry.path, packed) if packed else None
        if isinstance(entry, Unlisted):
            result.unlisted.append(FailedFile(entry.path, entry.reason))
        elif before and _is_unchanged(entry, before, retry_failed):
            result.unchanged += before.state is FileState.INDEXED
            is_indexed = before.state is FileState.INDEXED
            result.still_failed += not is_indexed
            if not is_indexed or entry.kind not in _DESCRIBED:
                continue
            if entry.sidecars_state != before.sidecars or before.metadata_version == 0:
                result.to_refresh.append(entry)
            elif refresh_metadata:
                asked[before.metadata_version < METADATA_VERSION].append(entry)
        else:
            result.to_read.append(entry)
            if before:
                result.known[entry.path] = before
    result.to_refresh += asked[True] or asked[False]
    _sort_absent(remembered, empty_roots, result)
    return result


@dataclass(frozen=True, slots=True)
class _Directory:
    path: str
    rules: IgnoreRules


@dataclass(slots=True)
class _Listing:
    """What a directory holds, as far as a walk cares; names in byte order except for escapes."""

    names: set[str] = field(default_factory=set)
    """Those that say something of the directory itself."""
    files: list[str] = field(default_factory=list)
    sidecars: list[str] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    is_empty: bool = True


class _Walk:
    """The state of one walk: what is still to be entered, and what was."""

    def __init__(self, root: str, device: int, options: WalkOptions) -> None:
        self._root = root
        self._device = device
        self._options = options
        self._pending: list[_Directory] = []
        self._links: deque[_Directory] = deque()
        self._entered: set[tuple[int, int] | str] = set()

    def entries(self) -> Iterator[FoundFile | Unlisted | EmptyRoot]:
        rules = IgnoreRules()
        if self._options.ignore_files:
            rules, problems = rules_of_root(self._root)
            for path, problem in problems:
                yield Unlisted(path, problem)
        self._pending.append(_Directory(self._root, rules))
        while self._pending or self._links:
            directory = self._pending.pop() if self._pending else self._links.popleft()
            try:
                if not self._may_enter(directory.path):
                    continue
                listing = self._list(directory.path)
            except OSError as error:
                yield Unlisted(directory.path, f"cannot be listed: {_reason(error)}")
                continue
            if listing.is_empty and directory.path == self._root:
                yield EmptyRoot(self._root)
            if not listing.names >= LIBRARY_FILES:
                yield from self._look_into(directory, listing)

    def _may_enter(self, path: str) -> bool:
        """Enter a directory: True if it is on the right device and was not entered before."""
        if not (self._options.follow or self._options.one_file_system):
            return True
        status = os.stat(path)  # noqa: PTH116
        if self._options.one_file_system and status.st_dev != self._device:
            return False
        # File systems without inodes call every one of them 0.
        identity = (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)
        if identity in self._entered:
            return False
        if self._options.follow:
            self._entered.add(identity)
        return True

    def _list(self, path: str) -> _Listing:
        listing = _Listing()
        with os.scandir(path) as entries:
            for entry in entries:
                self._sort_in(entry, listing)
        for names in (listing.files, listing.directories, listing.links):
            names.sort()
        return listing

    def _sort_in(self, entry: os.DirEntry[str], listing: _Listing) -> None:
        name = entry.name
        listing.is_empty = False
        if name in LIBRARY_FILES or name == IGNORE_FILE_NAME:
            listing.names.add(name)
        if name.startswith(".") and not self._options.hidden:
            return
        if entry.is_dir(follow_symlinks=False):
            listing.directories.append(name)
        elif self._options.follow and entry.is_symlink():
            listing.links.append(name)
        elif kind_of(name) in self._options.kinds:
            listing.files.append(name)
        elif name.lower().endswith(SIDECAR_ENDINGS):
            listing.sidecars.append(name)

    def _look_into(
        self, directory: _Directory, listing: _Listing
    ) -> Iterator[FoundFile | Unlisted]:
        prefix = below(directory.path)
        rules = directory.rules
        if self._options.ignore_files and IGNORE_FILE_NAME in listing.names:
            path = prefix + IGNORE_FILE_NAME
            rules, problem = with_ignore_file(rules, path)
            if problem:
                yield Unlisted(path, problem)
        sidecars = SidecarNames(
            name
            for name in listing.sidecars
            if not rules.ignores(prefix + name, is_directory=False)
        )
        for name in listing.files:
            if not rules.ignores(prefix + name, is_directory=False):
                beside = sidecars.of(name) if sidecars else ()
                yield from self._look_at(prefix + name, [prefix + sidecar for sidecar in beside])
        for name in reversed(listing.directories):
            if not rules.ignores(prefix + name, is_directory=True):
                self._pending.append(_Directory(prefix + name, rules))
        for name in listing.links:
            yield from self._look_through(prefix + name, rules)

    def _look_at(self, path: str, sidecars: Sequence[str] = ()) -> Iterator[FoundFile | Unlisted]:
        try:
            status = os.stat(path)  # noqa: PTH116
        except OSError as error:
            yield Unlisted(path, _reason(error))
            return
        kind = kind_of(path)
        if stat.S_ISREG(status.st_mode) and kind is not None and kind in self._options.kinds:
            yield _found(path, status, kind, sidecars)

    def _look_through(self, path: str, rules: IgnoreRules) -> Iterator[FoundFile | Unlisted]:
        """Follow a link, which may lead to a directory, also one that is not mounted now."""
        is_directory = os.path.isdir(path)  # noqa: PTH112
        if rules.ignores(path, is_directory=is_directory):
            return
        if is_directory:
            self._links.append(_Directory(path, rules))
        else:
            yield from self._look_at(path)


def _found(
    path: str, status: os.stat_result, kind: MediaKind, sidecars: Sequence[str]
) -> FoundFile:
    """Describe a file, with those of its sidecars that are there."""
    there: list[str] = []
    digest = xxhash.xxh3_64()
    for sidecar in sidecars if kind in _DESCRIBED else ():
        try:
            beside = os.stat(sidecar)  # noqa: PTH116 - names need not be valid text
        except OSError:
            continue
        if stat.S_ISREG(beside.st_mode):
            there.append(sidecar)
            digest.update(os.fsencode(os.path.basename(sidecar)))  # noqa: PTH119
            digest.update(struct.pack("<qq", beside.st_size, beside.st_mtime_ns))
    state = digest.intdigest() - 2**63 if there else None
    return FoundFile(path, status.st_size, status.st_mtime_ns, kind, tuple(there), state)


def _sidecar_names(folder: str) -> SidecarNames:
    """List the sidecars in the folder of a file that is looked at alone."""
    try:
        changed_ns = os.stat(folder or os.curdir).st_mtime_ns  # noqa: PTH116
        return _listed_sidecars(folder or os.curdir, changed_ns)
    except OSError:
        return SidecarNames(())


@functools.lru_cache(maxsize=8)
def _listed_sidecars(folder: str, _changed_ns: int) -> SidecarNames:
    names = os.listdir(folder)  # noqa: PTH208
    return SidecarNames(name for name in names if name.lower().endswith(SIDECAR_ENDINGS))


def _sort_absent(remembered: dict[str, bytes], empty_roots: set[str], result: Comparison) -> None:
    """Sort what was not found into what is gone, what may have moved, and what stays."""
    new_sizes = {file.size for file in result.to_read if file.path not in result.known}
    unlisted = {_as_place(failed.path) for failed in result.unlisted}
    for path, packed in remembered.items():
        file = _unpack(path, packed)
        if file.state is not FileState.REMOVED:
            if unlisted and _lies_below(path, unlisted) is not None:
                continue
            root = _lies_below(path, empty_roots) if empty_roots else None
            if root is not None:
                unlisted.add(root)
                result.unlisted.append(_suddenly_empty(root))
                continue
            result.gone.append(path)
        if file.size in new_sizes and file.content_hash is not None:
            result.maybe_moved.setdefault((file.size, file.content_hash), []).append(file)
    # An earlier run's word that a root is empty is written again, not taken back.
    result.gone = [path for path in result.gone if _as_place(path) not in unlisted]


def _pack(file: KnownFile) -> bytes:
    """Pack what is known of a file but its path: half the memory, of a million files."""
    fields = (file.size, file.mtime_ns, _STATES.index(file.state), file.embedded)
    has_hash = file.content_hash is not None
    # Of no sidecars 0, which is the state of some with a chance of one in 2**64.
    described = file.sidecars or 0, max(file.metadata_version, -1)
    return _PACKED.pack(*fields, has_hash, *described) + (file.content_hash or "").encode()


def _unpack(path: str, packed: bytes) -> KnownFile:
    size, mtime_ns, state, embedded, has_hash, sidecars, version = _PACKED.unpack_from(packed)
    content_hash = packed[_PACKED.size :].decode() if has_hash else None
    known = size, mtime_ns, content_hash, embedded, sidecars or None, version
    return KnownFile(path, _STATES[state], *known)


def _is_unchanged(found: FoundFile, before: KnownFile, retry_failed: bool) -> bool:
    if before.mtime_ns == UNTRUSTED_MTIME or (before.size, before.mtime_ns) != (
        found.size,
        found.mtime_ns,
    ):
        return False
    if before.state is FileState.FAILED:
        return not retry_failed
    return before.state is FileState.INDEXED and before.embedded


def _as_place(path: str) -> str:
    return path.rstrip(os.sep)


def _lies_below(path: str, places: set[str]) -> str | None:
    """Find the directory above a path among some places, in time of its depth."""
    end = path.rfind(os.sep)
    while end >= 0:
        if path[:end] in places:
            return path[:end]
        end = path.rfind(os.sep, 0, end)
    return None


def _suddenly_empty(root: str) -> FailedFile:
    return FailedFile(
        root or os.sep,
        "is empty now, and what was indexed from it stays in the library. If it is not mounted, "
        "mount it and index again; if its files were moved, run `mmsearch relocate OLD NEW`; if "
        "they were deleted, `mmsearch remove OLD`.",
    )


def _reason(error: OSError) -> str:
    if error.errno == errno.ENAMETOOLONG:
        return "its path is longer than this system can open"
    return (error.strerror or str(error)).lower()
