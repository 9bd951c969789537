"""Print results and progress in a terminal."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment
from rich.text import Text

from api.printable import escape_controls, one_line
from indexer.progress import Progress as IndexingProgress
from indexer.progress import Summary
from retrieval.catalog import Item

if TYPE_CHECKING:
    from rich.progress import Progress, Task, TaskID

_CHUNK_CHARACTERS = 100
_MOST_ENDINGS = 12
_COUNTS = ("added", "changed", "moved", "relocated", "unchanged", "removed", "failed")


class PrintableConsole(Console):
    """Console that escapes the control characters of all that it prints.

    Colours, links and progress bars are its own and stay.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render, and escape what is text."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(escape_controls(segment.text), segment.style)

    def render_str(self, text: str, **options: Any) -> Text:
        """Escape before Rich, which drops some control characters, and print the same width."""
        return super().render_str(escape_controls(text), **options)


out = PrintableConsole(highlight=False, soft_wrap=True)
err = PrintableConsole(stderr=True, highlight=False, soft_wrap=True)


def display_path(path: str) -> str:
    """Format a path: relative to the current directory if below, control characters escaped."""
    for here in (os.getcwd(), os.environ.get("PWD", "")):  # noqa: PTH109 - string prefixes
        path = path.removeprefix(here.rstrip(os.sep) + os.sep) if here else path
    return one_line(path)


def place_in_file(item: Item) -> str:
    """Describe the position of an item in its file: page, time, or beginning of the chunk."""
    position = ""
    if item.page is not None:
        position += f"  page {item.page}"
    if item.time_s is not None:
        start_s = item.time_s if item.start_s is None else item.start_s
        position += f"  at {_clock(start_s)}"
        if item.end_s is not None and int(item.end_s) > int(start_s):
            dash = "–" if out.encoding.lower().startswith("utf") else "-"
            position += f"{dash}{_clock(item.end_s)}"
    if item.text is not None:
        words = "".join(c if c.isprintable() else " " for c in item.text)
        position += f"  {shorten(words, _CHUNK_CHARACTERS, placeholder=' ...')}"
    return position


def _clock(seconds: float) -> str:
    """Format a time as minutes and seconds."""
    minutes, left = divmod(int(seconds), 60)
    return f"{minutes}:{left:02}"


def file_counts(summary: Summary, names: Iterable[str]) -> str:
    """List those of the named counts of an indexing run that are above 0."""
    counts = {name: getattr(summary, name) for name in names}
    return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count > 0)


def print_summary(summary: Summary, library: Path | str) -> None:
    """Print what an indexing run did."""
    counts = file_counts(summary, _COUNTS) or "Nothing to do"
    out.print(f"[bold]{counts}[/bold] in {summary.seconds:.1f} s", end="")
    rate = f" ({summary.embedded:,} embedded, {summary.items_per_second:.1f}/s)"
    out.print(rate if summary.embedded else "")
    out.print(f"Library: {escape(str(library))}")
    if summary.refreshed:
        what = "1 file" if summary.refreshed == 1 else f"{summary.refreshed:,} files"
        out.print(f"Metadata read again: {what}")
    if summary.failed:
        out.print("Why files failed: mmsearch status --failed")
    if summary.noted:
        what = "1 file was" if summary.noted == 1 else f"{summary.noted:,} files were"
        out.print(f"{what} read in part: mmsearch status --notes")


def passed_over(endings: Mapping[str, int], system_folders: Mapping[str, int]) -> list[str]:
    """Say in lines what walks passed over: files of other kinds, and folders of systems."""
    lines = []
    for counts, what in (
        (endings, ("file of another kind", "files of other kinds")),
        (system_folders, ("system folder", "system folders")),
    ):
        if total := sum(counts.values()):
            most = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
            listed = ", ".join(f"{count:,} {name}" for name, count in most[:_MOST_ENDINGS])
            more = f" and {len(most) - _MOST_ENDINGS} more" if len(most) > _MOST_ENDINGS else ""
            lines.append(f"{total:,} {what[total > 1]} passed over: {listed}{more}")
    return lines


@contextmanager
def indexing_progress(*, quiet: bool, is_lazy: bool = False) -> Iterator["IndexingBar"]:
    """Show a progress bar on standard error with rate and remaining time.

    is_lazy: only from the first file on that has to be read, so that nothing is shown where there
    is nothing to do.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    class Rate(ProgressColumn):
        def render(self, task: "Task") -> Text:
            return Text(f"{task.speed:.1f}/s" if task.speed else "")

    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(compact=True),
        console=err,
        disable=quiet or not err.is_terminal,
        speed_estimate_period=60,
    )
    bar = IndexingBar(progress)
    try:
        if not is_lazy:
            bar.show()
        yield bar
    finally:
        progress.stop()


class IndexingBar:
    """Displays progress events of the pipeline."""

    def __init__(self, progress: "Progress") -> None:
        self._progress = progress
        self._is_shown = False
        self._task = progress.add_task("Looking for files", total=None)

    def show(self) -> None:
        """Begin to show the bar."""
        self._is_shown = True
        self._progress.start()

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Hide the bar, as for a question."""
        self._progress.stop()
        try:
            yield
        finally:
            if self._is_shown:
                self._progress.start()

    def __call__(self, event: IndexingProgress) -> None:
        """Display an event; files that need not be read leave no bar behind."""
        if event.total is None:
            return
        self._progress.update(self._task, visible=event.total > 0)
        if event.total and not self._is_shown:
            self.show()
        failed = f" ({event.failed:,} failed)" if event.failed else ""
        self._progress.update(
            self._task,
            description=f"Embedding{failed}",
            completed=max(event.done, event.read),
            total=event.total,
        )


@contextmanager
def stage_progress(*, quiet: bool = False) -> Iterator[Callable[..., None]]:
    """Yield a callback (name, done, total, detail) that shows a bar per stage on standard error.

    quiet: whether it shows nothing.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        console=err,
        disable=quiet or not err.is_terminal,
        transient=True,
    ) as progress:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int, detail: str = "") -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            told = escape(f"{what} ({detail})" if detail else what)
            progress.update(tasks[what], completed=done, total=total, description=told)

        yield show
