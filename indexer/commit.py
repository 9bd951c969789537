"""From steps through files to the library: encode what is new, write it, record everything."""

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from indexer.decode import Content, is_stable
from indexer.media.base import Decoded, Piece
from indexer.media.chunking import split
from indexer.progress import Summary
from indexer.scan import Comparison, FoundFile
from retrieval.catalog import FailedFile, FileEntry, FileState, FileUpdate, ItemEntry, Transaction
from retrieval.catalog.paths import is_at_or_below, is_gone, is_there
from retrieval.encoders.base import Encoder, Vectors
from retrieval.errors import LibraryError, MissingExtraError, UnreadableFileError
from retrieval.library import Library
from retrieval.media import NO_METADATA, Metadata, Modality
from retrieval.media.places import place_name

_Key = tuple[str, Modality, str]
"""What a vector is of: content hash, modality, part."""


@dataclass(frozen=True, slots=True)
class FileStep:
    """One step through a file: what it gave, with payloads as the encoder takes them.

    Long texts are not split yet. content is None where the file could not be read, for the reason
    in `failure`. decoded is None there, and where the content was known before.
    """

    found: FoundFile
    content: Content | None = None
    decoded: Decoded | None = None
    failure: FailedFile | None = None
    is_first: bool = True

    @property
    def next(self) -> int | None:
        """Return where the next step begins; None: this was the last."""
        return self.decoded.next if self.decoded else None


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


def failed_file(found: FoundFile, error: OSError | UnreadableFileError) -> FailedFile:
    """Record why a file failed; a reason that may pass by itself has it tried at the next run."""
    if isinstance(error, OSError):
        return FailedFile(found.path, (error.strerror or str(error)).lower())
    is_lasting = is_stable(found.mtime_ns, time.time_ns())
    if isinstance(error, MissingExtraError) or not is_lasting:
        return FailedFile(found.path, str(error))
    return FailedFile(found.path, str(error), found.size, found.mtime_ns)


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
    space = encoder.space
    steps = [_with_chunks(step, encoder) for step in batch.steps if step.decoded]
    with library.catalog.snapshot() as snapshot:
        rows = snapshot.rows_of_contents(space.id, {_content(step).hash for step in steps})
        ends = {modality: snapshot.row_count(space.id, modality) for modality in Modality}
    counts = {}
    for modality, vectors in _encode(encoder, steps, set(rows)).items():
        first = ends[modality]
        usable = {key: vector for key, vector in vectors.items() if np.isfinite(vector).all()}
        rows.update(zip(usable, range(first, first + len(usable)), strict=True))
        counts[modality] = len(usable)
        if usable:
            _write(library, encoder, modality, list(usable.values()), first)
    updates, incomplete = _updates(steps, rows)
    failures = [*(step.failure for step in batch.steps if step.failure), *incomplete]
    to_read_again = []
    with library.catalog.transaction() as transaction:
        for modality, count in counts.items():
            transaction.extend_rows(space.id, modality, ends[modality], count)
        # First those that take over vectors, which changed files are about to let go.
        for step in batch.steps:
            if step.content and not step.decoded:
                recorded = _record_known(transaction, space.id, step, comparison, summary)
                to_read_again += [] if recorded else [step.found]
        transaction.record_files(space.id, updates)
        transaction.record_failures(failures)
    summary.embedded += sum(counts.values())
    summary.failed += len(failures)
    failed = {failure.path for failure in failures}
    summary.noted += sum(bool(update.notes) for update in updates)
    for step in steps:
        if step.next is None and step.found.path not in failed:
            _count(step, comparison, summary)
    return to_read_again


def _with_chunks(step: FileStep, encoder: Encoder) -> FileStep:
    """Split long texts into chunks that the encoder reads whole, each a piece of its own."""
    pieces: list[Piece] = []
    for piece in _decoded(step).pieces:
        if piece.modality is not Modality.TEXT:
            pieces.append(piece)
            continue
        chunks = split(piece.payload, encoder.token_count, encoder.context_length)
        for chunk in chunks:
            locator = piece.locator
            if len(chunks) > 1:
                locator = replace(locator, part=f"{locator.part}x{chunk.start}")
            pieces.append(Piece(Modality.TEXT, chunk.text, locator))
    return replace(step, decoded=replace(_decoded(step), pieces=tuple(pieces)))


def _encode(
    encoder: Encoder, steps: Sequence[FileStep], known: set[_Key]
) -> dict[Modality, dict[_Key, Vectors]]:
    """Vectors of what has none yet; contents that several files share are encoded once."""
    new: dict[Modality, dict[_Key, Piece]] = {}
    for step in steps:
        for key, piece in _pieces(step):
            if key not in known:
                new.setdefault(piece.modality, {})[key] = piece
    return {
        modality: dict(
            zip(
                pieces,
                encoder.encode(modality, [piece.payload for piece in pieces.values()]),
                strict=True,
            )
        )
        for modality, pieces in new.items()
    }


def _write(
    library: Library,
    encoder: Encoder,
    modality: Modality,
    vectors: Sequence[Vectors],
    first_row: int,
) -> None:
    try:
        library.embeddings(encoder.space, modality).write(np.stack(vectors), first_row)
    except OSError as error:
        raise LibraryError(
            f"{library.path} cannot be written: {error.strerror}. What was committed before is "
            "kept; run the same command again to go on."
        ) from error


def _updates(
    steps: Sequence[FileStep], rows: dict[_Key, int]
) -> tuple[list[FileUpdate], list[FailedFile]]:
    """Collect the updates to record, one a file, and the files that lack a vector."""
    updates: dict[str, FileUpdate] = {}
    failures = []
    for step in steps:
        decoded = _decoded(step)
        items = [
            ItemEntry(
                piece.modality,
                rows[key],
                text=piece.payload if piece.modality is Modality.TEXT else None,
                **vars(piece.locator),
            )
            for key, piece in _pieces(step)
            if key in rows
        ]
        if len(items) < len(decoded.pieces):
            reason = "the encoder gave no finite vector"
            failures.append(failed_file(step.found, UnreadableFileError(reason)))
        update = FileUpdate(
            _read_file(step, _with_place(decoded.metadata)),
            items,
            step.is_first,
            step.next is None,
            [(said.image_path, said.columns) for said in decoded.annotations],
            decoded.notes,
        )
        before = updates.get(step.found.path)
        updates[step.found.path] = _joined(before, update) if before else update
    return list(updates.values()), failures


def _record_known(
    transaction: Transaction,
    space_id: str,
    step: FileStep,
    comparison: Comparison,
    summary: Summary,
) -> bool:
    """Record a file whose content has its vectors: touched, moved, returned or a duplicate.

    Returns False where the content has none any more.
    """
    found, content, file = step.found, _content(step), _read_file(step)
    before = comparison.known.get(found.path)
    if before and before.embedded and before.content_hash == content.hash:
        transaction.record_touched([file])
        is_new = before.state is not FileState.INDEXED
        summary.added += is_new
        summary.unchanged += not is_new
        return True
    moved = comparison.take_moved(found.path, content.size, content.hash)
    if moved and transaction.move_file(moved.path, found.path):
        transaction.record_touched([file])
        summary.moved += 1
        summary.removed -= moved.state is not FileState.REMOVED
        return True
    gone = _path_moved_from(transaction, found, content.hash)
    if gone and transaction.move_file(gone, found.path):
        transaction.record_touched([file])
        transaction.remove_sources_below(gone)
        summary.moved += 1
        return True
    known = transaction.embedded_content(space_id, found.kind, content.hash)
    if known is None:
        return False
    metadata, items, notes = known
    copied = FileUpdate(replace(file, metadata=metadata), items, notes=notes)
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


def _count(step: FileStep, comparison: Comparison, summary: Summary) -> None:
    before = comparison.known.get(step.found.path)
    is_change = (
        before is not None
        and before.state is FileState.INDEXED
        and before.content_hash != _content(step).hash
    )
    summary.added += not is_change
    summary.changed += is_change


def _content(step: FileStep) -> Content:
    assert step.content is not None
    return step.content


def _decoded(step: FileStep) -> Decoded:
    assert step.decoded is not None
    return step.decoded


def _pieces(step: FileStep) -> Iterator[tuple[_Key, Piece]]:
    for piece in _decoded(step).pieces:
        yield (_content(step).hash, piece.modality, piece.locator.part), piece


def _with_place(metadata: Metadata) -> Metadata:
    """Name the place of a file that has coordinates."""
    if metadata.latitude is None or metadata.longitude is None:
        return metadata
    return replace(metadata, place=place_name(metadata.latitude, metadata.longitude))


def _read_file(step: FileStep, metadata: Metadata = NO_METADATA) -> FileEntry:
    found, content = step.found, _content(step)
    return FileEntry(found.path, found.kind, content.size, content.mtime_ns, content.hash, metadata)


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
