"""Write a comparison as a report: figures, and the failures mended and new as pictures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.datasets import RetrievalDataset, load_dataset
from benchmarks.quality.comparison import (
    Change,
    Changes,
    ComparisonRow,
    changes_markdown,
    comparison_cells,
    comparison_markdown,
    format_rank,
)
from benchmarks.quality.queries_comparison import QueriesRecord
from benchmarks.quality.report import DIRECTION_NAMES, Shown, render_page, show_item
from benchmarks.quality.results import QualityRecord
from retrieval.errors import UsageError

MOST_CHANGES = 200
"""Changes of a kind are ten thumbnails of some 6 KiB each at most: 12 MiB."""

_WANTED_SHOWN = 3
_LONGEST_TEXT = 1000
_GONE = "(not in the dataset any more)"


@dataclass(frozen=True)
class Contents:
    """What the ids of queries and items stand for: texts, or image files.

    wanted: ids of right items of each query, those to show first.
    """

    queries: Mapping[str, str | Path]
    items: Mapping[str, str | Path]
    wanted: Mapping[str, Sequence[str]]

    def text_of(self, query: str) -> str:
        """Name a query in one line: its text, or its id."""
        value = self.queries.get(query, query)
        return shortened(" ".join(value.split())) if isinstance(value, str) else query


NO_CONTENTS = Contents({}, {}, {})
"""Of a dataset that is not there: ids stand for themselves."""


@dataclass(frozen=True)
class ShownChange:
    """A change as the report shows it."""

    query: Shown
    before: str
    after: str
    wanted: tuple[Shown, ...]
    found_before: tuple[Shown, ...]
    found_after: tuple[Shown, ...]


def contents_of_dataset(record: QualityRecord) -> dict[str, Contents]:
    """Load the dataset of a result again: the contents of each of its directions.

    Raises NotFoundError, UsageError where that cannot be done.
    """
    named = record.dataset
    dataset: RetrievalDataset = load_dataset(
        named["specification"], split=named["split"], language=named["language"]
    )
    return {
        direction: Contents(
            dataset.queries(direction),
            dataset.items(direction),
            {query: [*gains] for query, gains in dataset.qrels(direction).items()},
        )
        for direction in record.directions
        if direction in dataset.directions
    }


def contents_of_queries(runs: Sequence[QueriesRecord]) -> dict[str, Contents]:
    """Gather the contents of each kind of queries from the results themselves."""
    texts: dict[str, dict[str, str | Path]] = {}
    items: dict[str, dict[str, str | Path]] = {}
    wanted: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        for query in run.queries:
            texts.setdefault(query.kind, {})[query.text] = query.text
            right = [photo.path for photo in query.found if photo.gain > 0]
            known = wanted.setdefault(query.kind, {}).setdefault(query.text, [])
            known += [path for path in (*query.wanted, *right) if path not in known]
            paths = (*known, *(photo.path for photo in query.found))
            items.setdefault(query.kind, {}).update((path, Path(path)) for path in paths)
    return {kind: Contents(texts[kind], items[kind], wanted[kind]) for kind in texts}


def write_comparison_report(
    folder: Path,
    rows: Sequence[ComparisonRow],
    changes: Sequence[tuple[Changes, Contents]],
    *,
    count: int,
) -> Path:
    """Write report.html and report.md into a folder; returns the path of the page.

    Args:
        folder: for both files.
        rows: the figures.
        changes: the failures mended and new, and what their ids stand for.
        count: maximum number of failures of each list.

    Raises:
        UsageError: `count` is out of range, or the packages for pages are not installed.
    """
    if not 0 <= count <= MOST_CHANGES:
        raise UsageError(f"The report shows from 0 to {MOST_CHANGES} failures, not {count}.")
    # Many failures have the same pictures; each is decoded once.
    show = cache(show_item)
    sections = [
        (
            each,
            DIRECTION_NAMES.get(each.direction, each.direction),
            [
                (title, [_shown(change, contents, show) for change in listed])
                for title, listed in (("mended", each.mended[:count]), ("new", each.new[:count]))
            ],
        )
        for each, contents in changes
    ]
    page = render_page(
        "comparison.html.jinja",
        labels=list(dict.fromkeys(row.label for row in rows)),
        rows=[comparison_cells(row) for row in rows],
        sections=sections,
    )
    folder.mkdir(parents=True, exist_ok=True)
    html = folder / "report.html"
    html.write_text(page, encoding="utf-8")
    text = comparison_markdown(rows) + changes_text(changes)
    (folder / "report.md").write_text(text, encoding="utf-8")
    return html


def changes_text(changes: Sequence[tuple[Changes, Contents]]) -> str:
    """Format the failures mended and new as Markdown, with the texts of the queries."""
    return "".join(changes_markdown(each, contents.text_of) for each, contents in changes)


def shortened(text: str) -> str:
    """Cut a text that is too long for a report."""
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"


def _shown(
    change: Change, contents: Contents, show: Callable[[str, str | Path, bool], Shown]
) -> ShownChange:
    right = contents.wanted.get(change.query, ())

    def item(name: str) -> Shown:
        value = contents.items.get(name, _GONE)
        return show(name, shortened(value) if isinstance(value, str) else value, name in right)

    asked = contents.queries.get(change.query, change.query)
    return ShownChange(
        show(change.query, shortened(asked) if isinstance(asked, str) else asked, False),
        format_rank(change.before),
        format_rank(change.after),
        tuple(map(item, right[:_WANTED_SHOWN])),
        tuple(map(item, change.found_before)),
        tuple(map(item, change.found_after)),
    )
