"""Record in a library what was read and encoded: rows first, then what the catalog says of them."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from indexer.decode import Content
from indexer.encode import EncodedStep, FileStep, VectorKey, encode_steps
from indexer.progress import Summary
from indexer.scan import Comparison, FoundFile
from retrieval.catalog import FileEntry, FileState, FileUpdate, ItemEntry, Transaction
from retrieval.catalog.paths import is_at_or_below, is_gone, is_there
from retrieval.catalog.schema import SIDECARS_NOT_READ
from retrieval.encoders.base import Encoder, Space
from retrieval.errors import LibraryError
from retrieval.library import Library
from retrieval.media import NO_METADATA, Metadata, Modality


@dataclass
class Batch:
    """Steps that are committed together, and how many pieces of each modality they gave."""

    steps: list[FileStep] = field(default_factory=list)
    counts: Counter[Modality] = field(default_factory=Counter)

    def add(self, step: FileStep) -> None:
        """Take in one step through a file."""
        self.steps.append(step)
        if step.decoded:
            self.counts.update(piece.modality for piece in step.decoded.pieces)

    def is_full(self, size: int) -> bool:
        """Return whether there is enough for the encoder, or too much to lose."""
        return max(self.counts.values(), default=0) >= size or len(self.steps) >= 4 * size


def commit(
    library: Library, encoder: Encoder, batch: Batch, comparison: Comparison, summary: Summary
) -> list[FoundFile]:
    """Encode what has no vector yet, write and flush it, and only then name it in the catalog.

    Args:
        library: the library to write to.
        encoder: the encoder of the space whose vectors are computed.
        batch: decoded files.
        comparison: what the scan found, to recognise moved files.
        summary: counts, which are updated.

    Returns:
        The files to be read again: their content was known when they were read, but is not any
        more, since the file that held it has changed in an earlier batch of the run.
    """
    hashes = {step.content.hash for step in batch.steps if step.content and step.decoded}
    with library.catalog.snapshot() as snapshot:
        rows = snapshot.rows_of_contents(encoder.space.id, hashes)
    encoded = encode_steps(encoder, batch.steps, rows.keys())
    return record(library, encoder.space, encoded, rows, comparison, summary)


def record(
    library: Library,
    space: Space,
    steps: Sequence[EncodedStep],
    rows: dict[VectorKey, int],
    comparison: Comparison,
    summary: Summary,
) -> list[FoundFile]:
    """Give vectors their rows, write and flush them, and only then name them in the catalog.

    Args:
        library: the library to write to.
        space: what the vectors are of.
        steps: what was encoded.
        rows: of the vectors that the library has already; those of new ones are added.
        comparison: what the scan found, to recognise moved files.
        summary: counts, which are updated.

    Returns:
        The files to be read again, as `commit`.
    """
    with library.catalog.snapshot() as snapshot:
        ends = {modality: snapshot.row_count(space.id, modality) for modality in Modality}
    new: dict[Modality, list[NDArray[np.float16]]] = {}
    for step in steps:
        for piece in step.pieces:
            key = step.key_of(piece)
            if key not in rows and piece.vector is not None:
                of_modality = new.setdefault(piece.modality, [])
                rows[key] = ends[piece.modality] + len(of_modality)
                of_modality.append(piece.vector)
    for modality, vectors in new.items():
        write_rows(library, space, modality, vectors, ends[modality])
    updates = _updates(steps, rows)
    failures = [step.failure for step in steps if step.failure]
    to_read_again = []
    with library.catalog.transaction() as transaction:
        for modality, vectors in new.items():
            transaction.extend_rows(space.id, modality, ends[modality], len(vectors))
        # First those that take over vectors, which changed files are about to let go.
        for step in steps:
            if step.is_known:
                recorded = _record_known(transaction, space.id, step, comparison, summary)
                to_read_again += [] if recorded else [step.found]
        transaction.record_files(space.id, updates)
        transaction.record_failures(failures)
    summary.embedded += sum(len(vectors) for vectors in new.values())
    summary.failed += len(failures)
    failed = {failure.path for failure in failures}
    summary.noted += sum(bool(update.notes) for update in updates)
    for step in steps:
        if step.is_last and not step.is_known and step.found.path not in failed:
            _count(step, comparison, summary)
    return to_read_again


def write_rows(
    library: Library,
    space: Space,
    modality: Modality,
    vectors: Sequence[NDArray[np.float16]],
    first_row: int,
) -> None:
    """Write vectors of a space to the disk, before the catalog names them.

    Raises LibraryError where the disk is full or read-only.
    """
    try:
        library.embeddings(space, modality).write(np.stack(vectors), first_row)
    except OSError as error:
        raise LibraryError(
            f"{library.path} cannot be written: {error.strerror}. What was committed before is "
            "kept; run the same command again to go on."
        ) from error


def _updates(steps: Sequence[EncodedStep], rows: dict[VectorKey, int]) -> list[FileUpdate]:
    """Collect the updates to record, one a file."""
    updates: dict[str, FileUpdate] = {}
    for step in steps:
        if step.content is None or step.is_known:
            continue
        items = [
            ItemEntry(
                piece.modality, rows[step.key_of(piece)], text=piece.text, **vars(piece.locator)
            )
            for piece in step.pieces
        ]
        update = FileUpdate(
            _read_file(step, step.metadata),
            items,
            step.is_first,
            step.is_last,
            [(said.image_path, said.columns) for said in step.annotations],
            step.notes,
        )
        before = updates.get(step.found.path)
        updates[step.found.path] = _joined(before, update) if before else update
    return list(updates.values())


def _record_known(
    transaction: Transaction,
    space_id: str,
    step: EncodedStep,
    comparison: Comparison,
    summary: Summary,
) -> bool:
    """Record a file whose content has its vectors: touched, moved, returned or a duplicate.

    Returns False where the content has none any more.
    """
    found, content, file = step.found, _content(step), _read_file(step)
    before = comparison.known.get(found.path)
    described = found.sidecars_state
    if before and before.embedded and before.content_hash == content.hash:
        if described != before.sidecars:
            comparison.to_refresh.append(found)
        transaction.record_touched([file])
        is_new = before.state is not FileState.INDEXED
        summary.added += is_new
        summary.unchanged += not is_new
        return True
    moved = comparison.take_moved(found.path, content.size, content.hash)
    if moved and transaction.move_file(moved.path, found.path):
        if described != moved.sidecars:
            comparison.to_refresh.append(found)
        transaction.record_touched([file])
        summary.moved += 1
        summary.removed -= moved.state is not FileState.REMOVED
        return True
    gone = _path_moved_from(transaction, found, content.hash)
    if gone and transaction.move_file(gone, found.path):
        if described is not None:
            comparison.to_refresh.append(found)
        transaction.record_touched([file])
        transaction.remove_sources_below(gone)
        summary.moved += 1
        return True
    known = transaction.embedded_content(space_id, found.kind, content.hash)
    if known is None:
        return False
    metadata, items, notes = known
    if described is not None or metadata is None:
        comparison.to_refresh.append(found)
        file = replace(file, sidecars=SIDECARS_NOT_READ)
    copied = FileUpdate(replace(file, metadata=metadata or NO_METADATA), items, notes=notes)
    transaction.record_files(space_id, [copied])
    summary.duplicates += 1
    _count(step, comparison, summary)
    return True


def _path_moved_from(transaction: Transaction, found: FoundFile, content_hash: str) -> str | None:
    """Find a file of the same content, outside of what this run scans, that is certainly gone.

    What lies in a source that is not there, as on a drive that is not mounted, is not gone.
    """
    candidates = [
        (path, state)
        for path, state in transaction.paths_with_content(found.kind, content_hash)
        if path != found.path and is_gone(path)
    ]
    if not candidates:
        return None
    sources = transaction.sources()
    name = os.path.basename(found.path)  # noqa: PTH119 - names need not be valid text
    gone = [
        (state is FileState.REMOVED, os.path.basename(path) != name, path)  # noqa: PTH119
        for path, state in candidates
        if state is FileState.REMOVED or _source_is_there(path, sources)
    ]
    return min(gone)[-1] if gone else None


def _source_is_there(path: str, sources: Sequence[str]) -> bool:
    """Return whether the sources above a path are there; of one that is a file, its folder."""
    folder = os.path.dirname(path)  # noqa: PTH120 - names need not be valid text
    above = [source for source in sources if is_at_or_below(path, source)]
    return bool(above) and all(is_there(folder if s == path else s) for s in above)


def _count(step: EncodedStep, comparison: Comparison, summary: Summary) -> None:
    before = comparison.known.get(step.found.path)
    is_change = (
        before is not None
        and before.state is FileState.INDEXED
        and before.content_hash != _content(step).hash
    )
    summary.added += not is_change
    summary.changed += is_change


def _content(step: EncodedStep) -> Content:
    assert step.content is not None
    return step.content


def _read_file(step: EncodedStep, metadata: Metadata = NO_METADATA) -> FileEntry:
    found, content = step.found, _content(step)
    known = found.path, found.kind, content.size, content.mtime_ns, content.hash
    return FileEntry(*known, metadata, found.sidecars_state, content.etag)


def _joined(first: FileUpdate, second: FileUpdate) -> FileUpdate:
    """Two steps through one file as one; what is known of the file comes with its first step."""
    return FileUpdate(
        first.file,
        [*first.items, *second.items],
        first.is_first,
        second.is_complete,
        [*first.annotations, *second.annotations],
        [*first.notes, *second.notes],
    )
