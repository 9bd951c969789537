"""`mmsearch backup` and `mmsearch restore`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from api.cli.options import JsonOption, LibraryOption, complain, print_json
from retrieval.library import open_library

_DAMAGED = (
    "{count:,} vectors are damaged, in the library too: `mmsearch check --repair` makes them again."
)


def backup(
    destination: Annotated[
        Path,
        typer.Argument(metavar="DEST", help="Directory of the backup, new or of an earlier one."),
    ],
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Back up a library, also while it is indexed and searched; copies only what is new."""
    from api.cli import console
    from retrieval.integrity.backup import back_up

    opened = open_library(library)
    with console.stage_progress(quiet=as_json) as show:
        done = back_up(opened, destination, on_progress=show)
    if as_json:
        print_json(
            {"library": str(opened.path), "backup": str(destination.absolute()), **asdict(done)}
        )
    else:
        console.out.print(
            f"Backed up to {destination}: {done.rows:,} vectors, {done.copied_rows:,} of them new; "
            f"{done.bytes / 1e6:,.1f} MB in all.",
            markup=False,
        )
    if done.damaged:
        complain(_DAMAGED.format(count=done.damaged))
        raise typer.Exit(1)


def restore(
    backup: Annotated[Path, typer.Argument(metavar="BACKUP", help="Directory of the backup.")],
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restore a library from a backup into a new directory, and verify it."""
    from api.cli import console
    from retrieval.integrity.backup import restore as restore_library
    from retrieval.library import default_library_path

    target = library or default_library_path()
    with console.stage_progress(quiet=as_json) as show:
        done = restore_library(backup, target, on_progress=show)
    if as_json:
        print_json({"library": str(target.absolute()), "backup": str(backup), **asdict(done)})
    else:
        console.out.print(
            f"Restored and verified: {target}, {done.rows:,} vectors, {done.bytes / 1e6:,.1f} MB.",
            markup=False,
        )
    if done.damaged:
        complain(
            f"{done.damaged:,} vectors were damaged in the backup: searches leave them out. "
            f"`mmsearch check --repair` makes them again."
        )
        raise typer.Exit(1)
