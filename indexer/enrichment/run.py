"""Run a recogniser over what it has not looked at, and make its texts words and passages."""

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from typing import Any

from PIL import Image

from indexer.enrichment.passages import (
    FoundText,
    embed_passages,
    record_passages,
    write_passages,
)
from indexer.enrichment.subtitles import state_beside, subtitles_of
from indexer.progress import Progress
from retrieval.catalog import FileEntry, Item
from retrieval.catalog.paths import is_at_or_below
from retrieval.encoders.base import Encoder
from retrieval.errors import UnreadableFileError, UsageError
from retrieval.lance.copies import writer_of_own
from retrieval.library import Library
from retrieval.media import MediaKind
from retrieval.media.images import read_unchanged
from retrieval.media.items import read_item_image, status_as_indexed
from retrieval.recognition.base import (
    SIDECAR,
    PictureRecognizer,
    Recognized,
    Recognizer,
    SpeechRecognizer,
    Task,
    tidy,
)

DEFAULT_BATCH_SIZE = 8
"""Pictures that are recognised together, unless the recogniser says otherwise."""
_PAGE = 512
"""Items that are listed at once."""
_MOST_PIXELS = 64_000_000
"""Of the pictures that are recognised together: 200 MB."""
_COMMITTED = 64
"""Pictures whose texts are committed together, ..."""
_COMMITTED_S = 5.0
"""... or those of so many seconds, whichever are fewer: a kill loses no more."""


@dataclass
class EnrichmentSummary:
    """What a run of one task did. Counts are pictures, or files of speech; copies count once.

    looked_at: what the recogniser was given. with_text: in which it found some. failed: at which it
    could not look; they are tried again when asked for. skipped: changed or gone since they were
    indexed. passages: items that were made of texts. problem: why it did not begin. interrupted: it
    was stopped, or reached its limit, and the rest is to be done.
    """

    task: Task
    looked_at: int = 0
    with_text: int = 0
    failed: int = 0
    skipped: int = 0
    passages: int = 0
    seconds: float = 0.0
    problem: str | None = None
    interrupted: bool = False

    def add(self, other: "EnrichmentSummary") -> None:
        """Add what another run of the task did."""
        for name in ("looked_at", "with_text", "failed", "skipped", "passages", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.interrupted = self.interrupted or other.interrupted

    @property
    def did_something(self) -> bool:
        """Whether the library has changed."""
        return self.looked_at > 0 or self.passages > 0


def enrich(
    library: Library,
    encoder: Encoder,
    task: Task,
    load: Callable[[], Recognizer],
    *,
    renew: bool = False,
    retry_failed: bool = False,
    workers: int | None = None,
    limit: int | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> EnrichmentSummary:
    """Look at what a task has not looked at, and let searches find the texts.

    Recognised is by content: copies, moved files and files that come back cost nothing. Commits
    come batch by batch; whatever ends the process, at most the batch in flight is lost.

    Args:
        library: the library to write to.
        encoder: of the space whose pictures are looked at, and that passages are embedded in.
        task: what is looked for.
        load: gives the recogniser; called when there is something to look at.
        renew: also look again at what another model has looked at.
        retry_failed: also look again at what failed.
        workers: number of threads that read pictures; None: by the number of cores.
        limit: maximum number of pictures or files; None: all.
        on_progress: called as pictures or files are done.
        should_stop: asked between batches; the next call goes on.

    Raises:
        LibraryLockedError: another process is writing.
        UsageError: the library is a copy of a table.
    """
    start = time.perf_counter()
    run = _Run(library, encoder, task, retry_failed, workers, on_progress, should_stop)
    with writer_of_own(library):
        recognizer = load() if renew else None
        run.model = _model(recognizer) if recognizer else None
        with library.catalog.snapshot() as snapshot:
            run.total = snapshot.count_to_enrich(
                encoder.space.id, task, model=run.model, retry_failed=retry_failed
            )
        if task is Task.SPEECH and not renew:
            run.changed = changed_subtitles(library)
            run.total += len(run.changed)
        if limit is not None and run.total > limit:
            run.total = limit
            run.is_limited = True
        if run.total:
            run.look(recognizer or load())
        run.make_passages()
    run.summary.seconds = time.perf_counter() - start
    return run.summary


def restore_passages(
    library: Library,
    encoder: Encoder,
    task: Task,
    *,
    should_stop: Callable[[], bool] = lambda: False,
) -> EnrichmentSummary:
    """Make the passages of texts that were found, where a space lacks them; looks at nothing.

    Args and errors as of `enrich`.
    """
    run = _Run(library, encoder, task, False, None, lambda _: None, should_stop)
    with writer_of_own(library):
        run.make_passages()
    return run.summary


def changed_subtitles(library: Library) -> dict[str, str]:
    """List what was heard and has other subtitles beside it now, which are to be taken.

    Of several files with a content, the first one with subtitles counts. Returns paths by content
    hash.
    """
    with library.catalog.snapshot() as snapshot:
        heard = snapshot.subtitle_states()
        options = snapshot.source_options()
    files: dict[str, list[str]] = {}
    recorded: dict[str, str] = {}
    for path, content_hash, state in heard:
        recorded[content_hash] = state
        files.setdefault(content_hash, []).append(path)
    changed = {}
    for content_hash, paths in files.items():
        states = ((path, _state_beside(path, options)) for path in paths)
        path, now = next((one for one in states if one[1]), (paths[0], ""))
        # What is away for now has no subtitles for now.
        if now != recorded[content_hash] and (now or os.path.lexists(path)):
            changed[content_hash] = path
    return changed


def _state_beside(path: str, sources: Mapping[str, dict[str, Any] | None]) -> str:
    return state_beside(path, ignore_files=_heeds_ignore_files(path, sources))


def _heeds_ignore_files(path: str, sources: Mapping[str, dict[str, Any] | None]) -> bool:
    above = [source for source in sources if is_at_or_below(path, source)]
    options = sources[max(above, key=len)] if above else None
    return bool((options or {}).get("ignore_files", True))


@dataclass(frozen=True, slots=True)
class _Picture:
    """A distinct picture, its items and what could be read of it: None: it has changed."""

    items: list[Item]
    image: Image.Image | str | None


class _Run:
    def __init__(
        self,
        library: Library,
        encoder: Encoder,
        task: Task,
        retry_failed: bool,
        workers: int | None,
        on_progress: Callable[[Progress], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self._library = library
        self._encoder = encoder
        self._task = task
        self._retry_failed = retry_failed
        self._workers = workers or min(4, os.cpu_count() or 1)
        self._on_progress = on_progress
        self._should_stop = should_stop
        self.summary = EnrichmentSummary(task)
        self.model: str | None = None
        self.total = 0
        self.changed: dict[str, str] = {}
        self.is_limited = False
        self._done = 0

    def look(self, recognizer: Recognizer) -> None:
        """Recognise what has not been looked at."""
        if recognizer.task != self._task:
            raise UsageError(f"{recognizer.identity} is a model for {recognizer.task}.")
        self._tell()
        is_whole = (
            self._hear_files(recognizer)
            if isinstance(recognizer, SpeechRecognizer)
            else self._look_at_pictures(recognizer)
        )
        self.summary.interrupted = not is_whole or self.is_limited

    def make_passages(self) -> None:
        """Make items of texts that are none in this space: of copies, or found for another one."""
        after = 0
        space_id = self._encoder.space.id
        while not self._should_stop():
            with self._library.catalog.snapshot() as snapshot:
                found = snapshot.without_passages(
                    space_id, self._task, after=after, limit=_COMMITTED
                )
            if not found:
                return
            after = found[-1][0]
            texts = [FoundText(item, path, digest, said) for _, item, path, digest, said in found]
            passages = embed_passages(
                self._library, self._encoder, self._task, texts, are_known=True
            )
            if passages is None:
                return
            first_row = write_passages(self._library, self._encoder, passages)
            with self._library.catalog.transaction() as transaction:
                record_passages(transaction, space_id, self._task, passages, first_row)
            self.summary.passages += len(passages.found)
        self.summary.interrupted = True

    def _tell(self, detail: str = "") -> None:
        self._on_progress(Progress(self._done, self.total, self.summary.failed, detail=detail))

    def _look_at_pictures(self, recognizer: PictureRecognizer) -> bool:
        """Return whether all of them were looked at."""
        size = max(1, int(getattr(recognizer, "batch_size", DEFAULT_BATCH_SIZE)))
        least_side = getattr(recognizer, "least_side", None)
        held: dict[str, tuple[list[Item], Recognized]] = {}
        committed_at = time.monotonic()
        with closing(self._read_ahead(least_side)) as pictures:
            for batch in _batches(pictures, size):
                held |= self._recognize(recognizer, batch)
                self._done += len(batch)
                is_stopping = self._should_stop()
                is_due = time.monotonic() - committed_at >= _COMMITTED_S
                if len(held) >= _COMMITTED or is_due or is_stopping:
                    self._commit(recognizer, held)
                    held, committed_at = {}, time.monotonic()
                self._tell()
                if is_stopping:
                    return self._done >= self.total
        self._commit(recognizer, held)
        self._tell()
        return True

    def _recognize(
        self, recognizer: PictureRecognizer, batch: list[tuple[str, _Picture]]
    ) -> dict[str, tuple[list[Item], Recognized]]:
        """Look at pictures; those that could not be read have failed, those that changed wait."""
        found = {
            key: (picture.items, Recognized(failure=picture.image))
            for key, picture in batch
            if isinstance(picture.image, str)
        }
        self.summary.skipped += sum(picture.image is None for _, picture in batch)
        images = [
            (key, picture.items, picture.image)
            for key, picture in batch
            if isinstance(picture.image, Image.Image)
        ]
        if images:
            results = recognizer.recognize([image for _, _, image in images])
            for (key, items, _), result in zip(images, results, strict=True):
                found[key] = items, tidy(result)
        return found

    def _commit(
        self, recognizer: Recognizer, found: dict[str, tuple[list[Item], Recognized]]
    ) -> None:
        texts = [
            FoundText(item, item.path, item.content_hash, result.segments)
            for items, result in found.values()
            if result.text
            for item in items
        ]
        results = {key: result for key, (_, result) in found.items()}
        self._record(_model(recognizer), results, texts)

    def _record(
        self,
        model: str,
        found: dict[str, Recognized],
        texts: list[FoundText],
        subtitles: str = "",
    ) -> None:
        """Record what was found: vectors first, then in one transaction all that is known."""
        if not found:
            return
        library, space_id = self._library, self._encoder.space.id
        passages = embed_passages(library, self._encoder, self._task, texts)
        first_row = write_passages(library, self._encoder, passages) if passages else 0
        with library.catalog.transaction() as transaction:
            transaction.record_enrichments(self._task, model, found, subtitles=subtitles)
            if passages:
                record_passages(transaction, space_id, self._task, passages, first_row)
        self.summary.looked_at += len(found)
        self.summary.with_text += sum(result.text is not None for result in found.values())
        self.summary.failed += sum(result.failure is not None for result in found.values())
        self.summary.passages += len(passages.found) if passages else 0

    def _pictures(self) -> Iterator[tuple[str, list[Item]]]:
        """Give what is to be looked at by what it shows, page by page."""
        after, given = 0, 0
        before: frozenset[str] = frozenset()
        while True:
            with self._library.catalog.snapshot() as snapshot:
                page = snapshot.pictures_to_enrich(
                    self._encoder.space.id,
                    self._task,
                    model=self.model,
                    retry_failed=self._retry_failed,
                    after=after,
                    limit=_PAGE,
                )
            if not page:
                return
            after = page[-1].id
            items: dict[str, list[Item]] = {}
            for item in page:
                items.setdefault(item.picture_key, []).append(item)
            for key, of_picture in items.items():
                if given == self.total:
                    return
                # A copy of what the page before lists, which is not committed yet.
                if key not in before:
                    given += 1
                    yield key, of_picture
            before = frozenset(items)

    def _read_ahead(self, least_side: int | None) -> Generator[tuple[str, _Picture], None, None]:
        """Read pictures in threads, a few ahead, and give them in order, each once."""
        max_pixels = self._library.max_pixels
        window: deque[tuple[str, list[Item], Future[Image.Image | str | None]]] = deque()
        with ThreadPoolExecutor(self._workers, thread_name_prefix="decode") as pool:
            try:
                for key, items in self._pictures():
                    window.append((key, items, pool.submit(_read, items, least_side, max_pixels)))
                    if len(window) > self._workers:
                        first, of_first, image = window.popleft()
                        yield first, _Picture(of_first, image.result())
                while window:
                    first, of_first, image = window.popleft()
                    yield first, _Picture(of_first, image.result())
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _hear_files(self, recognizer: SpeechRecognizer) -> bool:
        """Return whether all of them were heard."""
        with self._library.catalog.snapshot() as snapshot:
            sources = snapshot.source_options()
        for file in self._files():
            if self._should_stop():
                return False
            if status_as_indexed(file) is None:
                self.summary.skipped += 1
            else:
                heeds = _heeds_ignore_files(file.path, sources)
                subtitles = state_beside(file.path, ignore_files=heeds)
                heard, model = self._hear(recognizer, file, ignore_files=heeds)
                if heard is None:
                    return False
                result = tidy(heard)
                text = FoundText(None, file.path, file.content_hash, result.segments)
                texts = [text] if result.text else []
                self._record(model, {file.content_hash: result}, texts, subtitles)
            self._done += 1
            self._tell()
        return True

    def _hear(
        self, recognizer: SpeechRecognizer, file: FileEntry, *, ignore_files: bool
    ) -> tuple[Recognized | None, str]:
        """Take the subtitles of a file, else hear it; None where it was stopped. And by whom."""
        name = os.path.basename(file.path)  # noqa: PTH119 - names need not be valid text

        def tell(seconds: float) -> None:
            self._tell(f"{name} at {int(seconds) // 60}:{int(seconds) % 60:02}")

        try:
            language = getattr(recognizer, "language", None)
            if given := subtitles_of(file.path, language, ignore_files=ignore_files):
                return Recognized(given), SIDECAR
            heard = recognizer.transcribe(
                file.path, on_progress=tell, should_stop=self._should_stop
            )
        except (OSError, UnreadableFileError) as error:
            heard = Recognized(failure=str(error))
        return heard, _model(recognizer)

    def _files(self) -> Iterator[FileEntry]:
        """Give the files that are to be heard, each content once."""
        given: set[str] = set()
        for file in chain(self._unheard_files(), self._files_with_other_subtitles()):
            if len(given) == self.total:
                return
            if file.content_hash not in given:
                given.add(file.content_hash)
                yield file

    def _unheard_files(self) -> Iterator[FileEntry]:
        after = ""
        while True:
            with self._library.catalog.snapshot() as snapshot:
                page = snapshot.files_to_enrich(
                    self._task,
                    model=self.model,
                    retry_failed=self._retry_failed,
                    after=after,
                    limit=_PAGE,
                )
            if not page:
                return
            after = page[-1].path
            yield from page

    def _files_with_other_subtitles(self) -> Iterator[FileEntry]:
        with self._library.catalog.snapshot() as snapshot:
            yield from snapshot.indexed_at(sorted(self.changed.values())).values()


def _model(recognizer: Recognizer) -> str:
    return recognizer.identity[:200]


def _batches(
    pictures: Iterator[tuple[str, _Picture]], size: int
) -> Iterator[list[tuple[str, _Picture]]]:
    """Join pictures that are looked at together, which are not too large together."""
    batch: list[tuple[str, _Picture]] = []
    pixels = 0
    for key, picture in pictures:
        if isinstance(picture.image, Image.Image):
            own = picture.image.width * picture.image.height
            if batch and pixels + own > _MOST_PIXELS:
                yield batch
                batch, pixels = [], 0
            pixels += own
        batch.append((key, picture))
        if len(batch) == size:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def _read(
    items: list[Item], least_side: int | None, max_pixels: int | None
) -> Image.Image | str | None:
    """Read the first of some like pictures whose file is unchanged.

    Returns why it cannot be read, where its file is still what was indexed; None where none is.
    """
    problem: str | None = None
    for item in items:
        if item.kind is MediaKind.IMAGE:
            image = read_unchanged(
                item.path,
                item.content_hash,
                least_side=least_side,
                max_pixels=max_pixels,
                page=item.page or 1,
            )
            if image is not None:
                return image.convert("RGB")
            if status_as_indexed(item) is not None:
                problem = "the picture could not be read again"
            continue
        if status_as_indexed(item) is None:
            continue
        try:
            image = read_item_image(item, least_side=least_side, max_pixels=max_pixels)
            return image.convert("RGB")
        except (OSError, UnreadableFileError) as error:
            problem = str(error)
    return problem
