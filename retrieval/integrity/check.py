"""Check everything in a library: catalog, vectors, indices, caches, and the files on demand."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.catalog import FileState
from retrieval.catalog.paths import is_there, is_virtual
from retrieval.embeddings import NO_CHECKSUM, are_damaged
from retrieval.encoders.base import Space
from retrieval.errors import LibraryError, MMSearchError, UnreadableFileError
from retrieval.files import checksum_of_opened, valid_text
from retrieval.indices import generations, tuning_queries
from retrieval.integrity import thumbnails
from retrieval.integrity.checksums import add_missing_checksums, are_no_vectors
from retrieval.library import Library
from retrieval.media import UNTRUSTED_MTIME, Modality, is_as_read
from retrieval.objects.opening import open_path, status_of

_BLOCK_ROWS = 1 << 14
_NAMED_FILES = 5

Progress = Callable[[str, int, int], None]
"""Takes the name of a stage, how much of it is done, and the total."""


@dataclass(frozen=True)
class Problem:
    """Something that is wrong.

    part: catalog, space, vectors, index, cache or file. path: of the file in question. repairable:
    whether `mmsearch check --repair` makes it again; else the description says what to do.
    """

    part: str
    path: str
    description: str
    repairable: bool


@dataclass(frozen=True, eq=False)
class DamagedRows:
    """Damaged rows of a space and modality, by their numbers, ascending.

    used: they hold vectors of items. unused: they hold nothing any more. unsealed: whole ones
    whose checksums are missing.
    """

    space: Space
    modality: Modality
    used: NDArray[np.int64]
    unused: NDArray[np.int64]
    unsealed: NDArray[np.int64]


@dataclass
class Report:
    """What a check found.

    notes: what is no damage, but to be known. rows, caches, files: how many were compared.
    damaged_rows, generations, derived: what a repair needs to know of the problems.
    """

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: int = 0
    caches: int = 0
    files: int = 0
    interrupted: bool = False
    damaged_rows: list[DamagedRows] = field(default_factory=list)
    generations: list[tuple[Space, Modality, int]] = field(default_factory=list)
    derived: list[Path] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Return whether nothing is wrong."""
        return not self.problems

    def add(self, part: str, path: str | Path, description: str, *, repairable: bool) -> None:
        """Add a problem."""
        self.problems.append(
            Problem(part, valid_text(str(path)), valid_text(description), repairable)
        )


def check_library(
    library: Library,
    *,
    files: bool = False,
    on_progress: Progress = lambda *_: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Report:
    """Check a library, and give rows of an earlier version their checksums if nobody writes.

    Args:
        library: what to check; searches and indexing may go on meanwhile.
        files: also read every indexed file and compare its content.
        on_progress: called as things are done.
        should_stop: asked now and then; if true, the report has what was found so far.
    """
    report = Report()
    on_progress("Catalog", 0, 1)
    for description in library.catalog.dialect.find_damage():
        # What is wrong with an index, or with the text index, can be made again.
        repairable = "index" in description
        advice = "" if repairable else " Restore the library from a backup (`mmsearch restore`)."
        report.add(
            "catalog",
            library.catalog.dialect.location,
            description + "." * (not description.endswith(".")) + advice,
            repairable=repairable,
        )
    on_progress("Catalog", 1, 1)
    steps: list[Callable[[], None]] = [
        lambda: _check_spaces(library, report, on_progress, should_stop),
        lambda: _check_caches(library, report, on_progress, should_stop),
    ]
    if files:
        steps.append(lambda: _check_files(library, report, on_progress, should_stop))
    for step in steps:
        if should_stop():
            report.interrupted = True
            break
        with _problems_reported(report, library.path):
            step()
    return report


def _check_spaces(
    library: Library, report: Report, on_progress: Progress, should_stop: Callable[[], bool]
) -> None:
    with library.catalog.snapshot() as snapshot:
        named = {space_id for space_id, _, count in snapshot.extents() if count}
    for space_id in sorted(named | set(library.space_ids())):
        with _problems_reported(report, library.path / "spaces" / space_id):
            space = library.space(space_id)
            _add_checksums(library, space, report, on_progress, should_stop)
            for modality in Modality:
                _check_rows(library, space, modality, report, on_progress, should_stop)
                _check_generations(library, space, modality, report)
            directory = library.space_directory(space)
            if file := tuning_queries.find_damage(directory, space.dimension):
                description = "These encoded queries are damaged, or of another version."
                report.add("cache", file, description, repairable=True)
                report.derived.append(file)


def _add_checksums(
    library: Library,
    space: Space,
    report: Report,
    on_progress: Progress,
    should_stop: Callable[[], bool],
) -> None:
    with library.catalog.snapshot() as snapshot:
        lacking = sum(
            snapshot.row_count(space.id, modality) - snapshot.checksum_count(space.id, modality)
            for modality in Modality
        )
    if not lacking:
        return
    try:
        with library.writer():
            added = add_missing_checksums(
                library,
                space,
                on_progress=lambda done, total: on_progress("Checksums", done, total),
                should_stop=should_stop,
            )
        report.notes.append(
            f"{added:,} vectors of an earlier version have checksums from now on (space {space.id})"
        )
    except LibraryError as error:  # a damaged file is told with its rows
        report.notes.append(f"{lacking:,} vectors have no checksums yet: {error}")


def _check_rows(
    library: Library,
    space: Space,
    modality: Modality,
    report: Report,
    on_progress: Progress,
    should_stop: Callable[[], bool],
) -> None:
    with library.catalog.snapshot() as snapshot:
        count = snapshot.row_count(space.id, modality)
        checksum_count = snapshot.checksum_count(space.id, modality)
        in_use = snapshot.rows_in_use(space.id, modality)
    file = library.embeddings(space, modality)
    held = file.size_in_rows()
    if len(beyond := in_use[in_use >= count]):
        description = f"{len(beyond):,} items name vectors that were never committed."
        report.add("catalog", library.catalog.dialect.location, description, repairable=False)
    if held > count:
        report.notes.append(
            f"{file.path} has {held - count:,} vectors past the {count:,} of the catalog: of a run "
            "that goes on or was interrupted. `mmsearch index` completes it."
        )
    is_used = np.zeros(count, np.bool_)
    is_used[in_use[in_use < count]] = True
    checksums = np.full(count, NO_CHECKSUM, np.uint64)
    checksums[:checksum_count] = file.checksums(checksum_count)
    damaged = np.ones(count, np.bool_)
    rows = file.rows(min(count, held))
    for begin in range(0, len(rows), _BLOCK_ROWS):
        if should_stop():
            report.interrupted = True
            return
        block = np.asarray(rows[begin : begin + _BLOCK_ROWS])
        part = slice(begin, begin + len(block))
        # A row that holds nothing any more may be zero.
        damaged[part] = are_damaged(block, checksums[part]) | (
            is_used[part] & are_no_vectors(block)
        )
        report.rows += len(block)
        on_progress(f"Vectors ({modality.plural})", begin + len(block), count)
    unsealed = ~damaged & (checksums == NO_CHECKSUM)
    unsealed[checksum_count:] = False
    found = DamagedRows(
        space,
        modality,
        np.flatnonzero(damaged & is_used),
        np.flatnonzero(damaged & ~is_used),
        np.flatnonzero(unsealed),
    )
    if damaged.any() or unsealed.any():
        report.damaged_rows.append(found)
        _tell_of_rows(library, found, held, count, report)


def _tell_of_rows(
    library: Library, found: DamagedRows, held: int, count: int, report: Report
) -> None:
    file = library.embeddings(found.space, found.modality)
    if held < count:
        description = f"It has {held:,} vectors, but the catalog has {count:,}: it was cut."
        report.add("vectors", file.path, description, repairable=True)
    if len(found.used):
        with library.catalog.snapshot() as snapshot:
            of_rows = snapshot.files_at_rows(found.space.id, found.modality, found.used.tolist())
        paths = sorted({entry.path for _, entry, state in of_rows if state is FileState.INDEXED})
        gone = [path for path in paths if not is_there(path)]
        named = ", ".join(paths[:_NAMED_FILES]) + (", ..." if len(paths) > _NAMED_FILES else "")
        description = (
            f"{len(found.used):,} vectors are damaged, of {len(paths):,} files: {named}. They are "
            "left out of searches."
        )
        if gone:
            description += (
                f" {len(gone):,} of the files are not there now ({gone[0]}), and their vectors "
                "cannot be made again without them: bring them back, restore the library from a "
                "backup, or give them up with `mmsearch remove PATH`."
            )
        report.add("vectors", file.path, description, repairable=len(gone) < max(1, len(paths)))
    if len(found.unused):
        description = f"{len(found.unused):,} vectors are damaged that nothing needs any more."
        report.add("vectors", file.path, description, repairable=True)
    if len(found.unsealed):
        description = f"The checksums of {len(found.unsealed):,} vectors are missing."
        report.add("vectors", file.checksum_path, description, repairable=True)


def _check_generations(library: Library, space: Space, modality: Modality, report: Report) -> None:
    directory = library.space_directory(space)
    with library.catalog.snapshot() as snapshot:
        count = snapshot.row_count(space.id, modality)
    held = library.embeddings(space, modality).size_in_rows()
    if count > held:
        return  # the vectors come first
    rows = library.embeddings(space, modality).rows(count)
    for number, reason in generations.find_damage(directory, modality, rows):
        report.generations.append((space, modality, number))
        description = f"{reason}. Searches go on without this index."
        report.add("index", directory / f"{modality}-{number}.json", description, repairable=True)


def _check_caches(
    library: Library, report: Report, on_progress: Progress, should_stop: Callable[[], bool]
) -> None:
    for name, found in (
        ("Reranker tokens", library.tokens.find_damage()),
        ("Thumbnails", thumbnails.find_damage(library)),
    ):
        damaged = []
        for done, path in enumerate(found, start=1):
            if should_stop():
                report.interrupted = True
                return
            report.caches += 1
            if path is not None:
                damaged.append(path)
            on_progress(name, done, done)
        if damaged:
            report.derived += damaged
            description = f"{name}: {len(damaged):,} files are damaged; none of them is used."
            report.add("cache", damaged[0], description, repairable=True)


def _check_files(
    library: Library, report: Report, on_progress: Progress, should_stop: Callable[[], bool]
) -> None:
    with library.catalog.snapshot() as snapshot:
        known = [entry for entry in snapshot.indexed_files() if not is_virtual(entry.path)]
    changed = gone = 0
    for done, entry in enumerate(known, start=1):
        if should_stop():
            report.interrupted = True
            return
        try:
            status = status_of(entry.path)
            with open_path(entry.path, status) as file:
                digest = checksum_of_opened(file)
        except FileNotFoundError:
            gone += 1
        except (OSError, UnreadableFileError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            description = f"It cannot be read: {reason}."
            report.add("file", entry.path, description, repairable=False)
        else:
            report.files += 1
            if digest == entry.content_hash:
                pass
            elif entry.mtime_ns != UNTRUSTED_MTIME and is_as_read(
                status, entry.size, entry.mtime_ns
            ):
                description = (
                    "Its content is not what was indexed, though size and time are: it was damaged "
                    "on the disk, or a program changed it and kept its time. Compare it with a "
                    "copy; `touch` it, and `mmsearch index` takes it as it is."
                )
                report.add("file", entry.path, description, repairable=False)
            else:
                changed += 1
        on_progress("Files", done, len(known))
    if changed or gone:
        report.notes.append(
            f"{changed:,} files were changed since they were indexed, {gone:,} are not there now: "
            "`mmsearch index` brings the library up to date."
        )


@contextmanager
def _problems_reported(report: Report, path: Path) -> Iterator[None]:
    """Turn errors of the library into problems, so that the rest is checked too."""
    try:
        yield
    except MMSearchError as error:
        report.add("library", path, str(error), repairable=False)
    except OSError as error:
        description = f"{error.filename or path} cannot be read: {error.strerror}."
        report.add("library", path, description, repairable=False)
