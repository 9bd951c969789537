"""Look for texts with all the models that a library remembers, in each of its spaces."""

from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass

from indexer.enrichment.run import EnrichmentSummary, enrich, restore_passages
from indexer.progress import Progress
from retrieval.catalog.records import EnrichmentCounts
from retrieval.encoders.base import Encoder
from retrieval.encoders.trust import folder_of_model, require_trusted_model, trust_folder
from retrieval.errors import EncoderUnavailableError, LibraryError, MMSearchError, UsageError
from retrieval.lance.copies import writer_of_own
from retrieval.library import Library
from retrieval.recognition.base import Recognizer, Task
from retrieval.recognition.registry import load_recognizer, without_downloads

DEFAULT_OCR = "rapidocr"
"""Its package carries its models."""

OnProgress = Callable[[Task, Progress], None]


def named_model(name: str) -> str:
    """Return how a library remembers a model that the user has named, and trust a folder.

    Folders are remembered by their whole path. Raises UsageError for an empty name.
    """
    if not name.strip():
        raise UsageError("A model needs a name or a folder.")
    folder, language = folder_of_model(name)
    if folder is None:
        return name
    trust_folder(folder)
    return f"{folder}{language}"


@dataclass(frozen=True)
class ForgottenTexts:
    """What was forgotten: pictures or files that were looked at, those with text, and passages."""

    task: Task
    looked_at: int
    with_text: int
    passages: int


def forget_texts(library: Library, task: Task) -> ForgottenTexts:
    """Forget all texts that a task found, their words and passages, and look for no more of them.

    Raises LibraryLockedError where another process writes, UsageError for a table or a copy of one.
    """
    if library.is_table:
        raise UsageError("A table has no found texts but its passages, which are rows of it.")
    library.set_enrichment({task: None})  # so that another process finds no new ones
    with writer_of_own(library), library.catalog.transaction() as transaction:
        counts = transaction.enrichment_counts().get(task, EnrichmentCounts())
        passages = transaction.forget_enrichments(task)
    return ForgottenTexts(task, counts.looked_at, counts.with_text, passages)


class Recognizers:
    """Recognisers, each loaded once, when there is something to look at."""

    def __init__(self, load: Callable[[Task, str], Recognizer] = load_recognizer) -> None:
        self._load = load
        self._loaded: dict[Task, tuple[str, Recognizer]] = {}

    def get(self, task: Task, name: str, *, may_download: bool = False) -> Recognizer:
        """Return the recogniser of a task; raises MMSearchError where it cannot be loaded.

        may_download: the user has just named it; else it is what a library says.
        """
        if task not in self._loaded or self._loaded[task][0] != name:
            self._loaded.pop(task, None)  # before another one takes its memory
            require_trusted_model(name)
            with nullcontext() if may_download else without_downloads():
                self._loaded[task] = name, self._load(task, name)
        return self._loaded[task][1]


def enrich_library(
    library: Library,
    encoders: Sequence[Encoder],
    recognizers: Recognizers,
    *,
    renew: Collection[Task] = (),
    retry_failed: bool = False,
    workers: int | None = None,
    limit: int | None = None,
    on_progress: OnProgress = lambda *_: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[EnrichmentSummary]:
    """Let each task that the library remembers look at what it has not looked at.

    A task whose model cannot be loaded is left out, with its problem, and the others go on.

    Args:
        library: the library to write to.
        encoders: of its spaces; each picture is looked at once, and its texts become passages in
            every space.
        recognizers: gives the models.
        renew: tasks that also look again at what another model has looked at.
        retry_failed: also look again at what failed.
        workers: number of threads that read pictures; None: by the number of cores.
        limit: maximum number of pictures or files of each task; None: all.
        on_progress: called as pictures or files are done.
        should_stop: asked between batches; the next call goes on.

    Returns:
        What was done, by task; those after one that was stopped are left out.

    Raises:
        LibraryLockedError: another process is writing.
        UsageError: the library is a copy of a table.
    """
    summaries = []
    remembered = library.enrichment
    with library.catalog.snapshot() as snapshot:
        others = [task for task in snapshot.enrichment_counts() if task not in remembered]
    for task in others:  # texts stay when a task has ended
        for encoder in encoders:
            with suppress(EncoderUnavailableError):  # its space was left behind
                restore_passages(library, encoder, task, should_stop=should_stop)
    for task, name in remembered.items():
        total = EnrichmentSummary(task)
        summaries.append(total)
        for place, encoder in enumerate(encoders):
            try:
                done = enrich(
                    library,
                    encoder,
                    task,
                    lambda task=task, name=name: recognizers.get(task, name),  # type: ignore[misc]
                    renew=task in renew and place == 0,
                    retry_failed=retry_failed and place == 0,
                    workers=workers,
                    limit=limit,
                    on_progress=lambda event, task=task: on_progress(task, event),  # type: ignore[misc]
                    should_stop=should_stop,
                )
            except LibraryError:
                raise
            except MMSearchError as error:
                total.problem = str(error)
                break
            total.add(done)
        if should_stop():
            total.interrupted = True
            break
    return summaries
