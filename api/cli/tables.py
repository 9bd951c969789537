"""Whole libraries as Lance tables: export to one, import of one, and copies that follow one."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
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
from retrieval.lance.location import is_lance, spelled

if TYPE_CHECKING:
    from retrieval.lance.copies import Copied, TableCopy
    from retrieval.library import Library

ShardOption = Annotated[
    str | None,
    option(
        "--shard",
        "I/N",
        "Copy one of N shards, counted from 0, such as 0/4: items by the hash of their content. "
        "(default: all)",
    ),
]


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

    chosen = parse_shard(shard)
    opened = LanceTable.open(spelled(table))
    copied = open_copy(opened, directory, shard=chosen)
    _update(copied, as_json=as_json)
    library, space = copied.library, copied.library.space(opened.space.id)
    if needs_rebuild(library, space):
        encoder = encoder_of(library, space, device)
        build_due_indices(library, encoder, device=device, is_quiet=as_json)


def copied_library(
    libraries: list[str] | None,
    copy: Path | None,
    shard: str | None,
    poll: float | None,
    device: str,
) -> tuple[str | None, list[str] | None]:
    """Return the table that a service follows and its copy, which is made if there is none yet.

    Without `--copy` there is no table, and the libraries stay. Raises UsageError for options of a
    copy without a table.
    """
    if copy is None:
        if shard is not None or poll is not None:
            raise UsageError("`--shard` and `--poll` are of a copy: `--copy DIR`.")
        return None, libraries
    parse_shard(shard)
    if not libraries or len(libraries) != 1 or not is_lance(libraries[0]):
        raise UsageError(
            "`--copy DIR` is the copy of one Lance table: `--library lance+s3://BUCKET/PREFIX`."
        )
    _make_first_copy(libraries[0], copy, shard, device)
    return libraries[0], [str(copy)]


def _make_first_copy(location: str, directory: Path, shard: str | None, device: str) -> None:
    """Copy a table before it is served, if there is no copy yet, and build its index."""
    from api.cli import console
    from api.cli.index_info import build_due_indices
    from api.cli.open_library import encoder_of
    from retrieval.indices.maintenance import needs_rebuild
    from retrieval.lance.follower import first_copy
    from retrieval.library import open_library

    with stop_on_signal(note=STOPPING) as stop, console.stage_progress(quiet=False) as show:
        done = first_copy(
            location,
            directory,
            shard=parse_shard(shard),
            on_progress=lambda rows, total: show("Rows", rows, total),
            should_stop=stop.is_set,
        )
    if stop.is_set():
        raise typer.Exit(130)
    if done is None:
        return
    _complain_of_damaged(done.damaged)
    library = open_library(directory)
    if needs_rebuild(library, library.space()):
        encoder = encoder_of(library, library.space(), device)
        build_due_indices(library, encoder, device=device, is_quiet=False)
    library.close()


@contextmanager
def following(
    location: str | None,
    library: "Library | Path | None",
    shard: str | None,
    poll: float | None,
    device: str,
) -> Iterator[None]:
    """Let a copy follow its table while it is served; None: there is none."""
    if location is None or library is None or isinstance(library, Path):
        yield
        return
    import logging

    from api.cli.open_library import encoder_of
    from retrieval.lance.follower import POLL_S, TableFollower

    logger = logging.getLogger("mmsearch")
    is_behind = False

    def tell(reason: str | None) -> None:
        nonlocal is_behind
        if reason is None and is_behind:
            logger.info("The copy of %s is in step again.", location)
        elif reason is not None and not is_behind:
            logger.warning("%s", reason)
        is_behind = reason is not None
        # Not the reason, as clients need not know where the store is.
        behind = "The library may lack what is new: the table that it follows cannot be read now."
        library.set_warning("table", behind if is_behind else None)

    def log(done: "Copied") -> None:
        logger.info(
            "Version %d of %s: %d rows taken, %d removed.",
            done.version,
            location,
            done.rows,
            done.removed,
        )

    follower = TableFollower(
        location,
        library,
        shard=parse_shard(shard),
        poll_s=poll or POLL_S,
        encoder=lambda space: encoder_of(library, space, device),
        device=device,
        on_update=log,
        on_problem=tell,
        on_index_problem=lambda reason: logger.warning("%s", reason),
    )
    follower.start()
    try:
        yield
    finally:
        follower.stop()


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
