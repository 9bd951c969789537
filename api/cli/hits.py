"""Print the hits of a search: for people, or their paths alone."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.text import Text

from api.cli.console import display_path, err, out, place_in_file
from api.cli.options import complain
from retrieval.catalog import Item, TakenFrom
from retrieval.files import valid_text
from retrieval.media import Modality
from retrieval.recognition.base import Task
from retrieval.search.answer import Answer, Hit
from retrieval.search.cut import FLOOR
from retrieval.search.query import PartKind

if TYPE_CHECKING:
    from PIL import Image

_FOUND_BY = {
    Task.OCR: "text in the picture",
    Task.SPEECH: "speech",
    Task.CAPTION: "generated caption",
}
_LEAST_PATH = 16
_LEAST_PLACE = 12


@dataclass(frozen=True)
class Style:
    """How hits are printed.

    is_verbose: with similarity and match. are_here: the files are on this machine. with_dates: with
    the dates. picture_of: reads the pictures that are shown; None: none are. next_page: the number
    of the page that follows. before: the hits of the pages before.
    """

    is_verbose: bool = False
    are_here: bool = True
    with_dates: bool = False
    is_ranked: bool = True
    picture_of: "Callable[[Item], Image.Image] | None" = None
    next_page: int = 2
    before: Sequence[Hit] = ()


def print_hits(answer: Answer, style: Style) -> None:
    """Print an answer: pictures first, and passages of texts in a section below.

    A terminal also gets headings, paths that fit into its lines, and how to see more.
    """
    for warning in answer.warnings:
        complain(warning)
    _print_understood(answer)
    if not answer.hits:
        return
    has_match = any(hit.match is not None for hit in answer.hits)
    if out.is_terminal:
        out.print(_headings(style, has_match=has_match), style="dim")
    pictures, passages = _sections(answer.hits)
    show = _picture_printer(style)
    for hits, before in zip((pictures, passages), _sections(style.before), strict=True):
        if pictures and hits and hits is passages:
            out.print("[bold]Texts[/bold]")
        is_shared = style.is_ranked and not style.is_verbose
        for hit in shared_out(hits, before) if is_shared else hits:
            out.print(_line(hit, style, has_match=has_match))
            if show and hit.item.has_picture:
                show(hit.item)
    if out.is_terminal and answer.left_out:
        out.print(f"{answer.left_out:,} less relevant left out.", style="dim")
    if out.is_terminal and answer.next_cursor:
        out.print(f"More: the same with [bold]--page {style.next_page}[/bold]", style="dim")


def _sections(hits: Sequence[Hit]) -> tuple[list[Hit], list[Hit]]:
    """Divide hits into pictures and passages of texts."""
    pictures = [hit for hit in hits if hit.item.modality is not Modality.TEXT]
    return pictures, [hit for hit in hits if hit.item.modality is Modality.TEXT]


def _picture_printer(style: Style) -> "Callable[[Item], None] | None":
    if style.picture_of is None:
        return None
    from api.cli.preview import picture_printer

    return picture_printer(out, style.picture_of)


def shared_out(hits: Sequence[Hit], before: Sequence[Hit] = ()) -> list[Hit]:
    """Share out the relevances among hits in their order, which a reranker may have chosen.

    As the search by meaning and words does by itself, so that percentages fall down the list. None
    exceeds those of the hits before.
    """
    most = min((h.relevance for h in before if h.relevance is not None), default=1.0)
    relevances = sorted(
        (min(h.relevance, most) for h in hits if h.relevance is not None), reverse=True
    )
    if len(relevances) < len(hits):
        return list(hits)
    return [
        replace(hit, relevance=relevance) for hit, relevance in zip(hits, relevances, strict=True)
    ]


def print_paths(answer: Answer, end: str) -> None:
    """Print the path of each file once, as it is on the disk: for other programs."""
    for warning in answer.warnings:
        complain(warning)
    here = os.getcwd() + os.sep  # noqa: PTH109 - a string prefix, not a Path
    for path in dict.fromkeys(hit.path for hit in answer.hits):
        if out.is_terminal and end == "\n":
            out.print(display_path(path), markup=False)
            continue
        shown = path.removeprefix(here)
        shown = f".{os.sep}{shown}" if shown.startswith("-") else shown
        sys.stdout.flush()
        sys.stdout.buffer.write(os.fsencode(shown) + end.encode())
    sys.stdout.flush()


def _headings(style: Style, *, has_match: bool) -> str:
    columns = f"{'#':>4}  relevance  "
    if style.is_verbose:
        columns += f"{'similarity':>10}  " + ("  match  " if has_match else "")
    if style.with_dates:
        columns += f"{'date':<28}"
    return f"{columns}path"


def _line(hit: Hit, style: Style, *, has_match: bool) -> Text:
    line = Text(f"{hit.rank:>4}  ")
    if hit.relevance is None:
        line.append(f"{'-':>9}  ", "dim")
    else:
        line.append(f"{hit.relevance:>9.0%}  ", _style_of_relevance(hit.relevance))
    if style.is_verbose:
        line.append(f"{hit.similarity:>10.3f}  ", "cyan")
        if has_match:
            line.append(f"{'-':>7}  " if hit.match is None else f"{hit.match:>+7.2f}  ", "cyan")
    if style.with_dates:
        line.append(f"{_date_of(hit.item):<26}  ", "cyan")
    said = ""
    if hit.group:
        said += f"  and {len(hit.group):,} more of this file"
    if hit.words is not None:
        said += "  by its words"
    if style.is_verbose and hit.found_by is not None:
        said += f"  {_FOUND_BY[hit.found_by]}"
    path, place = display_path(hit.path), place_in_file(hit.item)
    if out.is_terminal:
        room = out.width - line.cell_len - cell_len(said)
        place = shorten_end(place, max(room - cell_len(path), _LEAST_PLACE))
        path = shorten_middle(path, max(room - cell_len(place), _LEAST_PATH))
    shown = Text(path)
    if style.are_here and out.is_terminal and not out.is_dumb_terminal:
        shown.stylize(f"link {Path(valid_text(hit.path)).as_uri()}")
    return Text.assemble(line, shown, (place + said, "dim"))


def shorten_middle(path: str, width: int) -> str:
    """Shorten a path to some cells of a terminal; its name is kept as long as that is possible."""
    if cell_len(path) <= width:
        return path
    mark = _ellipsis()
    name = cell_len(path[path.rfind(os.sep) :])
    end = min(max(name, width * 2 // 3), width - cell_len(mark) - 1)
    begin = width - end - cell_len(mark)
    return set_cell_size(path, begin).rstrip() + mark + _last_cells(path, end)


def shorten_end(text: str, width: int) -> str:
    """Cut a text at some cells of a terminal."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - cell_len(_ellipsis())).rstrip() + _ellipsis()


def _last_cells(text: str, width: int) -> str:
    """Return the end of a text that fits into some cells."""
    turned = chop_cells(text[::-1], width)
    return turned[0][::-1] if turned else ""


def _ellipsis() -> str:
    return "…" if out.encoding.lower().startswith("utf") else "..."


def _print_understood(answer: Answer) -> None:
    """Print on standard error which words of the query became filters."""
    if answer.understood:
        said = ", ".join(
            f"{part.label} ({'date' if part.kind is PartKind.TIME else part.kind})"
            for part in answer.understood
        )
        err.print(
            f"Understood: {said}. --literal searches for the words as they are.",
            style="dim",
            markup=False,
        )


def _style_of_relevance(relevance: float) -> str:
    if relevance >= 0.5:
        return "bold green"
    return "green" if relevance >= FLOOR else "dim"


def _date_of(item: Item) -> str:
    """Format the date of an item; one of the file system says so."""
    if item.taken_local is None:
        return "no date"
    date = f"{item.taken_local:%Y-%m-%d %H:%M}"
    return date if item.taken_from is TakenFrom.METADATA else f"{date} file date"
