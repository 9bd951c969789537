"""Scan some paths of sources only, and find there what a walk of the whole source would find."""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from indexer.ignore_files import IGNORE_FILE_NAME, IgnoreRules, rules_of_root, with_ignore_file
from indexer.object_scan import walk_objects
from indexer.scan import (
    LIBRARY_FILES,
    EmptyRoot,
    Entry,
    FoundFile,
    Unlisted,
    is_of_kinds,
    is_system_folder,
    walk,
)
from indexer.sources import SourceOptions
from indexer.write_stability import WriteStability
from retrieval.catalog.paths import below, is_at_or_below
from retrieval.objects.paths import is_object

_MOST_PATHS = 100


@dataclass(frozen=True)
class PartialScan:
    """The paths that one run is limited to, in sources that the library knows.

    sources: all that the paths may lie in. paths: none below another one; only what is known at or
    below them is compared. stability: skips files that are being written; None: all are read.
    """

    sources: Mapping[str, SourceOptions]
    paths: Sequence[str]
    stability: WriteStability | None = None

    def walk(self, root: str, options: SourceOptions) -> Iterator[Entry]:
        """Find what a walk of the whole source would find at or below the paths."""
        for path in self.paths:
            if path == root:
                yield from walk(root, options)
            elif is_object(path) and is_at_or_below(path, root):
                yield from walk_objects(path, options, source=root)
            elif is_at_or_below(path, root):
                yield from _walk_below(root, path, options)

    def is_ready(self, found: FoundFile) -> bool:
        """Return whether to read a file in this run; else all that is known of it stays."""
        return self.stability is None or self.stability.admit(found)


def narrowed(paths: Sequence[str], sources: Mapping[str, SourceOptions]) -> list[str]:
    """Narrow a scan to the paths that cover all these: none below another, none twice.

    Whole sources where there are many, or links can lead anywhere. What is below none of the
    sources is left out.
    """
    kept: list[str] = []
    for root, options in sources.items():
        places = {path for path in paths if is_at_or_below(path, root)}
        if places and (len(places) > _MOST_PATHS or options.follow or options.one_file_system):
            kept.append(root)
            continue
        last: str | None = None
        for path in sorted(places, key=below):
            if last is None or not is_at_or_below(path, last):
                kept.append(path)
                last = path
    return kept


def names_below(root: str, path: str) -> list[str]:
    """List the names on the way from a source to a path below it, that of the path last."""
    return path.removeprefix(below(root)).split(os.sep)  # noqa: PTH206 - need not be valid text


def _walk_below(root: str, path: str, options: SourceOptions) -> Iterator[Entry]:
    """Find what a walk of a source finds at or below one path, without walking the rest of it."""
    if not os.path.isdir(root):  # noqa: PTH112 - names need not be valid text
        yield Unlisted(root, "is not there")
        return
    try:
        if not _is_reached(root, path, options):
            return
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        yield Unlisted(path, (error.strerror or str(error)).lower())
        return
    if os.path.isdir(path):  # noqa: PTH112
        for entry in walk(path, options):
            yield replace(entry, nested=True) if isinstance(entry, EmptyRoot) else entry
    elif is_of_kinds(path, options.kinds):
        for entry in walk(path, options):
            if isinstance(entry, Unlisted) or os.path.isfile(path):  # noqa: PTH113
                yield entry


def _is_reached(root: str, path: str, options: SourceOptions) -> bool:
    """Return whether a walk of a source comes to a path: nothing on the way is ignored.

    Raises OSError as `os.lstat`, on the way as at the end of it.
    """
    rules = rules_of_root(root)[0] if options.ignore_files else IgnoreRules()
    place, is_directory = root, True
    for name in names_below(root, path):
        prefix = below(place)
        if not is_directory or (name.startswith(".") and not options.hidden):
            return False
        if all(os.path.lexists(prefix + file) for file in LIBRARY_FILES):
            return False
        if options.ignore_files:
            rules, _ = with_ignore_file(rules, prefix + IGNORE_FILE_NAME)
        place = prefix + name
        is_directory = stat.S_ISDIR(os.lstat(place).st_mode)
        inside = os.path.basename(os.path.dirname(place))  # noqa: PTH119, PTH120
        if is_directory and not options.system_folders and is_system_folder(name, inside):
            return False
        if rules.ignores(place, is_directory=is_directory):
            return False
    return is_directory or not os.path.isdir(place)  # noqa: PTH112 - a link to a directory is not
