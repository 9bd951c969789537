"""Decode -> batch -> encode -> commit: brings a library up to date with its sources."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import xxhash

from indexer.scan import Comparison, FoundFile, as_prefix, compare, walk
from retrieval.catalog import FailedFile, FileState, KnownFile, Modality, ReadImage
from retrieval.encoders.base import Encoder, Pixels, Space
from retrieval.errors import LibraryError, NotFoundError
from retrieval.images import UnreadableImageError, read_image
from retrieval.library import Library

DEFAULT_BATCH_SIZE = 64
_HASH_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Progress:
    """How far a run is, in files that have to be read. `total` is None while folders are walked."""

    done: int
    total: int | None
    failed: int = 0


@dataclass
class Summary:
    """What a run did. Counts are files; `found` counts image files that are there now.

    `unchanged` files were neither decoded nor embedded; `failed` ones could not be read, now or
    when they were last looked at. `interrupted`: the run was stopped and the rest is to be done.
    """

    found: int = 0
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    failed: int = 0
    embedded: int = 0
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def images_per_second(self) -> float:
        """Embedded images in a second of the whole run."""
        return self.embedded / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class _Decoded:
    file: ReadImage
    pixels: Pixels
    is_new: bool


@dataclass(frozen=True, slots=True)
class _SameContent:
    file: ReadImage
    is_new: bool


@dataclass
class _Batch:
    decoded: list[_Decoded] = field(default_factory=list)
    same_content: list[_SameContent] = field(default_factory=list)
    failures: list[FailedFile] = field(default_factory=list)

    def add(self, result: _Decoded | _SameContent | FailedFile) -> None:
        if isinstance(result, _Decoded):
            self.decoded.append(result)
        elif isinstance(result, _SameContent):
            self.same_content.append(result)
        else:
            self.failures.append(result)

    def __len__(self) -> int:
        return max(len(self.decoded), len(self.same_content) + len(self.failures))


def index_sources(
    library: Library,
    encoder: Encoder,
    paths: Sequence[str | os.PathLike[str]] = (),
    *,
    batch_size: int = DEFAULT_BATCH_SIZE,
    workers: int | None = None,
    retry_failed: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Summary:
    """Make a library hold what is at some paths now, or at all its sources if none are given.

    Rows are written and flushed before the catalog names them, batch by batch: whatever ends the
    process, at most the batch in flight is lost, and the next call completes it. `should_stop` is
    asked between batches. Raises NotFoundError for a path that does not exist, LibraryLockedError
    when another process is writing, LibraryError when the disk is full.
    """
    start = time.perf_counter()
    summary = Summary()
    with library.writer():
        roots = _roots(library, paths)
        with library.catalog.transaction() as transaction:
            transaction.add_sources(roots)
        on_progress(Progress(0, None))
        comparison = _compare_with_catalog(library, encoder.space, roots, retry_failed)
        with library.catalog.transaction() as transaction:
            summary.removed = transaction.mark_removed(comparison.gone)
            transaction.record_failures(comparison.unlisted)
        summary.found = len(comparison.to_read) + comparison.unchanged + comparison.still_failed
        summary.unchanged = comparison.unchanged
        summary.failed = comparison.still_failed + len(comparison.unlisted)
        total = len(comparison.to_read)
        on_progress(Progress(0, total, summary.failed))
        batch = _Batch()
        done = 0
        for result in _read_ahead(encoder, comparison, batch_size, workers):
            batch.add(result)
            done += 1
            if len(batch) >= batch_size:
                _commit(library, encoder, batch, summary)
                batch = _Batch()
                on_progress(Progress(done, total, summary.failed))
                if should_stop():
                    break
        _commit(library, encoder, batch, summary)
        on_progress(Progress(done, total, summary.failed))
        summary.interrupted = done < total
    summary.seconds = time.perf_counter() - start
    return summary


def remove_paths(library: Library, paths: Sequence[str | os.PathLike[str]]) -> int:
    """Forget everything at or below some paths: sources, files, items. Files stay on the disk.

    Returns how many files were hidden. Raises NotFoundError, and removes nothing, when the library
    knows nothing at one of the paths.
    """
    removed = 0
    with library.writer(), library.catalog.transaction() as transaction:
        for path in paths:
            root = _absolute(path)
            known = [file.path for file in transaction.files_below([root], space_id="")]
            sources = transaction.remove_sources_below(root)
            if not known and not sources:
                raise NotFoundError(f"The library knows nothing at {root}; nothing was removed.")
            removed += transaction.mark_removed(known)
    return removed


def _absolute(path: str | os.PathLike[str]) -> str:
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - keeps links as named


def _roots(library: Library, paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Absolute paths without those that lie below another one."""
    if paths:
        roots = [_absolute(path) for path in paths]
        for root in roots:
            if not os.path.lexists(root):
                raise NotFoundError(
                    f"There is nothing at {root}. If it was deleted or is not mounted now, what "
                    "was indexed from it is still in the library; `mmsearch remove` forgets it."
                )
    else:
        with library.catalog.snapshot() as snapshot:
            roots = snapshot.sources()
    kept: list[str] = []
    for root in sorted(set(roots), key=as_prefix):
        if not kept or not as_prefix(root).startswith(as_prefix(kept[-1])):
            kept.append(root)
    return kept


def _compare_with_catalog(
    library: Library, space: Space, roots: Sequence[str], retry_failed: bool
) -> Comparison:
    with library.catalog.snapshot() as snapshot:
        known = snapshot.files_below(roots, space.id)
        found = chain.from_iterable(walk(root) for root in roots)
        return compare(found, known, retry_failed=retry_failed)


def _read_ahead(
    encoder: Encoder, comparison: Comparison, batch_size: int, workers: int | None
) -> Iterator[_Decoded | _SameContent | FailedFile]:
    """Read files in worker threads, at most two batches ahead, and give them in order."""
    workers = workers or min(8, os.cpu_count() or 1)
    window: deque[Future[_Decoded | _SameContent | FailedFile]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        try:
            for found in comparison.to_read:
                window.append(pool.submit(_read, found, comparison.known.get(found.path), encoder))
                if len(window) >= 2 * batch_size:
                    yield window.popleft().result()
            while window:
                yield window.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _read(
    found: FoundFile, known: KnownFile | None, encoder: Encoder
) -> _Decoded | _SameContent | FailedFile:
    try:
        with open(found.path, "rb") as file:  # noqa: PTH123 - names need not be valid text
            status = os.fstat(file.fileno())
            digest = xxhash.xxh3_128()
            while chunk := file.read(_HASH_CHUNK_BYTES):
                digest.update(chunk)
            content_hash = digest.hexdigest()
            if known and known.embedded and known.content_hash == content_hash:
                read = ReadImage(found.path, status.st_size, status.st_mtime_ns, content_hash, 0, 0)
                return _SameContent(read, is_new=known.state is not FileState.INDEXED)
            file.seek(0)
            image = read_image(file)
    except OSError as error:
        return FailedFile(found.path, (error.strerror or str(error)).lower())
    except UnreadableImageError as error:
        return FailedFile(found.path, str(error), found.size, found.mtime_ns)
    read = ReadImage(
        found.path,
        status.st_size,
        status.st_mtime_ns,
        content_hash,
        image.width,
        image.height,
    )
    is_changed = (
        known is not None
        and known.state is FileState.INDEXED
        and known.content_hash != content_hash
    )
    return _Decoded(read, encoder.preprocess(image), is_new=not is_changed)


def _commit(library: Library, encoder: Encoder, batch: _Batch, summary: Summary) -> None:
    """Write rows, flush them, and only then name them in the catalog."""
    vectors = (
        encoder.encode_images(np.stack([decoded.pixels for decoded in batch.decoded]))
        if batch.decoded
        else np.empty((0, encoder.space.dimension), np.float32)
    )
    usable = [bool(np.isfinite(vector).all()) for vector in vectors]
    embedded = [d for d, is_usable in zip(batch.decoded, usable, strict=True) if is_usable]
    failures = batch.failures + [
        FailedFile(d.file.path, "the encoder gave no finite vector", d.file.size, d.file.mtime_ns)
        for d, is_usable in zip(batch.decoded, usable, strict=True)
        if not is_usable
    ]
    with library.catalog.snapshot() as snapshot:
        first_row = snapshot.row_count(encoder.space.id, Modality.IMAGE)
    try:
        library.embeddings(encoder.space, Modality.IMAGE).write(vectors[usable], first_row)
    except OSError as error:
        raise LibraryError(
            f"{library.path} cannot be written: {error.strerror}. What was committed before is "
            "kept; run the same command again to go on."
        ) from error
    with library.catalog.transaction() as transaction:
        transaction.record_images(
            encoder.space.id, [decoded.file for decoded in embedded], first_row
        )
        transaction.record_touched([same.file for same in batch.same_content])
        transaction.record_failures(failures)
    summary.embedded += len(embedded)
    summary.added += sum(decoded.is_new for decoded in embedded)
    summary.added += sum(same.is_new for same in batch.same_content)
    summary.changed += sum(not decoded.is_new for decoded in embedded)
    summary.unchanged += sum(not same.is_new for same in batch.same_content)
    summary.failed += len(failures)
