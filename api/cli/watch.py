"""`mmsearch watch`: index changes in directories as they happen."""

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.enrichment import LABELS, counts_of
from api.cli.open_library import library_and_encoder
from api.cli.options import (
    BatchSizeOption,
    DeviceOption,
    LibraryOption,
    SourcesArgument,
    complain,
    option,
    print_json,
    require_paths,
    stop_on_signal,
)
from retrieval.library import default_library_path
from retrieval.recognition.base import Task

if TYPE_CHECKING:
    from indexer.enrichment.run import EnrichmentSummary
    from indexer.progress import Summary
    from indexer.watch import Event

_TEXTS_AT_ONCE = 64
"""Pictures that models look at before changes are looked for."""
_NEWS = ("added", "changed", "moved", "removed")


def watch(
    paths: SourcesArgument = None,
    library: LibraryOption = None,
    poll: Annotated[
        float | None,
        option(
            "--poll",
            "S",
            "Poll every S seconds instead of using notifications (for network drives).",
            min=0.1,
        ),
    ] = None,
    batch_size: BatchSizeOption = 64,
    device: DeviceOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON lines.")] = False,
) -> None:
    """Watch directories and index changes within seconds."""
    from api.cli import console
    from indexer.enrichment.tasks import Recognizers, enrich_library
    from indexer.watch import FoundTexts, Updated, watch_sources
    from retrieval.encoders.deferred import encoder_of
    from retrieval.indices.maintenance import BackgroundBuilder

    require_paths(paths or [])
    opened, encoder = library_and_encoder(
        library or default_library_path(),
        encoder_name=None,
        space_id=None,
        device=device,
        has_paths=bool(paths),
    )
    if others := [
        one
        for one in opened.space_ids()
        if one != encoder.space.id and not opened.space(one).is_given
    ]:
        complain(
            f"Only the default space is kept up to date, not {', '.join(others)}. `mmsearch spaces "
            "complete` embeds in those what they lack."
        )
    # With a second encoder, since an encoder is not thread-safe.
    builder = BackgroundBuilder(
        opened,
        lambda: encoder_of(opened, encoder.space, device),
        encoder.space,
        device=device,
        on_problem=lambda reason: complain(f"The index was not built: {reason}"),
    )
    with ExitStack() as first_run, stop_on_signal(signal.SIGTERM) as stop:
        bar = first_run.enter_context(console.indexing_progress(quiet=as_json, is_lazy=True))

        def tell(event: "Event") -> None:
            first_run.close()
            if isinstance(event, Updated | FoundTexts):
                builder.start_if_due()
            if as_json:
                _print_json(event)
            else:
                _print(event)

        recognizers = Recognizers()

        def enrich(should_stop: Callable[[], bool]) -> "Sequence[EnrichmentSummary]":
            return enrich_library(
                opened,
                [encoder],
                recognizers,
                limit=_TEXTS_AT_ONCE,
                workers=1,
                should_stop=should_stop,
            )

        watch_sources(
            opened,
            encoder,
            paths or (),
            poll=poll,
            batch_size=batch_size,
            on_event=tell,
            stop_event=stop,
            on_progress=bar,
            enrich=enrich,
        )
    builder.stop()


def _print(event: "Event") -> None:
    from api.cli import console
    from indexer import watch as events

    def say(message: str) -> None:
        console.out.print(f"{time.strftime('%H:%M:%S')}  {message}", markup=False)

    match event:
        case events.Watching(sources, polled):
            shown = ", ".join(map(console.display_path, sources))
            how = " (polling)" if polled else ""
            say(f"Watching {shown}{how}. Press Ctrl-C to stop.")
        case events.Updated(summary):
            say(_updated(summary))
        case events.FoundTexts(task, _, _, _, str(problem)):
            complain(f"{LABELS[Task(task)]} was left out: {problem}")
        case events.FoundTexts(task, looked_at, with_text, failed):
            say(counts_of(Task(task), looked_at, with_text, failed))
        case events.SourceGone(path):
            shown = console.display_path(path)
            say(
                f"{shown} is missing; its items stay searchable. If it was moved: mmsearch "
                f"relocate {quote(shown)} NEW"
            )
        case events.SourceBack(path):
            say(f"{console.display_path(path)} is back.")
        case events.Waiting(reason) | events.Trouble(reason):
            complain(reason)
        case events.Polling(places, seconds, reason):
            shown = ", ".join(map(console.display_path, places))
            complain(f"Polling {shown} every {seconds:g} s from now on: {reason}.")


def _updated(summary: "Summary") -> str:
    """Say what a run did. What failed once fails at each start: alone it is no news."""
    from api.cli import console

    if console.file_counts(summary, _NEWS):
        return console.file_counts(summary, (*_NEWS, "failed"))
    unread = f", {summary.failed:,} of them unreadable" if summary.failed else ""
    return f"up to date ({summary.found:,} files{unread})"


def _print_json(event: "Event") -> None:
    from api.http.schemas import valid_text
    from indexer import watch as events

    facts: dict[str, object] = {"event": _EVENT_NAMES[type(event).__name__], "time": time.time()}
    for name, value in vars(event).items():
        if isinstance(event, events.Updated):
            facts |= vars(event.summary)
        elif isinstance(value, tuple):
            facts[name] = [valid_text(path) for path in value]
        else:
            facts[name] = valid_text(value) if isinstance(value, str) else value
    print_json(facts, indent=None)


_EVENT_NAMES = {
    "FoundTexts": "found_texts",
    "Watching": "watching",
    "Updated": "updated",
    "Waiting": "waiting",
    "SourceGone": "source_gone",
    "SourceBack": "source_back",
    "Polling": "polling",
    "Trouble": "trouble",
}
