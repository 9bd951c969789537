"""`mmsearch bench page`: the web page in a real Chromium."""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from api.cli.bench.options import THIS_PROGRAM, RoundsOption
from api.cli.options import JsonOption, LibraryOption, complain, option, print_result
from retrieval.library import default_library_path, open_library


def page(
    library: LibraryOption = None,
    queries: Annotated[
        list[str] | None, option("--query", "TEXT", "Text to type. Repeatable. (default: five)")
    ] = None,
    rounds: RoundsOption = 3,
    seconds: Annotated[
        float, typer.Option("--seconds", min=1, help="How long each list is scrolled.")
    ] = 10,
    chromium: Annotated[
        str | None,
        option("--chromium", "FILE", "Chromium. (default: $MMSEARCH_CHROMIUM, else chromium)"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the page in Chromium: key press to first picture, frames while scrolling."""
    from benchmarks.service.page import QUERIES, measure_page, page_text

    opened = open_library(library or default_library_path())
    with tempfile.TemporaryDirectory(prefix="mmsearch-page-") as workspace:
        result = measure_page(
            THIS_PROGRAM,
            opened.path,
            Path(workspace),
            queries=queries or QUERIES,
            rounds=rounds,
            seconds=seconds,
            chromium=chromium,
            on_step=complain,
        )
    print_result(asdict(result), lambda: page_text(result), as_json=as_json)
