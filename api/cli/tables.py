"""Whole libraries as Lance tables: export to one, import of one, and copies that follow one."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from api.cli.options import (
    STOPPING,
    DeviceOption,
    JsonOption,
    complain,
    option,
    print_json,
    stop_on_signal,
)
from retrieval.errors import UsageError
from retrieval.lance.location import is_lance

if TYPE_CHECKING:
    from retrieval.lance.copies import Copied, TableCopy

ShardOption = Annotated[
    str | None,
    option(
        "--shard",
        "I/N",
        "Copy one of N shards, counted from 0, such as 0/4: items by the hash of their content. "
        "(default: all)",
    ),
]


def location_of(text: str) -> str:
    """Spell the location of a table, which may be given as a directory or a URI of a store."""
    if is_lance(text):
        return text
    return f"lance+{text}" if "://" in text else f"lance:{text}"


def is_table(path: Path) -> bool:
    """Return whether there is a library as a Lance table at a path, and no plain vectors."""
    if not (path / "_versions").is_dir():
        return False
    from retrieval.lance.table import LanceTable

    try:
        LanceTable.open(f"lance:{path}")
    except UsageError:
        return False
    return True


def parse_shard(text: str | None) -> tuple[int, int]:
    """Parse I/N; None is the only one. Raises UsageError for anything else."""
    if text is None:
        return 0, 1
    found = re.fullmatch(r"(\d{1,5})/(\d{1,5})", text, re.ASCII)
    if found is None or not int(found[1]) < int(found[2]):
        raise UsageError(f"--shard {text!r}: write I/N with I from 0 to N-1, such as 0/4.")
    return int(found[1]), int(found[2])


def export_table(location: str, space: str | None, library: Path | None, *, as_json: bool) -> None:
    """Bring a table in step with a library."""
    from api.cli import console
    from indexer.vectors.spaces import find_space
    from retrieval.lance.export import export_library
    from retrieval.library import open_library

    opened = open_library(library)
    chosen = find_space(opened, space)
    with opened.catalog.snapshot() as snapshot:
        counts = snapshot.counts(chosen.id)
    total = counts.indexed + counts.failed
    with stop_on_signal(note=STOPPING) as stop, console.stage_progress(quiet=as_json) as show:
        done = export_library(
            opened,
            location,
            chosen,
            on_progress=lambda files: show("Files", files, max(files, total)),
            should_stop=stop.is_set,
        )
    if as_json:
        facts = {"library": str(opened.path), "table": location, "space": chosen.id}
        counted = {
            "files": {
                "written": done.written,
                "unchanged": done.unchanged,
                "deleted": done.deleted,
            },
            "items": done.items,
            "damaged": done.damaged,
        }
        print_json({**facts, "version": done.version, **counted})
    else:
        _complain_of_damaged(done.damaged)
        console.out.print(
            f"{location} is at version {done.version}: {done.written:,} files written, "
            f"{done.unchanged:,} unchanged, {done.deleted:,} deleted.",
            markup=False,
        )
    if stop.is_set():
        raise typer.Exit(130)


def import_table(location: str, space: str | None, library: Path, *, as_json: bool) -> None:
    """Take a table into a library, or what has changed in it since."""
    from retrieval.lance.copies import open_import
    from retrieval.lance.table import LanceTable

    table = LanceTable.open(location)
    if space not in {None, "new", table.space.id, table.space.encoder}:
        raise UsageError(
            f"{location} has the space {table.space.id}, not {space!r}. `--space new` adds it to a "
            "library that lacks it."
        )
    _update(open_import(table, library, new_space=space == "new"), as_json=as_json)


def copy(
    table: Annotated[
        str,
        typer.Argument(metavar="TABLE", help="Lance table: lance:DIR or lance+s3://BUCKET/PREFIX."),
    ],
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Directory of the copy, a library of its own.")
    ],
    shard: ShardOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Copy a Lance table into a library, or what has changed in it, and build its search index."""
    from api.cli.index_info import build_due_indices
    from api.cli.open_library import encoder_of
    from retrieval.indices.maintenance import needs_rebuild
    from retrieval.lance.copies import open_copy
    from retrieval.lance.table import LanceTable

    opened = LanceTable.open(location_of(table))
    copied = open_copy(opened, directory, shard=parse_shard(shard))
    _update(copied, as_json=as_json)
    library, space = copied.library, copied.library.space(opened.space.id)
    if needs_rebuild(library, space):
        encoder = encoder_of(library, space, device)
        build_due_indices(library, encoder, device=device, is_quiet=as_json)


def _update(copy: "TableCopy", *, as_json: bool) -> None:
    from api.cli import console

    with stop_on_signal(note=STOPPING) as stop, console.stage_progress(quiet=as_json) as show:
        done = copy.update(
            on_progress=lambda rows, total: show("Rows", rows, total), should_stop=stop.is_set
        )
    if as_json:
        print_json(_facts(copy, done))
    else:
        _complain_of_damaged(done.damaged)
        console.out.print(
            f"{copy.library.path} is at version {done.version} of {copy.table.location}: "
            f"{done.rows:,} rows taken, {done.removed:,} items and files removed.",
            markup=False,
        )
    if stop.is_set():
        raise typer.Exit(130)


def _facts(copy: "TableCopy", done: "Copied") -> dict[str, object]:
    return {
        "library": str(copy.library.path),
        "table": copy.table.location,
        "space": copy.table.space.id,
        "version": done.version,
        "rows": done.rows,
        "removed": done.removed,
        "damaged": done.damaged,
    }


def _complain_of_damaged(count: int) -> None:
    if count:
        complain(f"{count:,} vectors are damaged and were left out.")
