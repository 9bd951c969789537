"""Walk the sources and compare with the catalog: added, changed, unchanged, moved, gone."""

import errno
import functools
import os
import shlex
import stat
import struct
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import xxhash

from indexer.enrichment.subtitles import SubtitleNames, is_subtitle
from indexer.ignore_files import IGNORE_FILE_NAME, IgnoreRules, rules_of_root, with_ignore_file
from retrieval.catalog import FailedFile, FileState, KnownFile
from retrieval.catalog.paths import below
from retrieval.catalog.schema import METADATA_VERSION
from retrieval.files import valid_text
from retrieval.media import UNTRUSTED_MTIME, MediaKind
from retrieval.media.registry import Format, format_of, format_of_indexed, read_head
from retrieval.media.sidecars import SIDECAR_ENDINGS, SidecarNames
from retrieval.objects.paths import is_object, is_shard, is_uri

ALL_KINDS = frozenset(MediaKind)
SYSTEM_FOLDERS = frozenset(
    name.casefold()
    for name in (
        *("@eaDir", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot", ".@__thumb"),
        *("$RECYCLE.BIN", "RECYCLER", "RECYCLED", "System Volume Information", "FOUND.000"),
        *("lost+found", ".Trash", ".Trashes", ".thumbnails", ".stfolder", ".stversions"),
        *("$Extend", ".Spotlight-V100", ".fseventsd", ".TemporaryItems", ".zfs", ".snapshot"),
        *(".snapshots", "__MACOSX", ".dtrash", ".pcloud", ".AppleDouble"),
    )
)
"""Folders that file systems, NAS boxes and programs keep for themselves, in any case: recycle bins,
snapshots, and thumbnails of the photos beside them."""
_SYSTEM_PREFIXES = (".trash-",)
_SYSTEM_ENDINGS = (".lrdata",)
_PACKAGE_ORIGINALS = {".photoslibrary": ("originals", "masters"), ".aplibrary": ("masters",)}
"""Ending of a photo program's package: the folders in it that hold originals."""

LIBRARY_FILES = frozenset({"library.toml", "spaces"})
"""A directory with entries of all these names is a library."""
DESCRIBED = frozenset({MediaKind.IMAGE, MediaKind.VIDEO, MediaKind.DOCUMENT})
"""The kinds of files that have metadata, and may have sidecars; sounds have tags alone."""
HEARD = frozenset({MediaKind.VIDEO, MediaKind.AUDIO})
"""The kinds of files that are heard for speech, and may have subtitles."""
_STATES = tuple(FileState)
_PACKED = struct.Struct("<qqB??qb")


@dataclass(frozen=True, slots=True)
class WalkOptions:
    """What a walk takes in.

    hidden: names that begin with a dot too. follow: enter symbolic links to directories.
    one_file_system: stay on the root's device. ignore_files: honour `.mmsearchignore`.
    system_folders: enter folders that systems and programs keep for themselves, see
    `is_system_folder`. archives: enter shards (`.tar`), which a source that is one always is.
    kinds: the families of formats that are looked for.
    """

    hidden: bool = False
    follow: bool = False
    one_file_system: bool = False
    ignore_files: bool = True
    system_folders: bool = False
    archives: bool = False
    kinds: frozenset[MediaKind] = ALL_KINDS


DEFAULT_WALK = WalkOptions()


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file, of a kind by its name, as the walk met it. Bytes, and nanoseconds since 1970.

    sidecars: paths of the files that describe it, the most important first; sidecars_state: a
    number that changes with their names, sizes and times; None without any. etag: what its server
    says of its state, of an object. A size of -1: its server does not tell it.
    """

    path: str
    size: int
    mtime_ns: int
    kind: MediaKind
    sidecars: tuple[str, ...] = ()
    sidecars_state: int | None = None
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Unlisted:
    """A directory (or file) that could not be looked at; what was known below it stays."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class EmptyRoot:
    """A root with nothing in it at all, as the place of a drive that is not mounted has.

    nested: it is a folder below a root.
    """

    path: str
    nested: bool = False


@dataclass(frozen=True, slots=True)
class MountPoint:
    """A folder below a root that is on another file system than the folder above it."""

    path: str


@dataclass(frozen=True, slots=True)
class PassedOver:
    """What a walk did not take in, of one directory.

    endings: number of files of other kinds, by ending. folders: names of system folders. subtitles:
    number of those beside a video or sound, by ending, which count where nobody asks for speech.
    """

    endings: Counter[str]
    folders: tuple[str, ...] = ()
    subtitles: Counter[str] = field(default_factory=Counter)


Entry = FoundFile | Unlisted | EmptyRoot | MountPoint | PassedOver
"""What a walk finds."""


@dataclass
class Comparison:
    """What a run has to do.

    to_read: new, changed, or not yet embedded, in the order of the walk. known: what the catalog
    remembers of each path to read. to_refresh: unchanged files whose metadata is to be read again,
    as their sidecars changed or somebody asked for it. gone: paths that are no longer there.
    unreached: objects that are known, and of which their server told nothing.
    mounts: folders that are other file systems, now or, where what was indexed of them is absent,
    at an earlier run.
    emptied: roots and folders that are there with nothing in them, of which what was indexed stays.
    left_out: number of new files of which the encoder takes nothing, by kind.
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
    unreached: list[FailedFile] = field(default_factory=list)
    mounts: list[str] = field(default_factory=list)
    emptied: list[str] = field(default_factory=list)
    left_out: Counter[MediaKind] = field(default_factory=Counter)
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


_OF_EMPTY_DRIVES = frozenset({"lost+found"})
"""What is left in the place of a drive that is not mounted, or in one that was just made."""
_LONGEST_ENDING = 12


def is_system_folder(name: str, inside: str = "") -> bool:
    """Return whether a folder is one that systems or programs keep for themselves, by its name.

    inside: name of the folder above. Of the package of a photo program, all but the originals is.
    """
    folded = name.casefold()
    originals = _PACKAGE_ORIGINALS.get(os.path.splitext(inside.casefold())[1])  # noqa: PTH122
    if originals is not None:
        return folded not in originals
    return (
        folded in SYSTEM_FOLDERS
        or folded.startswith(_SYSTEM_PREFIXES)
        or folded.endswith(_SYSTEM_ENDINGS)
    )


def is_of_kinds(path: str, kinds: frozenset[MediaKind]) -> bool:
    """Return whether a file is of some kinds: by its name, where that tells, and its signature."""
    format_ = format_of(path)
    if format_ is None or format_.kind not in kinds:
        return False
    return not format_.only_signed or _is_signed(path, format_)


def _is_signed(path: str, format_: Format) -> bool:
    try:
        # What is a pipe would be waited for without end.
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
            return False
        with open(path, "rb") as file:  # noqa: PTH123
            return format_.begins(read_head(file))
    except OSError:
        return False


def ending_of(name: str) -> str:
    """Return the ending of a name in lower case, or words that say that it has none."""
    ending = os.path.splitext(name)[1].lower()  # noqa: PTH122
    if not 1 < len(ending) <= _LONGEST_ENDING or not ending.isprintable():
        return "without an ending"
    return valid_text(ending)


def walk(root: str, options: WalkOptions = DEFAULT_WALK) -> Iterator[Entry]:
    """Find files that can be indexed at or below a path, in a fixed order, each once.

    A directory's files come before its subdirectories; at most the names of the directories on the
    way are held. A root that is a file is taken whatever its name and kind, as an image unless it
    ends like another. Libraries, which hold thumbnails, are passed over, and so is what is neither
    file nor directory. Symbolic links to files are always followed. With `follow`, those to
    directories are entered after everything that is reached without them, and a directory that was
    already entered is not entered again: no link can loop, and what has a path
    without links is found under that one. Of URIs and shards see `indexer.object_scan`.
    """
    if is_object(root) or (is_shard(root) and os.path.isfile(root)):  # noqa: PTH113
        # Here: it imports what speaks to servers.
        from indexer.object_scan import walk_objects

        yield from walk_objects(root, options)
        return
    try:
        status = os.stat(root)  # noqa: PTH116 - names need not be valid text
    except OSError as error:
        yield Unlisted(root, reason_of(error))
        return
    if not stat.S_ISDIR(status.st_mode):
        kind = format_of_indexed(root).kind
        folder, name = os.path.split(root)
        sidecars = _sidecar_names(folder).of(name) if kind in DESCRIBED else ()
        yield _found(root, status, kind, [below(folder) + sidecar for sidecar in sidecars])
        return
    yield from _Walk(root, status.st_dev, options).entries()


def compare(
    found: Iterable[Entry],
    known: Iterable[KnownFile],
    *,
    retry_failed: bool = False,
    former_mounts: Iterable[str] = (),
    refresh_metadata: bool = False,
    kinds: frozenset[MediaKind] = ALL_KINDS,
) -> Comparison:
    """Sort what was found into what must be read, what is unchanged, and what is gone.

    kinds: those of which the encoder takes anything. Files of others are not read: those that are
    known are unchanged, and the others are left out.

    A file of the same size and modification time is unchanged; so is one that failed before, unless
    `retry_failed`. With `refresh_metadata` the metadata of unchanged files is to be read again: of
    those that an earlier version, or a run that was stopped, left with old metadata, or of all
    where there are none. A known time of -1 is that of no file: it is read again. Nothing below a
    path that could not be listed counts as gone, nothing below a root that is empty all at once,
    and nothing below a folder that was another file system (former_mounts) and is none now. Nor
    does what lay in a folder that is there and empty, if there were several files and they are not
    elsewhere now: a drive may have been mounted there. No path may be found twice.
    """
    remembered = {file.path: _pack(file) for file in known}
    result = Comparison()
    empty_roots: set[str] = set()
    empty_folders: set[str] = set()
    refresh = _Refresh(asked=refresh_metadata)
    for entry in found:
        if isinstance(entry, EmptyRoot | MountPoint | PassedOver):
            if isinstance(entry, EmptyRoot):
                (empty_folders if entry.nested else empty_roots).add(_as_place(entry.path))
            elif isinstance(entry, MountPoint):
                result.mounts.append(entry.path)
            continue
        packed = remembered.pop(entry.path, None)
        before = _unpack(entry.path, packed) if packed else None
        if isinstance(entry, Unlisted):
            if before and before.state is FileState.INDEXED and is_uri(entry.path):
                # Its server may answer the next time.
                result.unreached.append(FailedFile(entry.path, entry.reason))
                result.unchanged += 1
            else:
                result.unlisted.append(FailedFile(entry.path, entry.reason))
        elif entry.kind not in kinds:
            _leave(entry, before, result)
        elif before and _is_unchanged(entry, before, retry_failed):
            is_indexed = before.state is FileState.INDEXED
            result.unchanged += is_indexed
            result.still_failed += not is_indexed
            refresh.consider(entry, before)
        else:
            result.to_read.append(entry)
            if before:
                result.known[entry.path] = before
    result.to_refresh = refresh.chosen
    away = _away(remembered, empty_folders, set(former_mounts) - set(result.mounts), result)
    result.mounts += sorted(away.intersection(former_mounts))
    _sort_absent(remembered, empty_roots | away, result)
    return result


def _leave(found: FoundFile, before: KnownFile | None, result: Comparison) -> None:
    """Count a file of which the encoder takes nothing; another encoder may have read it."""
    if before is None or before.state is FileState.REMOVED:
        result.left_out[found.kind] += 1
    else:
        is_indexed = before.state is FileState.INDEXED
        result.unchanged += is_indexed
        result.still_failed += not is_indexed


@dataclass
class _Refresh:
    """Chooses the unchanged files whose metadata is to be read again; `compare` says which."""

    asked: bool
    needed: list[FoundFile] = field(default_factory=list)
    old: list[FoundFile] = field(default_factory=list)
    current: list[FoundFile] = field(default_factory=list)

    def consider(self, entry: FoundFile, before: KnownFile) -> None:
        has_metadata = entry.kind in DESCRIBED or entry.kind is MediaKind.AUDIO
        if before.state is not FileState.INDEXED or not has_metadata:
            return
        if entry.sidecars_state != before.sidecars or before.metadata_version == 0:
            self.needed.append(entry)
        elif self.asked:
            (self.old if before.metadata_version < METADATA_VERSION else self.current).append(entry)

    @property
    def chosen(self) -> list[FoundFile]:
        return self.needed + (self.old or self.current)


def _away(
    remembered: dict[str, bytes], empty: set[str], former_mounts: set[str], result: Comparison
) -> set[str]:
    """Find the places of drives that seem to be away, among folders, by what was indexed there."""
    new_sizes = {file.size for file in result.to_read if file.path not in result.known}
    absent: Counter[str] = Counter()
    elsewhere: Counter[str] = Counter()
    for path, packed in remembered.items() if empty or former_mounts else ():
        place = _lies_below(path, former_mounts) or _lies_below(path, empty)
        if place is not None:
            file = _unpack(path, packed)
            absent[place] += file.state is FileState.INDEXED
            elsewhere[place] += file.state is FileState.INDEXED and file.size in new_sizes
    return {
        place
        for place, count in absent.items()
        if (place in former_mounts and count) or (count > 1 and count > elsewhere[place])
    }


def _as_place(path: str) -> str:
    return path.rstrip(os.sep)


@dataclass(frozen=True, slots=True)
class _Directory:
    path: str
    rules: IgnoreRules
    device: int
    """The device of the directory above."""


@dataclass(slots=True)
class _Listing:
    """What a directory holds, as far as a walk cares; names in byte order except for escapes."""

    names: set[str] = field(default_factory=set)
    """Those that say something of the directory itself."""
    files: list[str] = field(default_factory=list)
    sidecars: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Files of other kinds."""
    shards: list[str] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    system_folders: list[str] = field(default_factory=list)
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

    def entries(self) -> Iterator[Entry]:
        rules = IgnoreRules()
        if self._options.ignore_files:
            rules, problems = rules_of_root(self._root)
            for path, problem in problems:
                yield Unlisted(path, problem)
        self._pending.append(_Directory(self._root, rules, self._device))
        while self._pending or self._links:
            directory = self._pending.pop() if self._pending else self._links.popleft()
            try:
                device = self._enter(directory.path)
                if device is None:
                    continue
                listing = self._list(directory.path)
            except OSError as error:
                yield Unlisted(directory.path, f"cannot be listed: {reason_of(error)}")
                continue
            if device != directory.device:
                yield MountPoint(directory.path)
            if listing.is_empty:
                yield EmptyRoot(directory.path, nested=directory.path != self._root)
            if not listing.names >= LIBRARY_FILES:
                yield from self._look_into(replace(directory, device=device), listing)

    def _enter(self, path: str) -> int | None:
        """Enter a directory: its device; None if that is the wrong one or it was entered before."""
        status = os.stat(path)  # noqa: PTH116
        if self._options.one_file_system and status.st_dev != self._device:
            return None
        # File systems without inodes call every one of them 0.
        identity = (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(path)
        if identity in self._entered:
            return None
        if self._options.follow:
            self._entered.add(identity)
        return status.st_dev

    def _list(self, path: str) -> _Listing:
        listing = _Listing()
        with os.scandir(path) as entries:
            inside = os.path.basename(path)  # noqa: PTH119
            for entry in entries:
                self._sort_in(entry, listing, inside)
        for names in (listing.files, listing.shards, listing.directories, listing.links):
            names.sort()
        return listing

    def _sort_in(self, entry: os.DirEntry[str], listing: _Listing, inside: str) -> None:
        name = entry.name
        if name.casefold() not in _OF_EMPTY_DRIVES:
            listing.is_empty = False
        if name in LIBRARY_FILES or name == IGNORE_FILE_NAME:
            listing.names.add(name)
        if name.startswith(".") and not self._options.hidden:
            return
        if entry.is_dir(follow_symlinks=False):
            is_system = not self._options.system_folders and is_system_folder(name, inside)
            (listing.system_folders if is_system else listing.directories).append(name)
        elif self._options.follow and entry.is_symlink():
            listing.links.append(name)
        elif self._options.archives and is_shard(name) and entry.is_file():
            listing.shards.append(name)
        elif is_of_kinds(entry.path, self._options.kinds):
            listing.files.append(name)
        elif name.lower().endswith(SIDECAR_ENDINGS):
            listing.sidecars.append(name)
        elif (format_ := format_of(name)) is None or format_.only_signed:
            listing.others.append(name)

    def _look_into(self, directory: _Directory, listing: _Listing) -> Iterator[Entry]:
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
        lone = set(listing.sidecars)
        for name in listing.files:
            if not rules.ignores(prefix + name, is_directory=False):
                beside = sidecars.of(name) if sidecars else ()
                lone.difference_update(beside)
                yield from self._look_at(prefix + name, [prefix + sidecar for sidecar in beside])
        subtitles = _subtitles_used(listing, prefix, rules)
        lone.update(listing.others)
        if lone or listing.system_folders:
            yield PassedOver(
                Counter(map(ending_of, lone - subtitles)),
                tuple(listing.system_folders),
                Counter(map(ending_of, subtitles)),
            )
        yield from self._look_into_shards(prefix, rules, listing.shards)
        for name in reversed(listing.directories):
            if not rules.ignores(prefix + name, is_directory=True):
                self._pending.append(_Directory(prefix + name, rules, directory.device))
        for name in listing.links:
            yield from self._look_through(prefix + name, rules)

    def _look_into_shards(
        self, prefix: str, rules: IgnoreRules, names: Sequence[str]
    ) -> Iterator[Entry]:
        for name in names:
            if not rules.ignores(prefix + name, is_directory=False):
                from indexer.object_scan import walk_shard

                yield from walk_shard(prefix + name, self._options, rules)

    def _look_at(self, path: str, sidecars: Sequence[str] = ()) -> Iterator[FoundFile | Unlisted]:
        try:
            status = os.stat(path)  # noqa: PTH116
        except OSError as error:
            yield Unlisted(path, reason_of(error))
            return
        if stat.S_ISREG(status.st_mode) and is_of_kinds(path, self._options.kinds):
            yield _found(path, status, format_of_indexed(path).kind, sidecars)

    def _look_through(self, path: str, rules: IgnoreRules) -> Iterator[FoundFile | Unlisted]:
        """Follow a link, which may lead to a directory, also one that is not mounted now."""
        is_directory = os.path.isdir(path)  # noqa: PTH112
        if rules.ignores(path, is_directory=is_directory):
            return
        if is_directory:
            self._links.append(_Directory(path, rules, os.stat(path).st_dev))  # noqa: PTH116
        else:
            yield from self._look_at(path)


def _subtitles_used(listing: _Listing, prefix: str, rules: IgnoreRules) -> set[str]:
    """Return the subtitles beside the videos and sounds of a directory."""
    names = SubtitleNames(
        name
        for name in listing.others
        if is_subtitle(name) and not rules.ignores(prefix + name, is_directory=False)
    )
    return {
        subtitle
        for name in listing.files
        if (format_ := format_of(name)) is not None and format_.kind in HEARD
        for subtitle in names.of(name)
    }


def _found(
    path: str, status: os.stat_result, kind: MediaKind, sidecars: Sequence[str]
) -> FoundFile:
    """Describe a file, with those of its sidecars that are there."""
    there: list[str] = []
    digest = xxhash.xxh3_64()
    for sidecar in sidecars if kind in DESCRIBED else ():
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
                result.emptied.append(root or os.sep)
                result.unlisted.append(FailedFile(root or os.sep, why_kept(root or os.sep)))
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
    rest = f"{file.content_hash or ''}\0{file.etag or ''}"
    return _PACKED.pack(*fields, has_hash, *described) + rest.encode("utf-8", "surrogateescape")


def _unpack(path: str, packed: bytes) -> KnownFile:
    size, mtime_ns, state, embedded, has_hash, sidecars, version = _PACKED.unpack_from(packed)
    rest = packed[_PACKED.size :].decode("utf-8", "surrogateescape")
    content_hash, _, etag = rest.partition("\0")
    known = size, mtime_ns, content_hash if has_hash else None, embedded, sidecars or None, version
    return KnownFile(path, _STATES[state], *known, etag or None)


def _is_unchanged(found: FoundFile, before: KnownFile, retry_failed: bool) -> bool:
    if found.etag is not None:
        if before.etag != found.etag or found.size not in {-1, before.size}:
            return False
    elif before.mtime_ns == UNTRUSTED_MTIME or (before.size, before.mtime_ns) != (
        found.size,
        found.mtime_ns,
    ):
        return False
    if before.state is FileState.FAILED:
        return not retry_failed
    return before.state is FileState.INDEXED and before.embedded


def _lies_below(path: str, places: set[str]) -> str | None:
    """Find the directory above a path among some places, in time of its depth."""
    end = path.rfind(os.sep)
    while end >= 0:
        if path[:end] in places:
            return path[:end]
        end = path.rfind(os.sep, 0, end)
    return None


def why_kept(folder: str) -> str:
    """Say that a folder is empty now, and with which commands to go on."""
    quoted = shlex.quote(valid_text(folder))
    return (
        "is empty now, and what was indexed from it stays in the library. If its files were "
        f"deleted, run `mmsearch remove {quoted}`; if they were moved, `mmsearch relocate {quoted} "
        "NEW`; if a drive is to be mounted there, mount it and index again."
    )


def reason_of(error: Exception) -> str:
    """Say why something could not be looked at, as the end of a sentence."""
    if not isinstance(error, OSError):
        return str(error)
    if error.errno == errno.ENAMETOOLONG:
        return "its path is longer than this system can open"
    if error.errno == errno.EIO or isinstance(error, TimeoutError):
        return error.strerror or str(error)  # of a server, whose words are left as they are
    return (error.strerror or str(error)).lower()
