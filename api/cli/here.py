"""The library of the current folder: found, made and brought up to date before a search."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from api.cli.folder_library import (
    FolderLibrary,
    find_library,
    place_for_library,
    register,
    registered_folders,
)
from api.cli.open_library import library_and_encoder
from api.cli.options import complain, stop_on_signal
from retrieval.catalog.paths import is_at_or_below
from retrieval.encoders.deferred import deferred_encoder
from retrieval.errors import LibraryLockedError, MMSearchError, NotFoundError, UsageError
from retrieval.library import (
    Library,
    default_library_path,
    library_exists,
    open_library,
    read_sources,
)

if TYPE_CHECKING:
    from indexer.partial_scan import PartialScan
    from indexer.progress import Summary
    from indexer.sources import SourceOptions
    from retrieval.encoders.base import Encoder

MOST_FILES = 20_000
"""Files of a new folder that are indexed without asking."""
_BATCH_SIZE = 16
"""Small, so that somebody who waits sees progress and Ctrl-C soon has an effect."""
_STOPPING = "Finishing the current batch, then searching what is there. Ctrl-C again: stop at once."
_OF_SYSTEM = ("/bin", "/dev", "/etc", "/lib", "/opt", "/proc", "/run", "/sys", "/usr", "/var")


def open_here(
    chosen: Path | None = None, *, update: bool | None = None, device: str = "auto"
) -> FolderLibrary:
    """Find the library of the current folder, or make it, and bring it up to date.

    Args:
        chosen: Directory of the library, in place of the one that is found or made.
        update: Whether to look for new and changed files; True: also without asking, however many
            there are; None: asks for the first run in a large folder.
        device: Device of the encoder.

    Raises:
        NotFoundError: There is nothing to search here, or no library and `update` is False.
        UsageError: The folder is large, nobody can be asked, and `update` is not True.
        LibraryError: The library cannot be opened or created.
    """
    try:
        folder = Path.cwd()
    except FileNotFoundError:
        raise NotFoundError("The current folder was deleted. Change to another one.") from None
    found = _named(chosen, folder) if chosen else find_library(folder)
    if found is not None:
        if update is not False:
            _update(found, device)
        return found
    found = place_for_library(folder, chosen)
    if update is False:
        raise NotFoundError(f"{found.root} is not indexed yet. Leave out `--no-update`.")
    _require_files(found.root, may_be_large=update is True)
    library, encoder = library_and_encoder(
        found.path, None, None, device, True, os.environ.get("MMSEARCH_LANGUAGE")
    )
    register(found)
    _index(library, encoder, [found.root], device=device)
    return found


def _named(path: Path, folder: Path) -> FolderLibrary | None:
    """Say that a library of this path is that of a folder, if it has the folder as a source."""
    place = place_for_library(folder, path)
    sources = read_sources(path) if library_exists(path) else []
    return place if any(is_at_or_below(place.folder, source) for source in sources) else None


def _update(found: FolderLibrary, device: str) -> None:
    """Index what is new and changed at the folder; a problem is told, and the search goes on."""
    from indexer.partial_scan import PartialScan, narrowed
    from indexer.sources import choose_sources

    if not os.access(found.path, os.W_OK):
        return
    try:
        library = open_library(found.path, upgrade=True)
        encoder = deferred_encoder(library, library.space(), device)
        sources = {
            root: options
            for root, options in choose_sources(library, []).items()
            if is_at_or_below(found.folder, root)
        }
        if _leads_beyond(found, sources):
            complain(
                "The options of this library's sources lead beyond the current folder, so nothing "
                f"was indexed. If the library is yours: mmsearch index --library {found.path}"
            )
        elif sources:
            paths = narrowed([found.folder], sources)
            _index(library, encoder, [], PartialScan(sources, paths), device=device)
        else:
            _index(library, encoder, [found.root], device=device)
    except LibraryLockedError:
        complain("Another process is indexing: what it has not done yet is not searched.")
    except MMSearchError as error:
        complain(f"The library could not be brought up to date: {error}")


def _leads_beyond(found: FolderLibrary, sources: "Mapping[str, SourceOptions]") -> bool:
    """Return whether a library that may be a stranger's names sources that are walked as a whole.

    Those that follow links, or stay on one file system, are not narrowed to the current folder.
    """
    if found.path in {default_library_path(), *registered_folders().values()}:
        return False
    return any(
        options.follow or (options.one_file_system and root != found.folder)
        for root, options in sources.items()
    )


def _index(
    library: Library,
    encoder: "Encoder",
    paths: Sequence[str],
    partial: "PartialScan | None" = None,
    *,
    device: str,
) -> None:
    """Index, with a bar as soon as there is something to do; Ctrl-C keeps what is done."""
    from api.cli import console
    from api.cli.index_info import build_due_indices
    from indexer.pipeline import index_sources

    with stop_on_signal(note=_STOPPING) as stop:
        with console.indexing_progress(quiet=False, is_lazy=True) as bar:
            summary = index_sources(
                library,
                encoder,
                paths,
                partial=partial,
                batch_size=_BATCH_SIZE,
                on_progress=bar,
                should_stop=stop.is_set,
            )
        if summary.embedded and not summary.interrupted:
            build_due_indices(
                library, encoder, device=device, is_quiet=False, should_stop=stop.is_set
            )
    _tell(summary, library.path)


def _tell(summary: "Summary", path: Path) -> None:
    from api.cli import console

    if counts := console.file_counts(summary, ("added", "changed", "moved", "removed")):
        complain(f"{counts} in {summary.seconds:.1f} s")
    if summary.interrupted:
        complain("Stopped: the next search here goes on with the rest.")
    if summary.added and summary.failed:
        complain(
            f"{summary.failed:,} could not be read: mmsearch status --failed --library "
            f"{console.display_path(str(path))}"
        )


def _require_files(root: str, *, may_be_large: bool) -> None:
    """Raise unless there are files to index, and few, or the user wants all of them indexed."""
    if may_be_large:
        return
    if why := _why_large(root):
        _ask(f"{root} is {why}")
        return
    count = count_files(root, MOST_FILES)
    if count == 0:
        raise NotFoundError(
            f"There is nothing in {root} that can be searched: no images, videos, PDF files, texts "
            "or tables. Go to a folder that has some, or search your library: mmsearch search "
            '"..."'
        )
    if count > MOST_FILES:
        _ask(f"{root} has more than {MOST_FILES:,} files")


def count_files(root: str, most: int) -> int:
    """Count the files at or below a folder that can be indexed, up to one more than `most`."""
    from indexer.scan import FoundFile, walk

    count = 0
    for entry in walk(root):
        count += isinstance(entry, FoundFile)
        if count > most:
            break
    return count


def _why_large(root: str) -> str | None:
    """Say why a folder is not indexed by mistake: the home of a user, or one of the system."""
    home = os.path.expanduser("~")  # noqa: PTH111 - a Path raises without a home
    if os.path.dirname(root) == root or root in {os.path.dirname(home), *_OF_SYSTEM}:  # noqa: PTH120
        return "a folder of the system"
    return "your whole home directory" if root == home else None


def _ask(what: str) -> None:
    """Ask whether to index a large folder; raises UsageError where the answer is no."""
    from api.cli import console

    if sys.stdin.isatty() and console.err.is_terminal:
        with _no_abort():
            if typer.confirm(f"{what}. Index all of it now?", default=False, err=True):
                return
    raise UsageError(
        f"{what}, and was not indexed. Go to the folder of it that you want to search, or add "
        "`--update` to index all of it."
    )


@contextmanager
def _no_abort() -> Iterator[None]:
    """Treat Ctrl-C and the end of the input at a question as Ctrl-C."""
    try:
        yield
    except typer.Abort:
        raise KeyboardInterrupt from None
