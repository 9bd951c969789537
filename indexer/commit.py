"""From a batch to the library: encode what is new, write it, record everything."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from indexer.batch import Batch, FileRead, PreparedPicture, failed_file
from indexer.decode import Content
from indexer.media.base import TextPiece
from indexer.media.chunking import split
from indexer.progress import Summary
from indexer.scan import Comparison, FoundFile
from retrieval.catalog import (
    FailedFile,
    FileEntry,
    FileState,
    FileUpdate,
    ItemEntry,
    Modality,
    Transaction,
)
from retrieval.encoders.base import Encoder, Pixels, Vectors
from retrieval.errors import LibraryError, UnreadableFileError
from retrieval.library import Library
from retrieval.media import NO_METADATA, Metadata

_Key = tuple[str, Modality, str]
"""What a vector is of: content hash, modality, part."""


class Commit:
    """One batch on its way into the library.

    After `run`, `to_read_again` are files whose content was known when they were read, but not any
    more: the file that held it has changed in an earlier batch of this run.
    """

    def __init__(
        self,
        library: Library,
        encoder: Encoder,
        comparison: Comparison,
        summary: Summary,
    ) -> None:
        self._library = library
        self._encoder = encoder
        self._space_id = encoder.space.id
        self._comparison = comparison
        self._summary = summary
        self._failures: list[FailedFile] = []
        self.to_read_again: list[FoundFile] = []

    def run(self, batch: Batch) -> None:
        """Encode what has no vector yet, write it, and record everything."""
        self._failures = [read.failure for read in batch.reads if read.failure]
        read = [r for r in batch.reads if r.content and not r.is_known_content]
        items = {place: self._items(r) for place, r in enumerate(read)}
        with self._library.catalog.snapshot() as snapshot:
            rows = snapshot.rows_of_contents(self._space_id, {_hash(r) for r in read})
            ends = {modality: snapshot.row_count(self._space_id, modality) for modality in Modality}
        vectors = self._encode(read, items, set(rows))
        counts = {}
        for modality, found in vectors.items():
            first_row = ends[modality]
            usable = {key: vector for key, vector in found.items() if np.isfinite(vector).all()}
            rows.update(zip(usable, range(first_row, first_row + len(usable)), strict=True))
            counts[modality] = len(usable)
            self._write(modality, list(usable.values()), first_row)
        updates = self._updates(read, items, rows)
        with self._library.catalog.transaction() as transaction:
            for modality, count in counts.items():
                transaction.extend_rows(self._space_id, modality, ends[modality], count)
            # First those that take over vectors, which changed files are about to let go.
            for same in batch.reads:
                if same.content and same.is_known_content:
                    self._record_known_content(transaction, same.found, same.content)
            transaction.record_files(self._space_id, updates)
            transaction.record_failures(self._failures)
        self._summary.embedded += sum(counts.values())
        self._summary.failed += len(self._failures)
        failed = {failure.path for failure in self._failures}
        for done in read:
            if done.next is None and done.found.path not in failed:
                self._count(done.found.path, _hash(done))

    def _items(self, read: FileRead) -> dict[tuple[Modality, str], PreparedPicture | TextPiece]:
        """What a file gave, by modality and part; texts split to what the encoder can read."""
        items: dict[tuple[Modality, str], PreparedPicture | TextPiece] = {
            (Modality.IMAGE, picture.piece.part): picture for picture in read.pictures
        }
        for piece in read.texts:
            passages = split(piece.text, self._encoder.token_count, self._encoder.context_length)
            for passage in passages:
                part = piece.part if len(passages) == 1 else f"{piece.part}x{passage.start}"
                items[Modality.TEXT, part] = replace(piece, part=part, text=passage.text)
        return items

    def _encode(
        self,
        read: Sequence[FileRead],
        items: dict[int, dict[tuple[Modality, str], PreparedPicture | TextPiece]],
        known: set[_Key],
    ) -> dict[Modality, dict[_Key, Vectors]]:
        """Vectors of what has none yet; contents that several files share are encoded once."""
        pictures: dict[_Key, Pixels] = {}
        texts: dict[_Key, str] = {}
        for place, r in enumerate(read):
            for (modality, part), piece in items[place].items():
                key = (_hash(r), modality, part)
                if key in known:
                    continue
                if isinstance(piece, PreparedPicture):
                    pictures[key] = piece.pixels
                else:
                    texts[key] = piece.text
        vectors: dict[Modality, dict[_Key, Vectors]] = {}
        if pictures:
            encoded = self._encoder.encode_images(np.stack(list(pictures.values())))
            vectors[Modality.IMAGE] = dict(zip(pictures, encoded, strict=True))
        if texts:
            encoded = self._encoder.encode_texts(list(texts.values()))
            vectors[Modality.TEXT] = dict(zip(texts, encoded, strict=True))
        return vectors

    def _write(self, modality: Modality, vectors: Sequence[Vectors], first_row: int) -> None:
        if not vectors:
            return
        try:
            embeddings = self._library.embeddings(self._encoder.space, modality)
            embeddings.write(np.stack(vectors), first_row)
        except OSError as error:
            raise LibraryError(
                f"{self._library.path} cannot be written: {error.strerror}. What was committed "
                "before is kept; run the same command again to go on."
            ) from error

    def _updates(
        self,
        read: Sequence[FileRead],
        items: dict[int, dict[tuple[Modality, str], PreparedPicture | TextPiece]],
        rows: dict[_Key, int],
    ) -> list[FileUpdate]:
        """What is to be recorded, one update a file."""
        updates: dict[str, FileUpdate] = {}
        for place, r in enumerate(read):
            found = []
            for (modality, part), piece in items[place].items():
                row = rows.get((_hash(r), modality, part))
                if row is None:
                    reason = "the encoder gave no finite vector"
                    self._failures.append(failed_file(r.found, UnreadableFileError(reason)))
                    break
                found.append(_read_item(piece, row))
            update = FileUpdate(
                _read_file(r.found, r.content, r.metadata),
                found,
                r.is_first,
                r.next is None,
                r.annotations,
            )
            before = updates.get(r.found.path)
            updates[r.found.path] = _joined(before, update) if before else update
        return list(updates.values())

    def _record_known_content(
        self, transaction: Transaction, found: FoundFile, content: Content
    ) -> None:
        """Record a file whose content has its vectors: touched, moved, returned or a duplicate."""
        file = _read_file(found, content)
        before = self._comparison.known.get(found.path)
        if before and before.embedded and before.content_hash == content.hash:
            transaction.record_touched([file])
            is_new = before.state is not FileState.INDEXED
            self._summary.added += is_new
            self._summary.unchanged += not is_new
            return
        moved = self._comparison.take_moved(found.path, content.size, content.hash)
        if moved and transaction.move_file(moved.path, found.path):
            transaction.record_touched([file])
            self._summary.moved += 1
            self._summary.removed -= moved.state is not FileState.REMOVED
            return
        reading = transaction.embedded_content(self._space_id, found.kind, content.hash)
        if reading is None:
            self.to_read_again.append(found)
            return
        metadata, items = reading
        transaction.record_files(
            self._space_id, [FileUpdate(replace(file, metadata=metadata), items)]
        )
        self._summary.duplicates += 1
        self._count(found.path, content.hash)

    def _count(self, path: str, content_hash: str) -> None:
        before = self._comparison.known.get(path)
        is_change = (
            before is not None
            and before.state is FileState.INDEXED
            and before.content_hash != content_hash
        )
        self._summary.added += not is_change
        self._summary.changed += is_change


def _hash(read: FileRead) -> str:
    return read.content.hash if read.content else ""


def _read_file(
    found: FoundFile, content: Content | None, metadata: Metadata = NO_METADATA
) -> FileEntry:
    assert content is not None
    return FileEntry(found.path, found.kind, content.size, content.mtime_ns, content.hash, metadata)


def _read_item(piece: PreparedPicture | TextPiece, row: int) -> ItemEntry:
    if isinstance(piece, PreparedPicture):
        picture = piece.piece
        return ItemEntry(
            Modality.IMAGE,
            row,
            picture.part,
            picture.width,
            picture.height,
            picture.page,
            picture.time_s,
        )
    return ItemEntry(
        Modality.TEXT, row, piece.part, page=piece.page, text=piece.text, columns=piece.columns
    )


def _joined(first: FileUpdate, second: FileUpdate) -> FileUpdate:
    """Two steps through one file as one; what is known of the file comes with its first step."""
    return FileUpdate(
        first.file,
        [*first.items, *second.items],
        first.is_first,
        second.is_complete,
        [*first.annotations, *second.annotations],
    )
