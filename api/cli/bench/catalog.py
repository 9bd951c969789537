"""`mmsearch bench catalog`: speed of filters, facets and words in a large library."""

import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from api.cli.bench.options import RoundsOption
from api.cli.options import JsonOption, SeedOption, complain, option, print_result
from retrieval.errors import UsageError


def catalog(
    items: Annotated[
        int, typer.Option("--items", min=100, help="Number of items of the library.")
    ] = 300_000,
    rounds: RoundsOption = 3,
    keep: Annotated[
        Path | None,
        option(
            "--library",
            "DIR",
            "Directory to keep the library in; one that is there is used. (default: deleted)",
        ),
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure what is first asked of a large library, made for it of files that do not exist."""
    from api.cli.console import stage_progress
    from benchmarks.catalog.first_filters import measure, timings_table
    from benchmarks.catalog.library_maker import SPACE, make_library
    from retrieval.library import library_exists, open_library
    from retrieval.media import Modality

    with ExitStack() as stack:
        folder = keep or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="mmsearch-catalog-"))
        )
        make_s = None
        if library_exists(folder):
            library = open_library(folder, upgrade=True)
            if library.space() != SPACE:
                raise UsageError(f"{folder} was not made by `mmsearch bench catalog`.")
        else:
            show = stack.enter_context(stage_progress())
            start = time.perf_counter()
            library = make_library(folder, items, seed=seed, on_progress=show)
            make_s = time.perf_counter() - start
            complain(f"A library of {items:,} items was made in {make_s:.0f} s.")
        stack.callback(library.close)
        with library.catalog.snapshot() as snapshot:
            present = snapshot.row_count(SPACE.id, Modality.IMAGE)
        timings = measure(library, rounds=rounds, on_step=complain)
    body = {
        "items": present,
        "make_s": make_s,
        "timings": [asdict(timing) for timing in timings],
    }
    print_result(body, lambda: timings_table(present, timings), as_json=as_json)
