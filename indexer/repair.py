"""Make again what a check found to be damaged: vectors from the files, and all that is derived."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from indexer.enrichment.run import restore_passages
from indexer.partial_scan import PartialScan, narrowed
from indexer.pipeline import index_sources
from indexer.progress import Progress
from indexer.sources import choose_sources
from retrieval.catalog import FileState
from retrieval.catalog.paths import is_at_or_below, is_there
from retrieval.embeddings import checksums_of
from retrieval.encoders.base import Encoder
from retrieval.errors import LibraryError, MMSearchError
from retrieval.indices import generations
from retrieval.integrity.check import DamagedRows, Report
from retrieval.library import Library
from retrieval.recognition.base import Task


@dataclass
class Repaired:
    """What a repair did.

    embedded: vectors that were made again. deleted: damaged files of caches and indices. problems:
    why something could not be done, sentences.
    """

    embedded: int = 0
    deleted: int = 0
    problems: list[str] = field(default_factory=list)
    interrupted: bool = False


def repair(
    library: Library,
    report: Report,
    load_encoder: Callable[[str], Encoder],
    *,
    on_progress: Callable[[Progress], None] = lambda _event: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Repaired:
    """Make again what can be made, killed at any instant and repeated.

    Vectors are forgotten and their files read again through the pipeline, which gives them new
    rows; the damaged rows are cleared. What is of files that are not there stays as it is, and is
    left out of searches.

    Args:
        library: what was checked.
        report: what was found.
        load_encoder: loads the encoder of a space, by its id.
        on_progress: called as files are read.
        should_stop: asked after each file.

    Raises:
        LibraryLockedError: another process is writing.
        LibraryError: the library cannot be written.
    """
    done = Repaired()
    if any(problem.part == "catalog" and problem.repairable for problem in report.problems):
        with library.writer():
            library.catalog.dialect.find_damage(repair=True)
    try:
        _delete_derived(library, report, done)
        for space_id in sorted({found.space.id for found in report.damaged_rows}):
            of_space = [found for found in report.damaged_rows if found.space.id == space_id]
            _repair_space(library, of_space, load_encoder, done, on_progress, should_stop)
    except OSError as error:
        raise LibraryError(
            f"{library.path} cannot be written: {error.strerror}. Run the same command again."
        ) from error
    return done


def _delete_derived(library: Library, report: Report, done: Repaired) -> None:
    for path in report.derived:
        path.unlink(missing_ok=True)
        done.deleted += 1
    for space, modality, number in report.generations:
        directory = library.space_directory(space)
        with generations.building(directory, modality):
            generations.remove_generation(directory, modality, number)
        done.deleted += 1


def _repair_space(
    library: Library,
    damaged: Sequence[DamagedRows],
    load_encoder: Callable[[str], Encoder],
    done: Repaired,
    on_progress: Callable[[Progress], None],
    should_stop: Callable[[], bool],
) -> None:
    space = damaged[0].space
    encoder, paths = None, set()
    if any(len(found.used) for found in damaged):
        try:
            encoder = load_encoder(space.id)  # before anything is forgotten
        except MMSearchError as error:
            done.problems.append(f"The vectors of {space.id} were not made again: {error}")
    with library.writer():
        for found in damaged:
            paths |= _forget(library, found, can_embed=encoder is not None)
    if encoder is None or not paths:
        return
    known = choose_sources(library, ())
    summary = index_sources(
        library,
        encoder,
        partial=PartialScan(known, narrowed(sorted(paths), known)),
        on_progress=on_progress,
        should_stop=should_stop,
    )
    done.embedded += summary.embedded
    done.interrupted = done.interrupted or summary.interrupted
    for task in Task:  # found texts are not read from files
        restored = restore_passages(library, encoder, task, should_stop=should_stop)
        done.embedded += restored.passages


def _forget(library: Library, found: DamagedRows, *, can_embed: bool) -> set[str]:
    """Forget damaged rows whose files can be read again; returns the paths of these."""
    file = library.embeddings(found.space, found.modality)
    with library.catalog.snapshot() as snapshot:
        count = snapshot.row_count(found.space.id, found.modality)
        sources = snapshot.sources()
        of_rows = snapshot.files_at_rows(found.space.id, found.modality, found.used.tolist())
    paths: dict[int, set[str]] = {}
    kept = set()
    for row, entry, state in of_rows:
        if state is not FileState.INDEXED:
            continue  # nothing is lost: it is read again when it comes back
        in_source = any(is_at_or_below(entry.path, source) for source in sources)
        if can_embed and in_source and is_there(entry.path):
            paths.setdefault(row, set()).add(entry.path)
        else:
            kept.add(row)
    # Of copies, one file is enough.
    lost = sorted(kept - paths.keys())
    forgotten = sorted(set(found.used.tolist()) - set(lost))
    if forgotten:
        with library.catalog.transaction() as transaction:
            transaction.forget_vectors(found.space.id, found.modality, forgotten)
    held = file.size_in_rows()
    if cut := [row for row in lost if row >= held]:
        file.clear(cut, lost=True)
    file.clear([*forgotten, *found.unused.tolist()], lost=False)
    _seal(library, found.unsealed, found, count)
    return {path for at_row in paths.values() for path in at_row}


def _seal(library: Library, numbers: NDArray[np.int64], found: DamagedRows, count: int) -> None:
    """Write the checksums of whole rows that lack theirs."""
    if not len(numbers):
        return
    file = library.embeddings(found.space, found.modality)
    rows = file.rows(count)
    ends = np.flatnonzero(np.diff(numbers) != 1) + 1
    for run in np.split(numbers, ends):
        first, last = int(run[0]), int(run[-1]) + 1
        file.write_checksums(checksums_of(np.asarray(rows[first:last])), first)
