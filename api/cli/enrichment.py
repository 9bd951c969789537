"""Options and output of the pass that looks for texts in pictures and speech."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.options import STOPPING, complain, option, stop_on_signal
from api.printable import one_line
from retrieval.errors import UsageError
from retrieval.library import Library
from retrieval.recognition.base import Task

if TYPE_CHECKING:
    from indexer.enrichment.run import EnrichmentSummary
    from indexer.enrichment.tasks import Recognizers
    from indexer.progress import Progress
    from indexer.spaces import SpaceRun

OcrOption = Annotated[
    bool | None,
    typer.Option(
        "--ocr/--no-ocr",
        help="Find the text in pictures, video frames and scanned pages, from now on. (default: "
        "as before; at first not)",
    ),
]
TranscribeOption = Annotated[
    str | None,
    option(
        "--transcribe",
        "NAME|DIR",
        "Write down what is said in sound files and videos, from now on, with a Whisper model: a "
        "size such as `base` or `large-v3`, a repository of the hub, or the folder of one for "
        "CTranslate2; `sidecar`: subtitles beside the files alone. `NAME@zh`: the language that is "
        "spoken. (default: as before; at first not)",
    ),
]
NoTranscribeOption = Annotated[
    bool, typer.Option("--no-transcribe", help="Write down no more speech; found texts stay.")
]
CaptionsOption = Annotated[
    str | None,
    option(
        "--captions",
        "NAME|DIR",
        "Write a caption for each picture, from now on, with an image-to-text model. (default: as "
        "before; at first not)",
    ),
]
NoCaptionsOption = Annotated[
    bool, typer.Option("--no-captions", help="Write no more captions; written ones stay.")
]
RenewTextsOption = Annotated[
    bool,
    typer.Option(
        "--renew-texts",
        help="Look again at what another model, or an earlier version of it, has looked at.",
    ),
]

LABELS = {
    Task.OCR: "Finding text in pictures",
    Task.SPEECH: "Writing down speech",
    Task.CAPTION: "Writing captions",
}
TITLES = {Task.OCR: "Text", Task.SPEECH: "Speech", Task.CAPTION: "Captions"}
_UNITS = {Task.OCR: "picture", Task.SPEECH: "file", Task.CAPTION: "picture"}
_DONE = {
    Task.OCR: "text found in {with_text:,} of {looked_at:,} {units}",
    Task.SPEECH: "speech found in {with_text:,} of {looked_at:,} {units}",
    Task.CAPTION: "captions written for {with_text:,} of {looked_at:,} {units}",
}


def chosen_models(
    ocr: bool | None,
    transcribe: str | None,
    no_transcribe: bool,
    captions: str | None,
    no_captions: bool,
) -> dict[Task, str | None]:
    """Return which models the options choose, by task; None: none any more.

    Raises UsageError for options that contradict each other. Folders are trusted, as the user has
    named them.
    """
    from indexer.enrichment.tasks import DEFAULT_OCR, named_model

    if (transcribe and no_transcribe) or (captions and no_captions):
        raise UsageError("An option and its `--no-` form contradict each other: leave one out.")
    models: dict[Task, str | None] = {}
    if ocr is not None:
        models[Task.OCR] = DEFAULT_OCR if ocr else None
    for task, name, is_off in (
        (Task.SPEECH, transcribe, no_transcribe),
        (Task.CAPTION, captions, no_captions),
    ):
        if is_off:
            models[task] = None
        elif name is not None:
            models[task] = named_model(name)
    return models


def load_chosen(models: Mapping[Task, str | None]) -> "Recognizers":
    """Load the models that are chosen, so that what they lack is told before hours of indexing."""
    from indexer.enrichment.tasks import Recognizers

    recognizers = Recognizers()
    for task, name in models.items():
        if name:
            recognizers.get(task, name, may_download=True)
    return recognizers


def enrich_and_tell(
    library: Library,
    runs: "Sequence[SpaceRun]",
    recognizers: "Recognizers",
    *,
    renew: bool = False,
    retry_failed: bool = False,
    workers: int | None = None,
    as_json: bool = False,
) -> "list[EnrichmentSummary]":
    """Let the models that the library remembers look for texts, and print what they found.

    runs: of the indexer in the spaces of the library; those that failed are left out.
    """
    from api.cli import console
    from indexer.enrichment.tasks import enrich_library

    encoders = [run.encoder for run in runs if run.problem is None]
    if not encoders:
        return []
    with console.stage_progress(quiet=as_json) as show, stop_on_signal(note=STOPPING) as stop:

        def tell(task: Task, event: "Progress") -> None:
            show(LABELS[task], event.done, event.total or 0, one_line(event.detail))

        summaries = enrich_library(
            library,
            encoders,
            recognizers,
            renew=tuple(Task) if renew else (),
            retry_failed=retry_failed,
            workers=workers,
            on_progress=tell,
            should_stop=stop.is_set,
        )
    for summary in summaries:
        if summary.problem:
            complain(f"{LABELS[summary.task]} was left out: {summary.problem}")
        elif summary.did_something and not as_json:
            console.out.print(sentence(summary), markup=False)
    return summaries


def sentence(summary: "EnrichmentSummary") -> str:
    """Say in one sentence what a run of a task did."""
    done = counts_of(summary.task, summary.looked_at, summary.with_text, summary.failed)
    return f"{done[0].upper()}{done[1:]} in {summary.seconds:,.1f} s."


def counts_of(task: Task, looked_at: int, with_text: int, failed: int) -> str:
    """Say how many pictures or files a task has looked at, and in how many it found texts."""
    units = units_of(task, looked_at)
    done = _DONE[task].format(looked_at=looked_at, with_text=with_text, units=units)
    return f"{done}, {failed:,} failed" if failed else done


def units_of(task: Task, count: int) -> str:
    """Name what a task looks at."""
    return _UNITS[task] if count == 1 else f"{_UNITS[task]}s"


def as_facts(summaries: "Sequence[EnrichmentSummary]") -> list[dict[str, Any]]:
    """Return what runs did, as `--json` prints it."""
    return [vars(summary) | {"task": str(summary.task)} for summary in summaries]
