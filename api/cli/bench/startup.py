"""`mmsearch bench startup`: time and memory that starting the program costs."""

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from api.cli.bench.options import THIS_PROGRAM, RoundsOption
from api.cli.options import (
    JsonOption,
    LibraryOption,
    complain,
    option,
    print_result,
    require_paths,
)
from retrieval.errors import UsageError

if TYPE_CHECKING:
    from benchmarks.speed.startup import Command, Startup


def startup(
    library: LibraryOption = None,
    query: Annotated[str, option("--query", "TEXT", "Text to search for.")] = "two dogs",
    rounds: RoundsOption = 5,
    beside: Annotated[
        list[str],
        option("--beside", "NAME=COMMAND", "Measure another command in turn. Repeatable."),
    ] = [],  # noqa: B006 - Typer needs a list, and it is not changed
    rclip: Annotated[
        Path | None,
        option("--rclip", "FILE", "Path of the rclip executable. (default: the one on PATH)"),
    ] = None,
    rclip_models: Annotated[
        Path | None,
        option("--rclip-models", "DIR", "Data directory of rclip. (default: that of the user)"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure `--help`, the first search of a process, and a search through a service."""
    from benchmarks.speed import startup as benchmark
    from retrieval.library import open_library

    require_paths([path for path in (rclip, rclip_models) if path is not None])
    others = [parse_command(text) for text in beside]
    names = [other.name for other in others]
    if len(set(names)) < len(names):
        raise UsageError("--beside needs another name for each command.")
    opened = open_library(library)
    if rclip is None and (found := shutil.which("rclip")):
        rclip = Path(found)
    if rclip:
        others += benchmark.rclip_commands(rclip.absolute(), query, rclip_models)
    else:
        complain("rclip is left out: it is not on PATH; give its path with --rclip.")
    results = benchmark.measure_startup(
        THIS_PROGRAM,
        opened.path.absolute(),
        query,
        beside=others,
        rounds=rounds,
        on_run=lambda name, seconds: complain(f"{name}: {seconds:.2f} s"),
    )
    ratios = _ratios(results)
    runs = [
        vars(one) | {"median_s": one.median_s, "ratio": ratio}
        for one, ratio in zip(results, ratios, strict=True)
    ]
    body = {"query": query, "rounds": rounds, "runs": runs}
    print_result(body, lambda: _text(results, ratios, rounds), as_json=as_json)


def parse_command(text: str) -> "Command":
    """Parse NAME=COMMAND of `--beside`; raises UsageError for anything else."""
    from benchmarks.speed.startup import (
        FIRST_SEARCH,
        HELP,
        REQUEST,
        RESIDENT_SEARCH,
        SERVED_SEARCH,
        Command,
    )

    name, _, line = text.partition("=")
    name = name.strip()
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"--beside {text!r}: {error}.") from error
    if not name or not words:
        raise UsageError(f"--beside takes NAME=COMMAND, not {text!r}.")
    if name in {HELP, FIRST_SEARCH, REQUEST, RESIDENT_SEARCH, SERVED_SEARCH}:
        raise UsageError(f"--beside needs another name than {name!r}, which is measured already.")
    return Command(name, words)


def _ratios(results: "Sequence[Startup]") -> list[float]:
    """Divide the times by that of the first search."""
    from benchmarks.speed.startup import FIRST_SEARCH

    [first] = [one.median_s for one in results if one.name == FIRST_SEARCH]
    return [one.median_s / first for one in results]


def _text(results: "Sequence[Startup]", ratios: Sequence[float], rounds: int) -> str:
    lines = [
        f"{rounds} rounds in turn, medians; ratio: over the first search",
        f"{'command':<26} {'seconds':>8} {'peak, MB':>9} {'ratio':>6}",
    ]
    for one, ratio in zip(results, ratios, strict=True):
        peak = "" if one.peak_memory_bytes is None else f"{one.peak_memory_bytes / 1e6:.0f}"
        lines.append(f"{one.name:<26} {one.median_s:>8.3f} {peak:>9} {ratio:>6.2f}")
    return "\n".join(lines)
