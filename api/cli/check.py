"""`mmsearch check`: whether a library is whole, and making again what is not."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.options import (
    DeviceOption,
    JsonOption,
    LibraryOption,
    complain,
    print_json,
    stop_on_signal,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from indexer.repair import Repaired
    from retrieval.integrity.check import Report
    from retrieval.library import Library


def check(
    files: Annotated[
        bool,
        typer.Option("--files", help="Also read every indexed file and compare its content."),
    ] = False,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Make again what can be made from the files: vectors, indices, caches."
        ),
    ] = False,
    library: LibraryOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Check a library: catalog, vectors, indices and caches; exit code 1 if something is wrong."""
    from api.cli import console
    from retrieval.integrity.check import check_library
    from retrieval.library import open_library

    opened = open_library(library, upgrade=True)
    done = None
    with stop_on_signal(note="Stopping. Press Ctrl-C again to stop at once.") as stop:
        with console.stage_progress(quiet=as_json) as show:
            report = check_library(opened, files=files, on_progress=show, should_stop=stop.is_set)
        if repair and any(problem.repairable for problem in report.problems):
            if not as_json:
                for problem in report.problems:
                    complain(f"{problem.path}: {problem.description}")
            done = _repair(opened, report, device, as_json, stop.is_set)
            before = report
            with console.stage_progress(quiet=as_json) as show:
                report = check_library(opened, on_progress=show, should_stop=stop.is_set)
            report.problems += [problem for problem in before.problems if problem.part == "file"]
            report.files = before.files
    is_stopped = report.interrupted or (done is not None and done.interrupted)
    if as_json:
        print_json(_facts(opened, report, done, is_stopped))
    else:
        _print(opened, report, done)
    if is_stopped:
        complain("Stopped: run the same command again to check everything.")
        raise typer.Exit(130)
    if not report.is_whole:
        raise typer.Exit(1)


def _repair(
    library: "Library",
    report: "Report",
    device: str,
    as_json: bool,
    should_stop: "Callable[[], bool]",
) -> "Repaired":
    from api.cli import console
    from api.cli.index_info import build_due_indices
    from indexer.repair import repair
    from retrieval.encoders.deferred import deferred_encoder, encoder_of

    with console.indexing_progress(quiet=as_json) as bar:
        done = repair(
            library,
            report,
            lambda space_id: encoder_of(library, library.space(space_id), device),
            on_progress=bar,
            should_stop=should_stop,
        )
    changed = {space.id for space, *_ in report.generations}
    changed |= {found.space.id for found in report.damaged_rows}
    for space_id in sorted(changed):
        if not done.interrupted:
            build_due_indices(
                library,
                deferred_encoder(library, library.space(space_id), device),
                device=device,
                is_quiet=as_json,
                should_stop=should_stop,
            )
    return done


def _facts(
    library: "Library", report: "Report", done: "Repaired | None", is_stopped: bool
) -> dict[str, Any]:
    return {
        "library": str(library.path),
        "ok": report.is_whole,
        "problems": [asdict(problem) for problem in report.problems],
        "notes": report.notes,
        "vectors": report.rows,
        "cached": report.caches,
        "files": report.files,
        "repaired": None
        if done is None
        else {"embedded": done.embedded, "deleted": done.deleted, "problems": done.problems},
        "interrupted": is_stopped,
    }


def _print(library: "Library", report: "Report", done: "Repaired | None") -> None:
    from api.cli import console

    if done is not None:
        console.out.print(
            f"Repaired: {done.embedded:,} vectors made again, {done.deleted:,} damaged files of "
            "indices and caches deleted."
        )
        for problem in done.problems:
            complain(problem)
    for found in report.problems:
        complain(f"{found.path}: {found.description}")
    for note in report.notes:
        complain(note)
    counts = f"{report.rows:,} vectors, {report.caches:,} cached files"
    if report.files:
        counts += f", {report.files:,} indexed files"
    if report.is_whole:
        console.out.print(f"{library.path}: no damage found ({counts}).", markup=False)
        return
    count = len(report.problems)
    console.out.print(
        f"{library.path}: {count:,} problem{'' if count == 1 else 's'} ({counts}).", markup=False
    )
    if done is None and any(problem.repairable for problem in report.problems):
        complain("`mmsearch check --repair` makes again what can be made from the files.")
