"""`mmsearch export` and `mmsearch import`: vectors with their items, as files or Lance tables."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from api.cli.filter_options import WhereOption, parse_filter
from api.cli.options import (
    STOPPING,
    JsonOption,
    LibraryOption,
    complain,
    option,
    print_json,
    stop_on_signal,
)
from retrieval.errors import UsageError
from retrieval.library import default_library_path, library_exists, open_library

_NAMED = 10


class ModalityName(StrEnum):
    """A modality, as an option."""

    IMAGE = "image"
    TEXT = "text"


def export(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE",
            help="File to write: .npy, .parquet or .lance; or a table for the whole library, as "
            "for `--lance`.",
        ),
    ] = None,
    lance: Annotated[
        str | None,
        option(
            "--lance",
            "TABLE",
            "Bring a Lance table in step with the whole library: lance:DIR or "
            "lance+s3://BUCKET/PREFIX.",
        ),
    ] = None,
    space: Annotated[
        str | None,
        option(
            "--space", "ID", "Id or name of the space of the vectors. (default: the default one)"
        ),
    ] = None,
    modality: Annotated[
        ModalityName | None,
        typer.Option("--modality", help="Items of one modality only. (default: both)"),
    ] = None,
    where: WhereOption = None,
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export vectors to .npy, .parquet or .lance, or a whole library to a Lance table."""
    from api.cli.tables import export_table, is_table
    from retrieval.lance.location import is_lance, spelled

    if (lance is None) == (file is None):
        raise UsageError("Give a FILE, or a table with `--lance TABLE`.")
    if lance is not None or (file is not None and is_lance(file)):
        if modality or where:
            raise UsageError(
                "A table holds the whole library: `--modality` and `--where` are for files."
            )
        export_table(spelled(lance or file or ""), space, library, as_json=as_json)
        return
    path = Path(file or "")
    if path.suffix == ".lance" and is_table(path):
        raise UsageError(
            f"{path} is a whole library as a Lance table, which plain vectors would replace. "
            f"Bring it in step with `mmsearch export lance:{path}`, or choose another file."
        )
    from indexer.vectors.files import sidecar_of, write_vectors
    from indexer.vectors.spaces import find_space
    from indexer.vectors.stored import stored_vectors
    from retrieval.media import Modality

    opened = open_library(library)
    chosen = find_space(opened, space)
    batches = stored_vectors(
        opened,
        chosen,
        where=parse_filter(where=where),
        modality=Modality(modality) if modality else None,
    )
    count = write_vectors(path, batches, chosen.dimension)
    if as_json:
        facts = {"file": str(path.absolute()), "space": chosen.id, "dimension": chosen.dimension}
        print_json({"library": opened.location, **facts, "vectors": count})
        return
    from api.cli import console

    beside = f" and {sidecar_of(path).name}" if path.suffix == ".npy" else ""
    console.out.print(
        f"Exported {count:,} vectors of {chosen.dimension:,} dimensions to {path}{beside}.",
        markup=False,
    )


def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A .npy, .parquet or .lance file, a folder of clip-retrieval or autofaiss, or a "
            "library as a Lance table: lance:DIR or lance+s3://BUCKET/PREFIX.",
        ),
    ],
    space: Annotated[
        str | None,
        option(
            "--space",
            "NAME",
            "Name for a space of these vectors, or the encoder that made them, such as starter, or "
            "the id of a space; of a table, `new` adds its space. (default: the default space; in "
            "a new library, the file's name; of a table, its space)",
        ),
    ] = None,
    modality: Annotated[
        ModalityName | None,
        typer.Option("--modality", help="Modality of rows that do not say it. (default: image)"),
    ] = None,
    library: LibraryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Import vectors with ids, paths and metadata into a space of a library, or a Lance table."""
    from dataclasses import replace

    from api.cli import console
    from api.cli.tables import import_table, is_table
    from indexer.vectors.add import add_vectors
    from indexer.vectors.files import find_vectors, read_vectors
    from indexer.vectors.spaces import choose_space, space_of_new_library
    from retrieval.lance.location import is_lance, spelled
    from retrieval.library import create_library
    from retrieval.media import Modality

    path = library or default_library_path()
    if is_lance(source) or is_table(Path(source)):
        if modality:
            raise UsageError("A table says the modality of its rows: leave out `--modality`.")
        import_table(spelled(source), space, path, as_json=as_json)
        return
    file = Path(source)
    found = find_vectors(file)
    if modality:
        found = replace(found, modality=Modality(modality))
    if library_exists(path):
        opened = open_library(path, upgrade=True)
        chosen = choose_space(opened, space, found.dimension)
    else:
        chosen = space_of_new_library(space or file.stem, found.dimension)
        opened = create_library(path, chosen)
    with stop_on_signal(note=STOPPING) as stop, console.stage_progress(quiet=as_json) as show:
        added = add_vectors(
            opened,
            chosen,
            read_vectors(found),
            folder=file.absolute().parent,
            on_progress=lambda count: show("Vectors", count, count),
            should_stop=stop.is_set,
        )
    if as_json:
        skipped = [{"item": name, "reason": reason} for name, reason in added.skipped]
        facts = {"library": opened.location, "space": chosen.id, "dimension": chosen.dimension}
        counts = {"vectors": added.count, "skipped_count": added.skipped_count}
        print_json({**facts, **counts, "skipped": skipped})
    else:
        for name, reason in added.skipped[:_NAMED]:
            complain(f"{name}: left out, {reason}.")
        if added.skipped_count > _NAMED:
            complain(f"{added.skipped_count:,} vectors in all were left out.")
        console.out.print(
            f"Imported {added.count:,} vectors of {chosen.dimension:,} dimensions into the space "
            f"{chosen.id} of {opened.path}.",
            markup=False,
        )
    if stop.is_set():
        raise typer.Exit(130)
