"""`mmsearch spaces`: list, choose, complete and remove the vector spaces of a library."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.options import (
    STOPPING,
    DeviceOption,
    JsonOption,
    LibraryOption,
    YesOption,
    complain,
    print_json,
    stop_on_signal,
)
from retrieval.errors import UsageError
from retrieval.library import Library, open_library

if TYPE_CHECKING:
    from indexer.progress import Summary
    from indexer.spaces import SpaceRun
    from retrieval.encoders.base import Encoder
    from retrieval.spaces import SpaceStatus


SpaceArgument = Annotated[str, typer.Argument(metavar="ID", help="Id of a vector space.")]

spaces = typer.Typer(
    help="List the vector spaces of a library, choose the default, complete or remove them.",
    invoke_without_command=True,
)


@spaces.callback()
def list_all(
    context: typer.Context, library: LibraryOption = None, as_json: JsonOption = False
) -> None:
    """List the vector spaces of a library; commands: default, complete, remove."""
    if context.invoked_subcommand is not None:
        if library is not None or as_json:
            raise UsageError("Give `--library` and `--json` after the command.")
        return
    from api.cli import console
    from retrieval.media import Modality
    from retrieval.spaces import list_spaces

    opened = open_library(library)
    statuses = list_spaces(opened)
    if as_json:
        print_json({"library": opened.location, "spaces": [_facts(one) for one in statuses]})
        return
    for status in statuses:
        counts = ", ".join(
            f"{count:,} {modality.plural}"
            for modality, count in status.items.items()
            if count or modality is not Modality.AUDIO
        )
        state = "complete" if status.is_complete else f"{_files(status.files_behind)} behind"
        mark = "*" if status.is_default else " "
        console.out.print(f"{mark} {status.id}  {status.encoder}  {counts}  {state}", markup=False)
    if any(not status.is_complete for status in statuses):
        complain("`mmsearch spaces complete` embeds what is missing.")


@spaces.command()
def default(
    space_id: SpaceArgument, library: LibraryOption = None, as_json: JsonOption = False
) -> None:
    """Make a vector space the one that searches use by default."""
    from retrieval.spaces import list_spaces

    opened = open_library(library)
    opened.set_default_space(space_id)
    status = next(one for one in list_spaces(opened) if one.is_default)
    if as_json:
        print_json({"library": opened.location, "default": status.id})
    else:
        _say(f"Searches use {status.id} now. Restart services that run.")
    if not status.is_complete:
        complain(
            f"{_files(status.files_behind)} cannot be found in it yet: `mmsearch spaces complete "
            f"{status.id}`."
        )


@spaces.command()
def complete(
    space_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Id of a vector space. (default: all)")
    ] = None,
    library: LibraryOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Embed in the vector spaces what they lack of the library's sources."""
    from api.cli import console
    from api.cli.index_info import build_due_indices
    from indexer.pipeline import index_sources
    from indexer.spaces import index_spaces
    from retrieval.encoders.deferred import deferred_encoder
    from retrieval.spaces import ordered_space_ids

    opened = open_library(library, upgrade=True)
    known = [opened.space(space_id)] if space_id else map(opened.space, ordered_space_ids(opened))
    encoders = [deferred_encoder(opened, one, device) for one in known if not one.is_given]
    with stop_on_signal(note=STOPPING) as stop:

        def index_in(encoder: "Encoder") -> "Summary":
            with console.indexing_progress(quiet=as_json) as bar:
                return index_sources(opened, encoder, on_progress=bar, should_stop=stop.is_set)

        runs = []
        for run in index_spaces(encoders, index_in):
            runs.append(run)
            if run.problem is None and not run.summary.interrupted:
                build_due_indices(
                    opened, run.encoder, device=device, is_quiet=as_json, should_stop=stop.is_set
                )
    facts = report_other_spaces(opened, None, runs, is_quiet=as_json)
    if as_json:
        print_json({"library": opened.location, "spaces": facts})
    if any(run.summary.interrupted for run in runs):
        complain("Stopped: run the same command again to continue.")
        raise typer.Exit(130)
    if any(run.problem for run in runs):
        raise typer.Exit(1)


@spaces.command()
def remove(
    space_id: SpaceArgument,
    yes: YesOption = False,
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a vector space: its embeddings and indices. Sources and other spaces stay."""
    opened = open_library(library, upgrade=True)
    if not yes and space_id in opened.space_ids():
        typer.confirm(
            f"Remove the space {space_id} with its embeddings? Only embedding all files again "
            "would bring it back.",
            abort=True,
            err=True,
        )
    opened.remove_space(space_id)
    if as_json:
        print_json({"library": opened.location, "removed": space_id})
    else:
        _say(f"The space {space_id} was removed.")


def report_other_spaces(
    library: Library, space_id: str | None, runs: "Sequence[SpaceRun]", *, is_quiet: bool = False
) -> list[dict[str, Any]]:
    """Say what was done for spaces, and what they lack; returns the facts for `--json`.

    space_id: a space to leave out, which was told of already. is_quiet: warnings only.
    """
    from retrieval.spaces import list_spaces

    if space_id is not None and len(library.space_ids()) == 1:
        return []
    done = {run.encoder.space.id: run for run in runs}
    facts = []
    for status in list_spaces(library):
        run = done.get(status.id)
        if status.id == space_id or (space_id is None and run is None):
            continue
        embedded = run.summary.embedded if run else 0
        problem = run.problem if run else None
        facts.append({**_facts(status), "embedded": embedded, "problem": problem})
        if problem:
            complain(problem)
        if not status.is_complete:
            complain(
                f"The space {status.id} is left behind: {_files(status.files_behind)} cannot be "
                f"found in it. `mmsearch spaces complete {status.id}` embeds them."
            )
        elif run and not is_quiet:
            _say(f"Space {status.id}: {embedded:,} embedded, complete.")
    return facts


def _facts(status: "SpaceStatus") -> dict[str, Any]:
    return {
        "space": status.id,
        "encoder": status.encoder,
        "dimension": status.dimension,
        "default": status.is_default,
        **{modality.plural: count for modality, count in status.items.items()},
        "complete": status.is_complete,
        "files_behind": status.files_behind,
    }


def _files(count: int) -> str:
    return f"{count:,} file{'' if count == 1 else 's'}"


def _say(message: str) -> None:
    from api.cli import console

    console.out.print(message, markup=False)
