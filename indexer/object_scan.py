"""Walk sources that are not of the file system: object stores, web servers, shards.

What is found is told as a walk of folders tells it, so that it is compared and recorded alike.
"""

import posixpath
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import xxhash

from indexer.ignore_files import IGNORE_FILE_NAME, IgnoreRules, with_ignore_file
from indexer.scan import (
    DESCRIBED,
    LIBRARY_FILES,
    EmptyRoot,
    Entry,
    FoundFile,
    PassedOver,
    Unlisted,
    WalkOptions,
    ending_of,
    is_system_folder,
    reason_of,
)
from retrieval.catalog.paths import is_at_or_below
from retrieval.errors import MMSearchError, NotFoundError
from retrieval.media import MediaKind
from retrieval.media.registry import format_of, format_of_indexed
from retrieval.media.sidecars import SIDECAR_ENDINGS, SidecarNames
from retrieval.objects.base import FileStatus, Listed, Source
from retrieval.objects.paths import is_shard, is_uri, is_web, shard_of
from retrieval.objects.remote import source_of
from retrieval.objects.shards import Shard

_ASKED_AT_ONCE = 16
"""Objects of a web server whose status is asked for at the same time."""
_DEEPEST = 64
"""Folders below a source: a page of links can lead to ever new ones."""
_CAPTION_ENDINGS = ("txt", "json")
_CAPTIONED = frozenset({MediaKind.IMAGE, MediaKind.VIDEO, MediaKind.AUDIO})


def walk_objects(root: str, options: WalkOptions, source: str | None = None) -> Iterator[Entry]:
    """Find what can be indexed at or below a URI, a shard or a member of one.

    In a fixed order, each object once. A root that is an object is taken whatever its kind. What
    cannot be listed is told, so that what is known below it stays. Ignore files above the root do
    not count, unless they are in the source.

    Args:
        root: where to begin.
        options: what to take in.
        source: of which the root is a part; None: all of it.
    """
    try:
        rules: IgnoreRules | None = IgnoreRules()
        if source is not None and is_uri(source):
            rules = _rules_between(source, root, options)
        if rules is not None:
            yield from _walk_below(root, options, rules, is_part=source is not None)
    except (OSError, MMSearchError) as error:
        yield Unlisted(root, reason_of(error))


def _walk_below(
    root: str, options: WalkOptions, rules: IgnoreRules, *, is_part: bool
) -> Iterator[Entry]:
    shard = shard_of(root)
    if shard is not None and (not is_uri(root) or _is_object(shard[0])):
        for entry in walk_shard(shard[0], options, rules):
            if isinstance(entry, Unlisted):
                yield Unlisted(root, entry.reason)
            elif isinstance(entry, FoundFile) and is_at_or_below(entry.path, root):
                yield entry
    elif is_shard(root) and (not is_uri(root) or _is_object(root)):
        yield from walk_shard(root, options, rules)
    elif (found := _as_object(root)) is not None:
        yield found
    else:
        for entry in _ObjectWalk(root, options).entries(rules):
            yield replace(entry, nested=True) if isinstance(entry, EmptyRoot) and is_part else entry


def require_reachable(uri: str) -> None:
    """Raise NotFoundError where nothing can be listed or opened at a URI."""
    try:
        if (is_shard(uri) and _is_object(uri)) or _as_object(uri) is not None:
            return
        next(iter(source_of(uri).list(uri)), None)
    except (OSError, MMSearchError) as error:
        raise NotFoundError(f"{uri} cannot be indexed: {reason_of(error)}.") from error


def _rules_between(source: str, path: str, options: WalkOptions) -> IgnoreRules | None:
    """Read the ignore files on the way from a source to a path; None where a walk stops before."""
    rules, place, inside = IgnoreRules(), source, ""
    names = path[len(source) + 1 :].split("/")
    for number, name in enumerate(names, start=1):
        if options.ignore_files:
            rules, _ = with_ignore_file(rules, f"{place}/{IGNORE_FILE_NAME}")
        place = f"{place}/{name}"
        is_file = number == len(names) and (format_of(name) is not None or is_shard(name))
        is_system = not options.system_folders and is_system_folder(name, inside)
        if name.startswith(".") and not options.hidden:
            return None
        if (is_system and not is_file) or rules.ignores(place, is_directory=not is_file):
            return None
        inside = name
    return rules


def walk_shard(
    path: str, options: WalkOptions, rules: IgnoreRules | None = None
) -> Iterator[Entry]:
    """Find the members of a shard that can be indexed.

    Texts and JSON files with the name of an image or video, up to its first dot, are about it, as
    WebDataset has them, and no items of their own.
    """
    try:
        listed = sorted(Shard(path).list(path), key=lambda one: one.path)
    except (OSError, MMSearchError) as error:
        yield Unlisted(path, f"cannot be listed: {reason_of(error)}")
        return
    groups: dict[str, list[Listed]] = {}
    for one in listed:
        groups.setdefault(_key(one.path), []).append(one)
    about: dict[str, list[Listed]] = {}
    for key, members in groups.items():
        is_shown = any(_kind(one.path) in _CAPTIONED for one in members)
        captions = [one for one in members if one.path[len(key) + 1 :].lower() in _CAPTION_ENDINGS]
        if is_shown and captions:
            about[key] = captions
    endings: Counter[str] = Counter()
    for one in listed:
        captions = about.get(_key(one.path), [])
        if one in captions or not _is_taken(one.path, path, options, rules or IgnoreRules()):
            continue
        kind = _kind(one.path)
        if kind is None:
            endings[ending_of(one.path)] += 1
        elif kind in options.kinds and one.status is not None:
            is_described = kind in _CAPTIONED
            yield _found(one.path, one.status, kind, captions if is_described else ())
    if endings:
        yield PassedOver(endings)


def _key(path: str) -> str:
    """Return the path of a member up to the first dot of its name."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{name.partition('.')[0]}"


def _kind(path: str) -> MediaKind | None:
    """Return the kind of an object by its name; None for what only its content would tell."""
    format_ = format_of(path)
    return None if format_ is None or format_.only_signed else format_.kind


def _is_taken(path: str, shard: str, options: WalkOptions, rules: IgnoreRules) -> bool:
    """Return whether a walk of a shard's folders would come to a member."""
    names = path[len(shard) + 1 :].split("/")
    if not options.hidden and any(name.startswith(".") for name in names):
        return False
    place, inside = shard, ""
    for name in names[:-1]:
        place = f"{place}/{name}"
        if not options.system_folders and is_system_folder(name, inside):
            return False
        if rules.ignores(place, is_directory=True):
            return False
        inside = name
    return not rules.ignores(path, is_directory=False)


def _is_object(uri: str) -> bool:
    try:
        source_of(uri).stat(uri)
    except (FileNotFoundError, IsADirectoryError):
        return False
    return True


def _as_object(root: str) -> FoundFile | None:
    """Find a root that is an object; None where it is to be listed."""
    if is_web(root) and format_of(root) is None:
        return None
    try:
        status = source_of(root).stat(root)
    except IsADirectoryError:
        return None
    except FileNotFoundError:
        if is_web(root):
            raise
        return None
    return _found(root, status, format_of_indexed(root).kind, ())


@dataclass(slots=True)
class _Listing:
    """What a folder holds, as far as a walk cares."""

    files: list[Listed] = field(default_factory=list)
    shards: list[Listed] = field(default_factory=list)
    folders: list[Listed] = field(default_factory=list)
    sidecars: dict[str, Listed] = field(default_factory=dict)
    endings: Counter[str] = field(default_factory=Counter)
    system_folders: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)


class _ObjectWalk:
    """The state of one walk."""

    def __init__(self, root: str, options: WalkOptions) -> None:
        self._root = root
        self._options = options
        self._source: Source = source_of(root)
        self._pending: list[tuple[str, IgnoreRules]] = []

    def entries(self, rules: IgnoreRules) -> Iterator[Entry]:
        self._pending.append((self._root, rules))
        while self._pending:
            folder, rules = self._pending.pop()
            if folder.count("/") - self._root.count("/") > _DEEPEST:
                yield Unlisted(folder, f"lies deeper than {_DEEPEST} folders")
                continue
            try:
                listed = sorted(self._source.list(folder), key=lambda one: one.path)
            except (OSError, MMSearchError) as error:
                yield Unlisted(folder, f"cannot be listed: {reason_of(error)}")
                if isinstance(error, TimeoutError):
                    yield Unlisted(self._root, reason_of(error))
                    return
                continue
            if not listed:
                yield EmptyRoot(folder, nested=folder != self._root)
            listing = self._sorted_in(listed, posixpath.basename(folder))
            if listing.names >= LIBRARY_FILES:
                continue
            try:
                yield from self._look_into(folder, rules, listing)
            except TimeoutError as error:
                yield Unlisted(self._root, reason_of(error))
                return

    def _sorted_in(self, listed: Sequence[Listed], inside: str) -> _Listing:
        listing = _Listing()
        for one in listed:
            name = posixpath.basename(one.path)
            listing.names.add(name)
            if name.startswith(".") and not self._options.hidden:
                continue
            if one.is_folder:
                if not self._options.system_folders and is_system_folder(name, inside):
                    listing.system_folders.append(name)
                else:
                    listing.folders.append(one)
            elif self._options.archives and is_shard(name):
                listing.shards.append(one)
            elif (kind := _kind(name)) in self._options.kinds:
                listing.files.append(one)
            elif name.lower().endswith(SIDECAR_ENDINGS):
                listing.sidecars[name] = one
            elif kind is None:
                listing.endings[ending_of(name)] += 1
        return listing

    def _look_into(self, folder: str, rules: IgnoreRules, listing: _Listing) -> Iterator[Entry]:
        if self._options.ignore_files and IGNORE_FILE_NAME in listing.names:
            path = f"{folder}/{IGNORE_FILE_NAME}"
            rules, problem = with_ignore_file(rules, path)
            if problem:
                yield Unlisted(path, problem)
        yield from self._look_at_files(rules, listing)
        if listing.endings or listing.system_folders:
            yield PassedOver(listing.endings, tuple(listing.system_folders))
        for one in listing.shards:
            if not rules.ignores(one.path, is_directory=False):
                yield from walk_shard(one.path, self._options, rules)
        for one in reversed(listing.folders):
            if not rules.ignores(one.path, is_directory=True):
                self._pending.append((one.path, rules))

    def _look_at_files(self, rules: IgnoreRules, listing: _Listing) -> Iterator[Entry]:
        beside = _sidecars_of(listing, rules)
        files = [one for one in listing.files if one.path in beside]
        used = {one.path: one for found in beside.values() for one in found}
        statuses: dict[str, FileStatus] = {}
        for one, status in self._statuses([*files, *used.values()]):
            if isinstance(status, FileStatus):
                statuses[one.path] = status
            elif one.path in beside and not isinstance(status, FileNotFoundError):
                yield Unlisted(one.path, reason_of(status))
        for one in files:
            if one.path in statuses:
                described = [
                    Listed(sidecar.path, status=statuses[sidecar.path])
                    for sidecar in beside[one.path]
                    if sidecar.path in statuses
                ]
                kind = format_of_indexed(one.path).kind
                yield _found(one.path, statuses[one.path], kind, described)
        listing.endings.update(
            ending_of(name) for name, one in listing.sidecars.items() if one.path not in used
        )

    def _statuses(
        self, wanted: Sequence[Listed]
    ) -> Iterator[tuple[Listed, FileStatus | OSError | MMSearchError]]:
        """Give each object with its status, or why there is none; raises TimeoutError."""
        if all(one.status is not None for one in wanted):
            yield from ((one, one.status) for one in wanted if one.status is not None)
            return

        def ask(one: Listed) -> FileStatus | OSError | MMSearchError:
            try:
                return one.status or self._source.stat(one.path)
            except TimeoutError:
                raise
            except (OSError, MMSearchError) as error:
                return error

        with ThreadPoolExecutor(_ASKED_AT_ONCE, thread_name_prefix="status") as threads:
            try:
                yield from zip(wanted, threads.map(ask, wanted), strict=True)
            finally:
                threads.shutdown(wait=True, cancel_futures=True)


def _sidecars_of(listing: _Listing, rules: IgnoreRules) -> dict[str, list[Listed]]:
    """Find the files of a folder that are not ignored, by path, each with its sidecars."""

    def is_taken(one: Listed) -> bool:
        return not rules.ignores(one.path, is_directory=False)

    names = SidecarNames(name for name, one in listing.sidecars.items() if is_taken(one))
    return {
        one.path: [listing.sidecars[name] for name in names.of(posixpath.basename(one.path))]
        if _kind(one.path) in DESCRIBED
        else []
        for one in listing.files
        if is_taken(one)
    }


def _found(path: str, status: FileStatus, kind: MediaKind, sidecars: Sequence[Listed]) -> FoundFile:
    digest = xxhash.xxh3_64()
    for sidecar in sidecars:
        state = sidecar.status or FileStatus(0)
        digest.update(posixpath.basename(sidecar.path).encode("utf-8", "surrogateescape"))
        digest.update(struct.pack("<qq", state.st_size, state.st_mtime_ns))
        digest.update((state.etag or "").encode("utf-8", "surrogateescape"))
    return FoundFile(
        path,
        status.st_size,
        status.st_mtime_ns,
        kind,
        tuple(sidecar.path for sidecar in sidecars),
        digest.intdigest() - 2**63 if sidecars else None,
        status.etag,
    )
