"""Read -> batch -> encode -> commit: brings a library up to date with its sources."""

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Protocol

import numpy as np

from indexer.media.base import PicturePiece, Reading, ReadOptions, TextPiece
from indexer.passages import split
from indexer.reading import Content, is_settled, read_first, read_on
from indexer.scan import Comparison, EmptyRoot, FoundFile, Unlisted, compare, walk
from indexer.sources import Changes, SourceOptions, absolute, choose_sources, source_above
from indexer.workers import ReadingWorkers
from retrieval.catalog import (
    FailedFile,
    FileState,
    FileUpdate,
    Modality,
    ReadFile,
    ReadItem,
    Transaction,
)
from retrieval.encoders.base import REDUCED_TO_SIDES, Encoder, Pixels, Space, Vectors
from retrieval.errors import (
    DamagedLibraryError,
    LibraryError,
    MissingExtraError,
    NotFoundError,
    UnreadableFileError,
)
from retrieval.images import default_max_pixels
from retrieval.library import Library
from retrieval.media import NO_METADATA, MediaKind, Metadata

DEFAULT_BATCH_SIZE = 64
DEFAULT_LIMIT_S = 60.0
_LOOKED_UP_AT_ONCE = 256
_WEIGHT_OF_MANY_PIECES = 32
"""How many images a file of another kind counts as, in what is read ahead."""

_Key = tuple[str, Modality, str]
"""What a vector is of: content hash, modality, part."""


@dataclass(frozen=True)
class Progress:
    """How far a run is, in files that have to be read. `total` is None while folders are walked."""

    done: int
    total: int | None
    failed: int = 0


@dataclass
class Summary:
    """What a run did. Counts are files, but for `embedded`.

    found: files that are there now. unchanged: neither read nor embedded, or only touched. moved:
    found at another path than before. duplicates: added files whose content was known already, from
    another file. failed: could not be read, now or when last looked at. embedded: pictures and
    passages that a vector was computed for. interrupted: the run was stopped and the rest is to be
    done.
    """

    found: int = 0
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    moved: int = 0
    duplicates: int = 0
    removed: int = 0
    failed: int = 0
    embedded: int = 0
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def items_per_second(self) -> float:
        """Vectors computed in a second of the whole run."""
        return self.embedded / self.seconds if self.seconds else 0.0


class Part(Protocol):
    """What a run is limited to, of sources that the library knows already."""

    @property
    def sources(self) -> Mapping[str, SourceOptions]:
        """All sources that the paths may lie in, with their options."""
        ...

    @property
    def paths(self) -> Sequence[str]:
        """None below another one. Only what is known at or below them is compared."""
        ...

    def walk(self, root: str, options: SourceOptions) -> Iterator[FoundFile | Unlisted | EmptyRoot]:
        """Find what a walk of the whole source would find at or below the paths."""
        ...

    def is_ready(self, found: FoundFile) -> bool:
        """Whether to read a file in this run; else all that is known of it stays."""
        ...


@dataclass(frozen=True, slots=True)
class _Picture:
    piece: PicturePiece
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class _Read:
    """What a file gave in one go: its pictures are ready for the encoder, its texts are not split.

    content is None where the file could not be read, for the reason in `failure`.
    """

    found: FoundFile
    content: Content | None = None
    failure: FailedFile | None = None
    is_known_content: bool = False
    pictures: tuple[_Picture, ...] = ()
    texts: tuple[TextPiece, ...] = ()
    metadata: Metadata = NO_METADATA
    annotations: tuple[tuple[str, dict[str, object]], ...] = ()
    is_first: bool = True
    next: int | None = None


@dataclass
class _Batch:
    """What is committed together."""

    reads: list[_Read] = field(default_factory=list)
    pictures: int = 0
    texts: int = 0

    def add(self, read: _Read) -> None:
        self.reads.append(read)
        self.pictures += len(read.pictures)
        self.texts += len(read.texts)

    def is_full(self, size: int) -> bool:
        return max(self.pictures, self.texts) >= size or len(self.reads) >= 4 * size


def index_sources(
    library: Library,
    encoder: Encoder,
    paths: Sequence[str | os.PathLike[str]] = (),
    *,
    changes: Changes | None = None,
    part: Part | None = None,
    batch_size: int = DEFAULT_BATCH_SIZE,
    workers: int | None = None,
    readers: ReadingWorkers | None = None,
    limit_s: float = DEFAULT_LIMIT_S,
    max_pixels: int | None = None,
    retry_failed: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Summary:
    """Make a library hold what is at some paths now, or at all its sources if none are given.

    Rows are written and flushed before the catalog names them, batch by batch: whatever ends the
    process, at most the batch in flight is lost, and the next call completes it. `should_stop` is
    asked after each file; what is in flight is committed then. Files are read in worker processes,
    at most `limit_s` seconds at a time; a file that makes its process crash, or takes longer, is
    recorded as failed. `changes` are of the options of the paths' sources;
    what they leave out is as the library was told before. `part` takes the place of paths and
    changes and adds no source. `readers` are processes that are kept for the next run; their own
    number and time limit hold.

    Raises NotFoundError for a path that does not exist, LibraryLockedError when another process is
    writing, LibraryError when the disk is full.
    """
    start = time.perf_counter()
    with library.writer():
        sources = dict(part.sources) if part else choose_sources(library, paths, changes)
        if not part:
            chosen = {root: options.to_json() for root, options in sources.items()}
            with library.catalog.transaction() as transaction:
                transaction.add_sources(chosen)
        on_progress(Progress(0, None))
        run = _Run(library, encoder, sources, batch_size, max_pixels)
        comparison = run.compare(retry_failed, part)
        total = len(comparison.to_read)
        on_progress(Progress(0, total, run.summary.failed))
        batch, done, is_stopping = _Batch(), 0, False
        count = workers or default_workers()
        with (
            nullcontext(readers)
            if readers
            else ReadingWorkers(count, limit_s=limit_s) as processes,
            closing(run.read_ahead(processes, 2 * count, comparison)) as reads,
        ):
            for read in reads:
                batch.add(read)
                done += read.next is None
                is_stopping = should_stop()
                if is_stopping or batch.is_full(batch_size):
                    run.commit(batch)
                    batch = _Batch()
                    on_progress(Progress(done, total, run.summary.failed))
                if is_stopping:
                    break
        if batch.reads:
            run.commit(batch)
            on_progress(Progress(done, total, run.summary.failed))
    run.summary.interrupted = done < total
    run.summary.seconds = time.perf_counter() - start
    return run.summary


def default_workers() -> int:
    """Processes that read files: one core is left to what feeds the encoder."""
    return max(1, min(16, (os.cpu_count() or 1) - 1))


def remove_paths(library: Library, paths: Sequence[str | os.PathLike[str]]) -> int:
    """Forget everything at or below some paths: sources, files, items. Files stay on the disk.

    Returns how many files were hidden. Raises NotFoundError, and removes nothing, when the library
    knows nothing at one of the paths.
    """
    removed = 0
    with library.writer(), library.catalog.transaction() as transaction:
        for path in paths:
            root = absolute(path)
            known = [file.path for file in transaction.files_below([root], space_id="")]
            sources = transaction.remove_sources_below(root)
            if not known and not sources:
                raise NotFoundError(f"The library knows nothing at {root}; nothing was removed.")
            removed += transaction.mark_removed(known)
    return removed


class _Run:
    """One run over some sources: what the steps of the pipeline share."""

    def __init__(
        self,
        library: Library,
        encoder: Encoder,
        sources: dict[str, SourceOptions],
        batch_size: int,
        max_pixels: int | None,
    ) -> None:
        self.summary = Summary()
        self._library = library
        self._encoder = encoder
        self._space: Space = encoder.space
        self._sources = sources
        self._batch_size = batch_size
        self._max_pixels = max_pixels or default_max_pixels()
        self._comparison = Comparison()

    def compare(self, retry_failed: bool, part: Part | None = None) -> Comparison:
        """Walk the sources, or a part of them, and hide what is gone."""
        look = part.walk if part else walk
        with self._library.catalog.snapshot() as snapshot:
            places = part.paths if part else list(self._sources)
            known = snapshot.files_below(places, self._space.id)
            found = chain.from_iterable(
                look(root, options) for root, options in self._sources.items()
            )
            comparison = compare(found, known, retry_failed=retry_failed)
        if part:
            comparison.to_read = [file for file in comparison.to_read if part.is_ready(file)]
        with self._library.catalog.transaction() as transaction:
            self.summary.removed = transaction.mark_removed(comparison.gone)
            transaction.record_failures(comparison.unlisted)
        self._comparison = comparison
        self.summary.found = (
            len(comparison.to_read) + comparison.unchanged + comparison.still_failed
        )
        self.summary.unchanged = comparison.unchanged
        self.summary.failed = comparison.still_failed + len(comparison.unlisted)
        return comparison

    def read_ahead(
        self, processes: ReadingWorkers, threads_count: int, comparison: Comparison
    ) -> Generator[_Read, None, None]:
        """Read files in processes, a little ahead of the encoder, and give them in order.

        Threads wait for the processes and make pictures ready for the encoder.
        """
        window: deque[tuple[int, Future[_Read]]] = deque()
        weight = 0
        limit = max(2 * self._batch_size, _WEIGHT_OF_MANY_PIECES)
        with ThreadPoolExecutor(threads_count, thread_name_prefix="read") as threads:
            try:
                for found, known in self._with_known_contents(comparison.to_read):
                    own = 1 if found.kind is MediaKind.IMAGE else _WEIGHT_OF_MANY_PIECES
                    window.append((own, threads.submit(self._read, processes, found, known)))
                    weight += own
                    while weight >= limit:
                        first, future = window.popleft()
                        weight -= first
                        yield from self._read_to_the_end(processes, threads, future.result())
                while window:
                    _, future = window.popleft()
                    yield from self._read_to_the_end(processes, threads, future.result())
            finally:
                threads.shutdown(wait=False, cancel_futures=True)

    def commit(self, batch: _Batch) -> None:
        """Write rows, flush them, and only then name them in the catalog."""
        _Commit(self._library, self._encoder, self._comparison, self.summary).run(batch)

    def _with_known_contents(
        self, files: Sequence[FoundFile]
    ) -> Iterator[tuple[FoundFile, frozenset[str]]]:
        """Give each file with the hashes that spare its reading: contents of its kind and size."""
        for start in range(0, len(files), _LOOKED_UP_AT_ONCE):
            some = files[start : start + _LOOKED_UP_AT_ONCE]
            with self._library.catalog.snapshot() as snapshot:
                contents = snapshot.contents_of_size(self._space.id, [file.size for file in some])
            for file in some:
                hashes = {
                    content_hash
                    for kind, content_hash in contents.get(file.size, ())
                    # What a table says of images depends on where it lies.
                    if kind is file.kind and kind is not MediaKind.TABLE
                }
                before = self._comparison.known.get(file.path)
                if before and before.embedded and before.content_hash:
                    hashes.add(before.content_hash)
                yield file, frozenset(hashes)

    def _read(self, processes: ReadingWorkers, found: FoundFile, known: frozenset[str]) -> _Read:
        options = self._options(found)
        try:
            content, reading = processes.submit(
                read_first, found.path, found.kind, known, options
            ).result()
        except (OSError, UnreadableFileError) as error:
            return _Read(found, failure=_failure(found, error))
        if reading is None:
            return _Read(found, content, is_known_content=True)
        return self._prepared(found, content, reading)

    def _read_on(
        self, processes: ReadingWorkers, found: FoundFile, content: Content, start: int
    ) -> _Read:
        options = self._options(found)
        try:
            reading = processes.submit(
                read_on, found.path, found.kind, start, content, options
            ).result()
        except (OSError, UnreadableFileError) as error:
            return _Read(found, failure=_failure(found, error))
        return self._prepared(found, content, reading, is_first=False)

    def _read_to_the_end(
        self, processes: ReadingWorkers, threads: ThreadPoolExecutor, read: _Read
    ) -> Iterator[_Read]:
        """Give what was read, and the rest of its file, of which one step is read ahead."""
        while read.next is not None and read.content is not None:
            future = threads.submit(self._read_on, processes, read.found, read.content, read.next)
            yield read
            read = future.result()
        yield read

    def _prepared(
        self, found: FoundFile, content: Content, reading: Reading, *, is_first: bool = True
    ) -> _Read:
        return _Read(
            found,
            content,
            pictures=tuple(
                _Picture(piece, self._encoder.preprocess(piece.image))
                for piece in reading.pieces
                if isinstance(piece, PicturePiece)
            ),
            texts=tuple(piece for piece in reading.pieces if isinstance(piece, TextPiece)),
            metadata=reading.metadata,
            annotations=tuple((a.image_path, a.columns) for a in reading.annotations),
            is_first=is_first,
            next=reading.next,
        )

    def _options(self, found: FoundFile) -> ReadOptions:
        source = self._sources[source_above(found.path, list(self._sources))]
        return ReadOptions(
            least_side=REDUCED_TO_SIDES * self._encoder.input_side,
            max_pixels=self._max_pixels,
            text_column=source.text_column,
            image_column=source.image_column,
        )


class _Commit:
    """One batch on its way into the library."""

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

    def run(self, batch: _Batch) -> None:
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
            transaction.record_files(self._space_id, updates)
            for same in batch.reads:
                if same.content and same.is_known_content:
                    self._record_known_content(transaction, same.found, same.content)
            transaction.record_failures(self._failures)
        self._summary.embedded += sum(counts.values())
        self._summary.failed += len(self._failures)
        failed = {failure.path for failure in self._failures}
        for done in read:
            if done.next is None and done.found.path not in failed:
                self._count(done)

    def _items(self, read: _Read) -> dict[tuple[Modality, str], _Picture | TextPiece]:
        """What a file gave, by modality and part; texts split to what the encoder can read."""
        items: dict[tuple[Modality, str], _Picture | TextPiece] = {
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
        read: Sequence[_Read],
        items: dict[int, dict[tuple[Modality, str], _Picture | TextPiece]],
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
                if isinstance(piece, _Picture):
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
        read: Sequence[_Read],
        items: dict[int, dict[tuple[Modality, str], _Picture | TextPiece]],
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
                    self._failures.append(_failure(r.found, UnreadableFileError(reason)))
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
        reading = transaction.reading_of(self._space_id, found.kind, content.hash)
        if reading is None:
            raise DamagedLibraryError(
                f"{self._library.path}: the vectors of {found.path} were there a moment ago and "
                "are not any more. Run the same command again."
            )
        metadata, items = reading
        transaction.record_files(
            self._space_id, [FileUpdate(replace(file, metadata=metadata), items)]
        )
        self._summary.duplicates += 1
        self._summary.added += not self._is_change(found.path, content)
        self._summary.changed += self._is_change(found.path, content)

    def _count(self, read: _Read) -> None:
        is_change = self._is_change(read.found.path, read.content)
        self._summary.added += not is_change
        self._summary.changed += is_change

    def _is_change(self, path: str, content: Content | None) -> bool:
        before = self._comparison.known.get(path)
        return (
            before is not None
            and before.state is FileState.INDEXED
            and (content is None or before.content_hash != content.hash)
        )


def _hash(read: _Read) -> str:
    return read.content.hash if read.content else ""


def _failure(found: FoundFile, error: OSError | UnreadableFileError) -> FailedFile:
    """Record why a file failed; a reason that may pass by itself has it tried at the next run."""
    if isinstance(error, OSError):
        return FailedFile(found.path, (error.strerror or str(error)).lower())
    is_lasting = is_settled(found.mtime_ns, time.time_ns())
    if isinstance(error, MissingExtraError) or not is_lasting:
        return FailedFile(found.path, str(error))
    return FailedFile(found.path, str(error), found.size, found.mtime_ns)


def _read_file(
    found: FoundFile, content: Content | None, metadata: Metadata = NO_METADATA
) -> ReadFile:
    assert content is not None
    return ReadFile(found.path, found.kind, content.size, content.mtime_ns, content.hash, metadata)


def _read_item(piece: _Picture | TextPiece, row: int) -> ReadItem:
    if isinstance(piece, _Picture):
        picture = piece.piece
        return ReadItem(
            Modality.IMAGE,
            row,
            picture.part,
            picture.width,
            picture.height,
            picture.page,
            picture.time_s,
        )
    return ReadItem(
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
