"""Find the library of a folder tree from anywhere in it, as git finds a repository.

A library that is kept in the tree itself lies in `.mmsearch` at its top. All others lie in the
user's data directory, where a registry says which folder has which library.
"""

import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import xxhash

from retrieval.catalog.paths import is_at_or_below
from retrieval.errors import LibraryError, MMSearchError
from retrieval.files import make_directories, user_data_directory, valid_text, write_atomically
from retrieval.library import default_library_path, library_exists, read_sources

INSIDE = ".mmsearch"
"""Name of a library that is kept in the folder tree that it indexes."""
_NAME_CHARACTERS = 40


@dataclass(frozen=True)
class FolderLibrary:
    """The library of a folder tree.

    path: of the library, which need not exist yet. root: the folder at the top of the tree, as the
    library spells it. folder: the folder that was asked for, at or below the root.
    """

    path: Path
    root: str
    folder: str

    @property
    def is_own(self) -> bool:
        """Whether the library lies in the tree, and so may come from whoever made the tree."""
        return self.path.name == INSIDE and str(self.path.parent) == self.root

    @property
    def name(self) -> str:
        """What `--library` takes for it: the top of the tree, where that is enough."""
        return self.root if library_of(Path(self.root)) == self.path else str(self.path)


def find_library(folder: Path) -> FolderLibrary | None:
    """Find the library that a folder belongs to; None if there is none yet.

    The default library comes first if one of its sources has the folder; then the nearest folder
    above that has a library of its own. One inside the tree counts if it belongs to this user.
    """
    registered = registered_folders()
    for spelled in _spellings(folder):
        if found := _in_default_library(spelled):
            return found
        place = Path(spelled)
        for above in (place, *place.parents):
            inside = above / INSIDE
            if library_exists(inside) and _is_mine(inside):
                return FolderLibrary(inside, str(above), spelled)
            path = registered.get(str(above))
            if path is not None and library_exists(path):
                return FolderLibrary(path, str(above), spelled)
    return None


def library_of(folder: Path) -> Path | None:
    """Return the library that has a folder as the top of its tree; None: there is none."""
    root = os.path.abspath(folder)  # noqa: PTH100 - as sources are spelled
    inside = Path(root) / INSIDE
    found = inside if library_exists(inside) else registered_folders().get(root)
    return found if found is not None and library_exists(found) else None


def place_for_library(folder: Path, path: Path | None = None) -> FolderLibrary:
    """Say where the library of a folder is to be created. path: instead of the data directory.

    If a folder below has a library in the data directory, that one grows to the whole tree.
    """
    root = os.path.abspath(folder)  # noqa: PTH100 - as sources are spelled
    if path is None:
        nested = (
            library
            for known, library in registered_folders().items()
            if is_at_or_below(known, root) and library_exists(library)
        )
        path = next(nested, None) or _folders() / _name_for(root)
    return FolderLibrary(Path(os.path.abspath(path)), root, root)  # noqa: PTH100


def register(found: FolderLibrary) -> None:
    """Record the library of a folder, in place of those of folders below it.

    Raises LibraryError if the registry cannot be written.
    """
    before = registered_folders()
    kept = {
        known: library for known, library in before.items() if not is_at_or_below(known, found.root)
    }
    if not found.is_own:
        kept[found.root] = found.path
    if kept == before:
        return
    content = json.dumps({known: str(library) for known, library in kept.items()}, indent=1)
    try:
        make_directories(_registry().parent)
        write_atomically(_registry(), content.encode(), durable=True)
    except OSError as error:
        raise LibraryError(
            f"{_registry()} cannot be written: {error.strerror}. Name a library with `--library "
            "DIR` instead."
        ) from error


def registered_folders() -> dict[str, Path]:
    """Read which folder has which library, the nearest to the root of the file system first."""
    try:
        read = json.loads(_registry().read_bytes())
        return {known: Path(library) for known, library in sorted(read.items())}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _registry() -> Path:
    return user_data_directory() / "folders.json"


def _folders() -> Path:
    return user_data_directory() / "folders"


def _name_for(root: str) -> str:
    """Name the directory of a library so that a person recognises it, and no two are the same."""
    plain = "".join(c if c.isalnum() else "-" for c in valid_text(Path(root).name))
    return f"{plain[:_NAME_CHARACTERS]}-{xxhash.xxh3_64_hexdigest(os.fsencode(root))[:8]}"


def _spellings(folder: Path) -> Iterator[str]:
    """Spell a folder as the shell does, whose path may have symbolic links, then without any."""
    real = os.path.realpath(folder)
    said = os.environ.get("PWD", "")
    with suppress(OSError):
        if os.path.isabs(said) and os.path.samefile(said, folder) and said != real:  # noqa: PTH117, PTH121
            yield os.path.normpath(said)
    yield real


def _in_default_library(folder: str) -> FolderLibrary | None:
    """Find a folder among the sources of the default library, which may be of any version."""
    try:
        path = default_library_path()
        sources = read_sources(path) if library_exists(path) else []
    except MMSearchError:
        return None
    above = [source for source in sources if is_at_or_below(folder, source)]
    return FolderLibrary(path, max(above, key=len), folder) if above else None


def _is_mine(path: Path) -> bool:
    """Return whether a directory is this user's. A link is not: it may lead to another library."""
    found = path.lstat()
    return stat.S_ISDIR(found.st_mode) and (os.name != "posix" or found.st_uid == os.geteuid())
